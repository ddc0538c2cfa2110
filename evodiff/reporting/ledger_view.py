"""What the ledger alone can tell about a run, as a :class:`RunView`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evodiff.architecture.cost import flops, parameter_count, training_flops
from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.architecture.graph import ResolvedGenome, resolve
from evodiff.engine.candidate import Evaluation, combine_replicates, stated_errors
from evodiff.engine.fidelity import added_steps, rung_steps
from evodiff.engine.fitness import FitnessBox
from evodiff.engine.fitness_course import fitness_course
from evodiff.engine.ledger import Ledger
from evodiff.engine.ratings import Ratings, joined_ratings
from evodiff.errors import InvalidGenome
from evodiff.reporting.highest_rung import bought, expenses
from evodiff.reporting.hypervolume import hypervolume
from evodiff.reporting.notation import unit_of
from evodiff.reporting.view import (
    CandidateView,
    Floor,
    GenerationView,
    ObjectiveView,
    RandomArm,
    RungView,
    RunView,
    TrialView,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class _Tried:
    """A candidate of the ledger: its trials, and what those on its highest rung amount to.

    ``records`` are their rows in the plans, ``places`` where they stand among all trials that were told, and ``failed``
    says which of them brought nothing.
    """

    records: list[Mapping[str, Any]]
    places: list[int]
    failed: list[bool]
    rung: int
    evaluation: Evaluation


def view_from_ledger(path: Path | str) -> RunView:
    """Read a run: candidates, generations, front, floors, settings, digests; the champion is the fittest of the front.

    Open generations count with what was told so far. Where the settings hold an ``image_shape``, genomes get their
    parameters and FLOPs.

    Raises:
        LedgerError: the folder is no run, of another format, or damaged.
    """
    ledger = Ledger(Path(path))
    experiment = ledger.experiment
    settings = experiment.get("settings", {})
    objectives = tuple(
        ObjectiveView(item["name"], item.get("maximise", False), unit_of(item["name"]))
        for item in experiment["objectives"]
    )
    results = _results(ledger)
    box, ratings = _box(results), joined_ratings(ledger, ledger.closed - 1)
    tried = _tried(ledger)
    candidates = tuple(
        _candidate(identifier, item, objectives, experiment, results, box, ratings)
        for identifier, item in tried.items()
    )
    view = RunView(
        name=Path(path).resolve().name,
        objectives=objectives,
        candidates=candidates,
        generations=_generations(ledger, results),
        rungs=_rungs(experiment, tried, results),
        shape=_shape(settings),
        settings=_settings(experiment),
        digests={**settings.get("digests", {})},
        versions={"evodiff": str(experiment.get("evodiff", "unknown")), **_text(settings.get("platform", {}))},
        floors=_floors(settings),
        warnings=_warnings(ledger, results),
        commands=_commands(path),
    )
    champion = next((item for item in view.front if item.feasible), None)
    return replace(view, champion=champion.id if champion else None)


def random_arm_from_ledger(path: Path | str, *, beside: Path | str) -> RandomArm:
    """Read the run at ``path`` as the random arm of the run ``beside``: fitness and hypervolume in the latter's box."""
    arm = view_from_ledger(path)
    other = Ledger(Path(beside))
    box = _box(_results(other))
    candidates = tuple(
        replace(item, fitness_score=box.score(Evaluation(item.objectives, item.violations)) if box else None)
        if item.failure is None
        else item
        for item in arm.candidates
    )
    spent = expenses(candidates)
    return RandomArm(
        candidates,
        tuple(
            replace(
                point,
                hypervolume=hypervolume(bought([item for item in spent if item.generation <= point.generation]), box),
            )
            for point in arm.generations
        ),
    )


def _results(ledger: Ledger) -> list[dict[str, Any]]:
    return [result for index in range(ledger.closed) if (result := ledger.result(index)) is not None]


def _box(results: list[dict[str, Any]]) -> FitnessBox | None:
    frozen = results[-1].get("box") if results else None
    return FitnessBox(**frozen) if frozen else None


def _tried(ledger: Ledger) -> dict[str, _Tried]:
    """Return every candidate that was told, in the order in which they were asked."""
    trials: dict[str, list[tuple[int, Mapping[str, Any], Evaluation]]] = {}
    place = 0
    for generation in range(ledger.generations):
        evaluations = ledger.evaluations(generation)
        for record in ledger.plan(generation):
            if record["id"] in evaluations:
                told = (place, record, evaluations[record["id"]])
                trials.setdefault(record["candidate"], []).append(told)
                place += 1
    found = {}
    for identifier, tried in trials.items():
        rung = max(record["rung"] for _, record, _ in tried)
        standing = [evaluation for _, record, evaluation in tried if record["rung"] == rung]
        found[identifier] = _Tried(
            records=[record for _, record, _ in tried],
            places=[place for place, _, _ in tried],
            failed=[evaluation.failure is not None for _, _, evaluation in tried],
            rung=rung,
            evaluation=combine_replicates(standing),
        )
    return found


def _candidate(
    identifier: str,
    tried: _Tried,
    objectives: tuple[ObjectiveView, ...],
    experiment: Mapping[str, Any],
    results: list[dict[str, Any]],
    box: FitnessBox | None,
    ratings: Ratings,
) -> CandidateView:
    record, evaluation = tried.records[0], tried.evaluation
    failure = evaluation.failure
    settings = experiment.get("settings", {})
    resolved = _resolved(record["genome"], settings)
    training = settings.get("training", {})
    full, batch = training.get("steps"), training.get("batch_size")
    rungs, inherit = experiment["rungs"], bool(experiment.get("inherit"))
    steps = [added_steps(full, row, rungs, inherit=inherit) if full else 0 for row in tried.records]
    step_flops = training_flops(resolved, batch) if resolved and full and batch else None
    return CandidateView(
        id=identifier,
        generation=record["generation"],
        rung=tried.rung,
        operator=record["operator"],
        parents=tuple(record["parents"]),
        objectives={} if failure else dict(evaluation.objectives),
        standard_errors=stated_errors(evaluation, [objective.name for objective in objectives]),
        violations=dict(evaluation.violations),
        fitness_score=ratings.fitness(identifier, box.score(evaluation)) if box and not failure else None,
        on_front=bool(results) and identifier in results[-1]["front"] and evaluation.feasible,
        survivor_generations=tuple(item["generation"] for item in results if identifier in item["survivors"]),
        failure=f"{failure.cause}: {failure.detail}".removesuffix(": ") if failure else None,
        parameters=parameter_count(resolved) if resolved else None,
        flops=flops(resolved) if resolved else None,
        training_flops=None if step_flops is None else step_flops * sum(steps),
        genome=record["genome"],
        trials=tuple(
            TrialView(place, row["generation"], row["rung"], failed, None if step_flops is None else step_flops * added)
            for place, row, failed, added in zip(tried.places, tried.records, tried.failed, steps, strict=True)
        ),
    )


def _shape(settings: Mapping[str, Any]) -> tuple[int, int, int] | None:
    shape = settings.get("image_shape")
    return (shape["channels"], shape["size"], shape.get("classes", 0)) if shape else None


def _resolved(genome: Mapping[str, Any], settings: Mapping[str, Any]) -> ResolvedGenome | None:
    shape = _shape(settings)
    if shape is None:
        return None
    try:
        return resolve(ArchitectureGenome.from_json(genome), ImageShape(*shape))
    except InvalidGenome:
        return None  # a genome of another space: everything else about it can still be shown


def _generations(ledger: Ledger, results: list[dict[str, Any]]) -> tuple[GenerationView, ...]:
    points = []
    evaluations = 0
    for result, fitness in zip(results, fitness_course(ledger), strict=True):
        evaluations += len(ledger.plan(result["generation"]))
        agreement = {name: item["rank_correlation"] for name, item in (result.get("surrogate") or {}).items()}
        points.append(
            GenerationView(
                evaluations=evaluations,
                hypervolume=result["hypervolume"],
                rank_correlations=agreement,
                **{**result["metrics"], "best_fitness": fitness.best, "average_fitness": fitness.average},
            )
        )
    return tuple(points)


def _rungs(
    experiment: Mapping[str, Any], tried: Mapping[str, _Tried], results: list[dict[str, Any]]
) -> tuple[RungView, ...]:
    count = experiment["rungs"]
    if count == 1:
        return ()
    full = experiment.get("settings", {}).get("training", {}).get("steps")
    found = (results[-1].get("fidelity") or {}) if results else {}
    reached = [{record["rung"] for record in item.records} for item in tried.values()]
    views = []
    for rung in range(count):
        agreement = found.get(str(rung), {})
        views.append(
            RungView(
                rung=rung,
                steps=rung_steps(full, rung, count) if full else None,
                tried=sum(rung in rungs for rungs in reached),
                promoted=sum({rung, rung + 1} <= rungs for rungs in reached),
                pairs=agreement.get("pairs", 0),
                rank_correlations=agreement.get("rank_correlation", {}),
                share=agreement.get("share"),
            )
        )
    return tuple(views)


def _settings(experiment: Mapping[str, Any]) -> dict[str, Any]:
    hidden = {"digests", "noise_floors", "platform"}
    frozen = {name: value for name, value in experiment.get("settings", {}).items() if name not in hidden}
    return {**{name: value for name, value in experiment.items() if name not in {"settings", "evodiff"}}, **frozen}


def _text(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def _floors(settings: Mapping[str, Any]) -> dict[str, Floor]:
    return {
        name: Floor(
            float(floor["value"]),
            str(floor.get("explanation", "What real training images score against the validation images.")),
        )
        for name, floor in settings.get("noise_floors", {}).items()
    }


def _warnings(ledger: Ledger, results: list[dict[str, Any]]) -> tuple[str, ...]:
    lost = [trial for result in results for trial in result["environment_failures"]]
    found = []
    if lost:
        found.append(
            f"Not exactly reproducible: {len(lost)} trial{'s were' if len(lost) > 1 else ' was'} given up because of "
            f"the environment (crash, out of memory, time-out): {', '.join(lost)}."
        )
    if ledger.generations > ledger.closed:
        found.append(f"Generation {ledger.closed} is still open: it counts with what was told so far.")
    return tuple(found)


def _commands(path: Path | str) -> tuple[tuple[str, str], ...]:
    return (
        ("Go on with this run", f"evodiff evolve --resume {path} --generations N"),
        ("Judge it on test images with the second feature net", f"evodiff validate {path}"),
        ("Save the champion as a diffusers pipeline", f"evodiff export {path} CANDIDATE --out DIR"),
        ("Generate images from it", "evodiff sample DIR --count 64 --seed 0 --out grid.png"),
        ("All trials as a table", f"evodiff trials {path} --csv"),
    )
