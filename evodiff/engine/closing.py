"""What a generation decides once every trial has a value or a final failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from evodiff.engine.convergence import front_hypervolume, summarise
from evodiff.engine.diversity import diversity_score
from evodiff.engine.fidelity import agreements
from evodiff.engine.fitness import FitnessBox, freeze_box
from evodiff.engine.history import GenerationResult, minimised
from evodiff.engine.ratings import Joined
from evodiff.engine.selection import nondominated
from evodiff.engine.surrogate import rank_correlation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.engine.baselines import Strategy
    from evodiff.engine.candidate import Evaluation
    from evodiff.engine.history import History

G = TypeVar("G")

SPANNING = 4  # candidates on the full rung, that a box takes

NOTHING_JOINED: Final = Joined()


def judge(
    history: History[G],
    strategy: Strategy,
    records: Sequence[Mapping[str, Any]],
    evaluations: Mapping[str, Evaluation],
    *,
    size: int,
    rungs: int = 1,
    joined: Joined = NOTHING_JOINED,
) -> GenerationResult:
    """Return the result of the generation that ``history`` absorbed last: ``records`` are its trials, as planned.

    ``joined`` is what it took from outside; ratings enter the fitness, and nothing else of the result.
    """
    generation = history.generations
    survivors = tuple(strategy.survivors(history, size))
    rung, front = highest_front(history)
    box = history.box or _first_box(history, rungs)
    hypervolume = front_hypervolume([history.standing(candidate).objectives for candidate in front], box)
    scores = [
        joined.ratings.fitness(candidate, box.score(history.standing(candidate)) if box else None) or 0.0
        for candidate in survivors
    ]
    genomes = [history.genome(candidate) for candidate in survivors]
    return GenerationResult(
        generation=generation,
        survivors=survivors,
        front=front,
        rung=rung,
        box=box,
        hypervolume=hypervolume,
        metrics=summarise(
            generation,
            scores,
            diversity_score(genomes, history.space.distance),
            [*(result.hypervolume for result in history.results), hypervolume],
        ),
        credit=_credit([item for item in records if _first(history, item)], set(survivors), set(front)),
        environment_failures=tuple(
            trial for trial, item in evaluations.items() if item.failure and item.failure.kind == "environment"
        ),
        surrogate=_agreement(records, evaluations),
        fidelity=agreements(history, rungs) if rungs > 1 else None,
        inputs=dict(joined.digests) or None,
    )


def _agreement(
    records: Sequence[Mapping[str, Any]], evaluations: Mapping[str, Evaluation]
) -> dict[str, dict[str, float]] | None:
    """Return how predictions and values of the generation's trials agree, None where nothing was predicted.

    The trials were picked for what was predicted of them, so that their ranks agree less than those of any candidates.
    """
    predicted = {
        record["id"]: record["predicted"]
        for record in records
        if record.get("predicted") and evaluations[record["id"]].failure is None
    }
    if not predicted:
        return None
    agreement = {}
    for name in next(iter(predicted.values())):
        expected = np.array([values[name] for values in predicted.values()])
        found = np.array([evaluations[trial].objectives[name] for trial in predicted])
        agreement[name] = {"trials": len(predicted), "rank_correlation": round(rank_correlation(expected, found), 9)}
    return agreement


def highest_front(history: History[G]) -> tuple[int, tuple[str, ...]]:
    """Return the highest rung that has a feasible candidate and the non-dominated ones on it, in the order asked.

    Only candidates of the last generation and of the front before it are compared, which is enough unless a member of
    that front was tried again, or the rung went up; then all of the rung are. O(n log n) for up to three objectives.
    """
    fresh = history.candidates_of(history.generations)
    before = history.results[-1].rung if history.results else 0
    rung = max([before, *(history.rung(candidate) for candidate in fresh if history.standing(candidate).feasible)])
    if rung > before or set(history.front) & set(fresh):
        pool = [candidate for candidate in history.ids if history.rung(candidate) == rung]
    else:
        pool = [*history.front, *(candidate for candidate in fresh if history.rung(candidate) == rung)]
    keep = nondominated(history.values(pool), history.violations(pool))
    return rung, tuple(pool[i] for i in np.flatnonzero(keep))


def _first_box(history: History[G], rungs: int) -> FitnessBox | None:
    """Return the box of the first generation that has a feasible candidate on the full rung, None before that.

    That is generation 0, unless all that began on the full rung failed. Those on it span the box, for what a shorter
    training reaches lies elsewhere; where they are too few, all do.
    """
    everybody = [item for name in history.ids if (item := history.standing(name)).feasible]
    full = [item for name in history.on_rung(rungs - 1) if (item := history.standing(name)).feasible]
    if not full:
        return None
    spanning = full if len(full) >= SPANNING else everybody
    return freeze_box(minimised(spanning, history.objectives), history.objectives)


def _first(history: History[G], record: Mapping[str, Any]) -> bool:
    """Whether a trial is the first of its candidate: neither a promotion nor a replicate."""
    return bool(history.first_trial(record["candidate"]) == record["id"])


def _credit(records: Sequence[Mapping[str, Any]], survivors: set[str], front: set[str]) -> dict[str, dict[str, int]]:
    """Count what each operator's new candidates became; one made by two operators counts for both."""
    credit: dict[str, dict[str, int]] = {}
    for record in records:
        for operator in (record["operator"] or "").split("+"):
            if operator:
                counts = credit.setdefault(operator, {"tried": 0, "survivors": 0, "front": 0})
                counts["tried"] += 1
                counts["survivors"] += record["candidate"] in survivors
                counts["front"] += record["candidate"] in front
    return credit
