"""What closed generations have shown: all that a strategy sees, and all that decisions rest on.

Genomes are read from the ledger when they are first asked for, so that a long history opens fast.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from evodiff.engine.candidate import Candidate, Evaluation, Objective, Trial, combine_replicates, finite_values
from evodiff.engine.convergence import EvolutionMetrics
from evodiff.engine.fitness import FitnessBox
from evodiff.engine.knowledge import features_of
from evodiff.engine.ratings import JOINED, UNRATED, Ratings
from evodiff.engine.zero_cost import scores_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evodiff.engine.ledger import Ledger
    from evodiff.engine.space import SearchSpace

G = TypeVar("G")


@dataclass(frozen=True)
class GenerationResult:
    """What a closed generation decided.

    ``survivors`` and ``front`` are candidate ids, ``rung`` is the rung of the front, ``credit`` counts for each
    operator how many candidates it was ``tried`` on and how many of those are ``survivors`` and in the ``front``.
    ``surrogate`` says of each objective that was predicted for ``trials`` of the generation how the prediction and what
    came agree: Kendall's ``rank_correlation``, in [-1, 1]; None where nothing was predicted. ``fidelity`` says how each
    rung agrees with the next (:class:`evodiff.engine.fidelity.RungAgreement`); None in a run of one rung. ``inputs``
    names what was joined from outside (:mod:`evodiff.engine.ratings`) by its SHA-256; None where nothing was.
    """

    generation: int
    survivors: tuple[str, ...]
    front: tuple[str, ...]
    rung: int
    box: FitnessBox | None
    hypervolume: float
    metrics: EvolutionMetrics
    credit: Mapping[str, Mapping[str, int]]
    environment_failures: tuple[str, ...]
    surrogate: Mapping[str, Mapping[str, float]] | None = None
    fidelity: Mapping[str, Mapping[str, Any]] | None = None
    inputs: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        data = asdict(self)
        absent = [name for name in ("surrogate", "fidelity", "inputs") if data[name] is None]
        return {name: data[name] for name in data if name not in absent}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GenerationResult:
        """Read what :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: the data are not those of a result.
        """
        sequences = {name: _ids(data[name]) for name in ("survivors", "front", "environment_failures")}
        box = data["box"] and FitnessBox(**{name: finite_values(data["box"][name], name) for name in data["box"]})
        if box is not None and box.ideal.keys() != box.reference.keys():
            raise ValueError("a box without one of its corners")
        finite_values({name: data[name] for name in ("generation", "rung", "hypervolume")}, "result")
        for operator, counts in data["credit"].items():
            finite_values(counts, operator)
        finite_values(data["metrics"], "metrics")
        for objective, agreement in (data.get("surrogate") or {}).items():
            finite_values(agreement, objective)
        for rung, agreement in (data.get("fidelity") or {}).items():
            finite_values({name: agreement[name] for name in ("pairs", "share")}, f"rung {rung}")
            finite_values(agreement["rank_correlation"], f"rung {rung}")
        _digests(data.get("inputs") or {})
        return cls(**{**data, **sequences, "box": box, "metrics": EvolutionMetrics(**data["metrics"])})


def _ids(names: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected ids, found {names!r}")
    return tuple(names)


def _digests(inputs: Mapping[str, str]) -> None:
    unknown = [name for name, digest in inputs.items() if name not in JOINED or not isinstance(digest, str)]
    if unknown:
        raise ValueError(f"expected digests of {', '.join(JOINED)}, found {unknown[0]!r}")


@dataclass(frozen=True)
class _Asked:
    """A trial of a closed generation, without its genome."""

    id: str
    generation: int
    rung: int
    parents: tuple[str, ...]
    operator: str | None
    predicted: Mapping[str, float] | None


@dataclass(frozen=True)
class Prediction:
    """What was ``predicted`` of a trial on a rung, by objective, and what was ``found``."""

    rung: int
    predicted: Mapping[str, float]
    found: Mapping[str, float]


class History(Generic[G]):
    """The closed generations of a run, in order."""

    def __init__(self, space: SearchSpace[G], objectives: Sequence[Objective], ledger: Ledger) -> None:
        self.space = space
        self.objectives = tuple(objectives)
        self.results: list[GenerationResult] = []
        self.ratings: Ratings = UNRATED
        self._ledger = ledger
        self._trials: dict[str, list[_Asked]] = {}
        self._candidates: dict[str, str] = {}
        self._order: list[list[str]] = []
        self._evaluations: list[dict[str, Evaluation]] = []
        self._genomes: dict[str, G] = {}
        self._features: dict[str, NDArray[np.float64]] = {}
        self._scores: dict[str, Mapping[str, float]] = {}
        self._plan_read: tuple[int, dict[str, Any]] = (-1, {})

    @property
    def generations(self) -> int:
        """Number of closed generations."""
        return len(self.results)

    @property
    def survivors(self) -> tuple[str, ...]:
        """Ids of the survivors, in the strategy's order (best first for the elitist ones)."""
        return self.results[-1].survivors if self.results else ()

    @property
    def front(self) -> tuple[str, ...]:
        """Ids of the non-dominated candidates of the highest rung."""
        return self.results[-1].front if self.results else ()

    @property
    def box(self) -> FitnessBox | None:
        """The fitness box, once frozen."""
        return self.results[-1].box if self.results else None

    @property
    def ids(self) -> list[str]:
        """Ids of all candidates, in the order in which they were first asked."""
        return list(self._trials)

    def asked(self, candidate: str) -> bool:
        """Whether a candidate is known."""
        return candidate in self._trials

    def told(self, trial: str) -> bool:
        """Whether a trial belongs to a closed generation."""
        return trial in self._candidates

    def candidates_of(self, generation: int) -> list[str]:
        """Return the ids of the candidates tried in a closed generation, in plan order."""
        return self._order[generation]

    def absorb(self, generation: int, records: Sequence[Mapping[str, Any]], evaluations: dict[str, Evaluation]) -> None:
        """Take in the trials of the generation that closes now, with what each of them brought back.

        Doing so again, after an error that came before :meth:`conclude`, changes nothing.
        """
        if len(self._order) > generation:
            return
        for record in records:
            asked = _Asked(
                id=record["id"],
                generation=generation,
                rung=record["rung"],
                parents=tuple(record["parents"]),
                operator=record["operator"],
                predicted=record.get("predicted"),
            )
            self._trials.setdefault(record["candidate"], []).append(asked)
            self._candidates[record["id"]] = record["candidate"]
        self._order.append(list(dict.fromkeys(record["candidate"] for record in records)))
        self._evaluations.append(evaluations)

    def conclude(self, result: GenerationResult, ratings: Ratings = UNRATED) -> None:
        """Take in what the generation absorbed last decided, and the ratings that it joined."""
        self.results.append(result)
        self.ratings = ratings

    def fitness(self, candidate: str, evaluation: Evaluation | None) -> float | None:
        """Return the fitness score of a candidate by ``evaluation`` and the ratings of the last closed generation."""
        return None if self.box is None else self.ratings.fitness(candidate, self.box.score(evaluation))

    def draw_weights(self, candidates: Sequence[str]) -> NDArray[np.float64] | None:
        """Return how likely candidates are to be drawn as parents, relative to each other; None is all alike."""
        return self.ratings.draw_weights(candidates)

    def keep_genome(self, candidate: str, genome: G) -> None:
        """Remember the genome of a candidate, so that it need not be read again."""
        self._genomes.setdefault(candidate, genome)

    def genome(self, candidate: str) -> G:
        """Return *the* genome of a candidate: the first one seen with its id."""
        if candidate not in self._genomes:
            generation = self._trials[candidate][0].generation
            if self._plan_read[0] != generation:
                plan = self._ledger.plan(generation)
                self._plan_read = generation, {record["candidate"]: record["genome"] for record in reversed(plan)}
            self._genomes[candidate] = self.space.from_json(self._plan_read[1][candidate])
        return self._genomes[candidate]

    def evaluation(self, trial: str) -> Evaluation:
        """Return what a trial of a closed generation brought back."""
        return self._evaluations[self._find(trial).generation][trial]

    def trial(self, trial: str) -> Trial[G]:
        """Return a trial of a closed generation."""
        asked = self._find(trial)
        record = next(item for item in self._ledger.plan(asked.generation) if item["id"] == trial)
        return Trial.from_json(record, self.genome(record["candidate"]))

    def rung(self, candidate: str) -> int:
        """Return the highest rung on which a candidate was tried."""
        return max(item.rung for item in self._trials[candidate])

    def standing(self, candidate: str) -> Evaluation:
        """Return what is known of a candidate: the mean of its replicates on the highest rung it was tried on."""
        return self.standing_on(candidate, self.rung(candidate))

    def standing_on(self, candidate: str, rung: int) -> Evaluation:
        """Return the mean of a candidate's replicates on a rung that it was tried on."""
        return combine_replicates(self.trials_on(candidate, rung))

    def trials_on(self, candidate: str, rung: int) -> list[Evaluation]:
        """Return what each trial of a candidate on a rung brought back, replicates in the order asked."""
        trials = [item for item in self._trials[candidate] if item.rung == rung]
        return [self._evaluations[item.generation][item.id] for item in trials]

    def predictions(self, generation: int) -> list[Prediction]:
        """Return the trials of a closed generation of which something was predicted, but those that failed."""
        trials = (item for name in self.candidates_of(generation) for item in self._trials[name])
        asked = [item for item in trials if item.generation == generation and item.predicted]
        told = [(item, self._evaluations[generation][item.id]) for item in asked]
        return [
            Prediction(item.rung, item.predicted or {}, evaluation.objectives)
            for item, evaluation in told
            if evaluation.failure is None
        ]

    def first_trial(self, candidate: str) -> str:
        """Return the trial by which a candidate was first tried."""
        return self._trials[candidate][0].id

    def rungs(self, candidate: str) -> list[int]:
        """Return the rungs on which a candidate was tried, lowest first."""
        return sorted({item.rung for item in self._trials[candidate]})

    def on_rung(self, rung: int) -> list[str]:
        """Return the candidates that were tried on a rung, in the order in which they were first asked."""
        return [candidate for candidate, trials in self._trials.items() if any(item.rung == rung for item in trials)]

    def values(self, candidates: Sequence[str]) -> np.ndarray:
        """Return an (n, m) float64 array of the objectives of candidates, minimised; NaN where a trial failed."""
        return minimised([self.standing(candidate) for candidate in candidates], self.objectives)

    def violations(self, candidates: Sequence[str]) -> np.ndarray:
        """Return an (n,) float64 array: 0 for feasible candidates, infinite for failed ones."""
        return np.array([self.standing(candidate).violation for candidate in candidates], dtype=np.float64)

    def features(self, candidates: Sequence[str]) -> NDArray[np.float64]:
        """Return an (n, d) array of the features of candidates, computed once for each."""
        unknown = [candidate for candidate in candidates if candidate not in self._features]
        if unknown:
            length = next((len(row) for row in self._features.values()), None)
            rows = features_of(self.space, [self.genome(candidate) for candidate in unknown], length)
            self._features.update(zip(unknown, rows, strict=True))
        return np.array([self._features[candidate] for candidate in candidates])

    def scores(self, candidates: Sequence[str]) -> list[Mapping[str, float]]:
        """Return the zero-cost scores of candidates, computed once for each of a space that has some."""
        unknown = [candidate for candidate in candidates if candidate not in self._scores]
        found = scores_of(self.space, [self.genome(candidate) for candidate in unknown])
        self._scores.update(zip(unknown, found, strict=True))
        return [self._scores[candidate] for candidate in candidates]

    def candidate(self, candidate: str) -> Candidate[G]:
        """Return a candidate with all that is known of it."""
        first = self._trials[candidate][0]
        evaluation = self.standing(candidate)
        return Candidate(
            id=candidate,
            genome=self.genome(candidate),
            generation=first.generation,
            parents=first.parents,
            operator=first.operator,
            evaluation=evaluation,
            fitness_score=self.fitness(candidate, evaluation),
        )

    def heritable(self, candidate: str) -> str | None:
        """Return the trial whose weights of a candidate are sure to be kept, None where none are.

        It is the first on the candidate's highest rung that told weights. They are kept as long as the candidate is in
        the front or among the survivors of every generation closed since: others may have been pruned, whether or not
        they still lie on a disk.
        """
        trials = self._trials.get(candidate, [])
        judged = [item for item in trials if self._evaluations[item.generation][item.id].weights is not None]
        best = max(judged, key=lambda item: item.rung, default=None)
        if best is None:
            return None
        since = self.results[best.generation :]
        return best.id if all(candidate in (*item.front, *item.survivors) for item in since) else None

    def _find(self, trial: str) -> _Asked:
        return next(item for item in self._trials[self._candidates[trial]] if item.id == trial)


def minimised(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> np.ndarray:
    """Return an (n, m) float64 array of objectives, those to maximise negated; NaN where there is no value."""
    rows = [
        [(-1.0 if item.maximise else 1.0) * evaluation.objectives.get(item.name, math.nan) for item in objectives]
        if evaluation.failure is None
        else [math.nan] * len(objectives)
        for evaluation in evaluations
    ]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(objectives))
