"""What tracking shows of closed generations, as plain data read from the ledger: one record a run of MLflow."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evodiff.architecture.cost import flops, parameter_count, training_flops
from evodiff.architecture.genome import GLOBALS, ArchitectureGenome
from evodiff.architecture.graph import resolve
from evodiff.engine.candidate import combine_replicates
from evodiff.engine.fitness import FitnessBox
from evodiff.engine.fitness_course import with_fitness_shown
from evodiff.engine.layout import result_name
from evodiff.engine.ratings import Ratings, joined_ratings
from evodiff.errors import LedgerError
from evodiff.tracking.innovations import Innovation, innovations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from evodiff.engine import Evaluation
    from evodiff.pipeline.run import Run

LONGEST_TAG = 7900
RESULT = "evodiff.result"  # tag of a generation: digest of its result


@dataclass(frozen=True)
class Record:
    """One run of MLflow.

    ``key`` is unique in the experiment: by it the run is found again. ``metrics`` have one value each, ``curves`` one a
    step. ``span`` is when the work began and ended, in seconds of the epoch, where telemetry knows.
    """

    key: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    failed: bool = False
    span: tuple[float, float] | None = None


def generation_key(generation: int) -> str:
    """Return the key of a generation's record."""
    return f"g{generation:04d}"


def candidate_key(generation: int, candidate: str) -> str:
    """Return the key of a candidate's record in a generation that tried it."""
    return f"{generation_key(generation)}/{candidate}"


def experiment_tags(run: Run, digest: str) -> dict[str, str]:
    """Return the tags of the experiment: what the run froze, and the ``digest`` of ``experiment.json``."""
    frozen = {name: value for name, value in run.experiment.items() if name not in ("settings", "space")}
    frozen |= {name: run.settings[name] for name in ("training", "evaluation", "target", "image_shape", "digests")}
    dataset, strategy = run.settings["dataset"]["name"], run.experiment["strategy"]["name"]
    return {
        "evodiff.experiment": digest,
        "evodiff.settings": json.dumps({**frozen, "dataset": dataset}, sort_keys=True),
        "mlflow.note.content": f"Architectures for {dataset} on {run.settings['target']}, searched by {strategy}: "
        "a run for each generation, and in it one for each candidate.",
    }


class RunRecords:
    """The records of a run's closed generations; files of the ledger are read once."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._evaluations: dict[int, dict[str, Evaluation]] = {}
        self._joined: dict[int, Ratings] = {}
        self._results: dict[int, dict[str, Any]] = {}

    def generation(self, generation: int) -> Record:
        """Return the record of a closed generation."""
        run, result = self.run, self.result(generation)
        shown = with_fitness_shown(run.ledger, result)
        rows = self._plans[generation]
        spans = [self._spans[row["id"]] for row in rows if row["id"] in self._spans]
        new = self._innovations[generation]
        return Record(
            key=generation_key(generation),
            name=f"generation {generation}",
            tags={
                "evodiff.kind": "generation",
                "evodiff.key": generation_key(generation),
                "evodiff.generation": str(generation),
                "evodiff.front": _list(result["front"]),
                "evodiff.survivors": _list(result["survivors"]),
                "evodiff.innovations": _list(item.name for item in new),
                RESULT: self.result_digest(generation),
            },
            params={
                "strategy": run.experiment["strategy"]["name"],
                "seed": str(run.experiment["seed"]),
                "population": str(run.experiment["population_size"]),
                "dataset": run.settings["dataset"]["name"],
                "target": run.settings["target"],
                **{f"training.{name}": str(value) for name, value in run.settings["training"].items()},
                **{f"evaluation.{name}": str(value) for name, value in run.settings["evaluation"].items()},
            },
            metrics={
                "hypervolume": result["hypervolume"],
                **{name: value for name, value in shown["metrics"].items() if name != "generation"},
                "front_size": len(result["front"]),
                "trials": len(rows),
                "failed_trials": sum(item.failure is not None for item in self.evaluations(generation).values()),
                "innovations": len(new),
                "training_flops": math.fsum(self._training_flops(row) for row in rows),
                **{
                    f"surrogate_rank_correlation.{name}": item["rank_correlation"]
                    for name, item in (result.get("surrogate") or {}).items()
                },
                **{
                    f"rung_{rung}_rank_correlation.{name}": tau
                    for rung, item in (result.get("fidelity") or {}).items()
                    for name, tau in item["rank_correlation"].items()
                },
            },
            span=_hull(spans),
        )

    def candidates(self, generation: int) -> list[Record]:
        """Return the records of the candidates that a closed generation tried, in the order of its plan."""
        trials: dict[str, list[Mapping[str, Any]]] = {}
        for row in self._plans[generation]:
            trials.setdefault(row["candidate"], []).append(row)
        return [self._candidate(position, rows) for position, rows in enumerate(trials.values())]

    def new_members(self, generation: int) -> list[str]:
        """Return the members of a closed generation's front that the front before had not, largest fitness first."""
        before = set(self.result(generation - 1)["front"]) if generation else set()
        new = [candidate for candidate in self.result(generation)["front"] if candidate not in before]
        return sorted(new, key=lambda candidate: (-self.fitness_score(generation, candidate), candidate))

    def innovations(self, generation: int) -> tuple[Innovation, ...]:
        """Return what appeared on the front of a closed generation for the first time."""
        return self._innovations[generation]

    def first_trial(self, candidate: str) -> Mapping[str, Any]:
        """Return the first row of the plans that tried a candidate: its genome, generation, parents and operator."""
        return self._trials[candidate][0]

    def trial(self, generation: int, candidate: str) -> Mapping[str, Any]:
        """Return the row of a candidate's highest rung in the plan of a generation that tried it."""
        rows = [row for row in self._plans[generation] if row["candidate"] == candidate]
        return max(rows, key=lambda row: row["rung"])

    def standing(self, generation: int, candidate: str) -> Evaluation:
        """Return what was known of a candidate of the front when ``generation`` closed."""
        rows = [row for row in self._trials[candidate] if row["generation"] <= generation]
        rung = max(row["rung"] for row in rows)
        found = [self.evaluations(row["generation"])[row["id"]] for row in rows if row["rung"] == rung]
        return combine_replicates(found)

    def fitness_score(self, generation: int, candidate: str) -> float:
        """Return the fitness of a candidate in the box as it was when ``generation`` closed."""
        box = self.result(generation)["box"]
        score = FitnessBox(**box).score(self.standing(generation, candidate)) if box else None
        return self._ratings(generation).fitness(candidate, score) or 0.0

    def _ratings(self, generation: int) -> Ratings:
        if generation not in self._joined:
            self._joined[generation] = joined_ratings(self.run.ledger, generation)
        return self._joined[generation]

    def result(self, generation: int) -> dict[str, Any]:
        """Return ``result.json`` of a generation.

        Raises:
            LedgerError: it is not closed.
        """
        if generation not in self._results:
            result = self.run.ledger.result(generation)
            if result is None:
                raise LedgerError(
                    f"Generation {generation} of {self.run.name} is not closed: expected its result.json.",
                    remedy=f"Finish it first: evodiff evolve --resume {self.run.path}",
                )
            self._results[generation] = result
        return self._results[generation]

    def result_digest(self, generation: int) -> str:
        """Return the SHA-256 of ``result.json`` of a closed generation."""
        return hashlib.sha256(self.run.ledger.read(result_name(generation)) or b"").hexdigest()

    def evaluations(self, generation: int) -> dict[str, Evaluation]:
        """Return what the trials of a closed generation brought back, by trial id."""
        if generation not in self._evaluations:
            self._evaluations[generation] = self.run.ledger.evaluations(generation)
        return self._evaluations[generation]

    def _candidate(self, position: int, trials: Sequence[Mapping[str, Any]]) -> Record:
        row = trials[0]
        candidate, generation = row["candidate"], row["generation"]
        rung = max(trial["rung"] for trial in trials)
        evaluations = self.evaluations(generation)
        evaluation = combine_replicates([evaluations[trial["id"]] for trial in trials if trial["rung"] == rung])
        result = self.result(generation)
        genome = ArchitectureGenome.from_json(row["genome"])
        resolved = resolve(genome, self.run.shape)
        counts = Counter(gene.component.value for gene in genome.layers)
        span = _hull([self._spans[trial["id"]] for trial in trials if trial["id"] in self._spans])
        return Record(
            key=candidate_key(generation, candidate),
            name=candidate,
            tags={
                "evodiff.kind": "candidate",
                "evodiff.key": candidate_key(generation, candidate),
                "evodiff.generation": str(generation),
                "evodiff.position": str(position),
                "evodiff.candidate": candidate,
                "evodiff.parents": _list(row["parents"]),
                "evodiff.operator": row["operator"] or "",
                "evodiff.rung": str(rung),
                "evodiff.weights": evaluation.weights or "",
                "evodiff.on_front": str(candidate in result["front"]).lower(),
                "evodiff.survivor": str(candidate in result["survivors"]).lower(),
                "evodiff.innovations": _list(
                    item.name for item in self._innovations[generation] if candidate in item.candidates
                ),
                **_failure_tags(evaluation),
            },
            params={
                **{name: str(getattr(genome.parameters, name)) for name in GLOBALS},
                "layers": str(len(genome.layers)),
                **{f"layers.{component}": str(count) for component, count in sorted(counts.items())},
                "connections": str(len(genome.connections)),
                "operator": row["operator"] or "",
                "seed": str(row["seed"]),
            },
            metrics={
                **_numbers(evaluation),
                "fitness_score": self.fitness_score(generation, candidate),
                "parameters": parameter_count(resolved),
                "flops": flops(resolved),
                "training_flops": math.fsum(self._training_flops(trial) for trial in trials),
                **({"seconds": span[1] - span[0]} if span else {}),
            },
            curves={"loss": _by_step(evaluation.details.get("loss_curve") or [], self.run.steps(rung))},
            failed=evaluation.failure is not None,
            span=span,
        )

    def _training_flops(self, row: Mapping[str, Any]) -> float:
        resolved = resolve(ArchitectureGenome.from_json(row["genome"]), self.run.shape)
        return training_flops(resolved, self.run.training.batch_size) * self.run.added_steps(row)

    @cached_property
    def _plans(self) -> list[list[dict[str, Any]]]:
        return [self.run.ledger.plan(generation) for generation in range(self.run.ledger.closed)]

    @cached_property
    def _trials(self) -> dict[str, list[Mapping[str, Any]]]:
        """The rows of the plans by candidate, oldest first."""
        trials: dict[str, list[Mapping[str, Any]]] = {}
        for row in (row for plan in self._plans for row in plan):
            trials.setdefault(row["candidate"], []).append(row)
        return trials

    @cached_property
    def _innovations(self) -> list[tuple[Innovation, ...]]:
        fronts = [self.result(generation)["front"] for generation in range(len(self._plans))]
        return innovations(self._plans, fronts)

    @cached_property
    def _spans(self) -> dict[str, tuple[float, float]]:
        """Beginning and end of the trials that telemetry tells of."""
        spans: dict[str, list[tuple[float, float]]] = {}
        for line in (self.run.ledger.read("telemetry/events.jsonl") or b"").splitlines():
            try:
                event = json.loads(line)
                if event["event"] == "trial":
                    spans.setdefault(event["trial"], []).append((event["time"] - event["seconds"], event["time"]))
            except (ValueError, KeyError, TypeError):
                continue  # a crash may have cut a line of telemetry
        return {trial: span for trial, found in spans.items() if (span := _hull(found))}


def _hull(spans: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    return (min(begin for begin, _ in spans), max(end for _, end in spans)) if spans else None


def _failure_tags(evaluation: Evaluation) -> dict[str, str]:
    failure = evaluation.failure
    return {"evodiff.failure": f"{failure.cause}: {failure.detail}"[:LONGEST_TAG]} if failure else {}


def _numbers(evaluation: Evaluation) -> dict[str, float]:
    """Objectives, violations and whatever other number a trial brought back."""
    if evaluation.failure:
        return {}
    details = {name: value for name, value in evaluation.details.items() if type(value) in (int, float)}
    violations = {f"violation.{name}": value for name, value in evaluation.violations.items()}
    return {**details, **evaluation.objectives, **violations}


def _by_step(points: Sequence[float], steps: int) -> dict[int, float]:
    return {round((i + 1) * steps / len(points)): value for i, value in enumerate(points)}


def _list(items: Iterable[str]) -> str:
    return ", ".join(items)[:LONGEST_TAG]
