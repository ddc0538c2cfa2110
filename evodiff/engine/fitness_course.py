"""How fit the best and the average were after each closed generation, by the rung of its front.

The metrics of a result are over all survivors, and are part of what is replayed. In a run of several rungs some of the
survivors were trained briefly, and seem fitter or less fit than they are; so what is shown leaves them out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evodiff.engine.candidate import combine_replicates
from evodiff.engine.fitness import FitnessBox
from evodiff.engine.ratings import joined_ratings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.engine.candidate import Evaluation
    from evodiff.engine.ledger import Ledger

    # by candidate and by rung, what each trial brought
    Told = dict[str, dict[int, list[Evaluation]]]


@dataclass(frozen=True)
class GenerationFitness:
    """``best`` and ``average`` fitness scores that a generation closed with, in [0, 1]."""

    best: float
    average: float


def fitness_course(ledger: Ledger) -> list[GenerationFitness]:
    """Return the fitness of each closed generation.

    Of a run of one rung that is what the results say: best and average over the survivors. Of others the best is over
    the front, and the average over the survivors on its rung, or over the front where none is.
    """
    results = [ledger.result(generation) or {} for generation in range(ledger.closed)]
    if ledger.experiment["rungs"] == 1:
        return [_stored(result) for result in results]
    told: Told = {}
    found = []
    for generation, result in enumerate(results):
        _learn(ledger, generation, told)
        found.append(_of_front(ledger, result, told))
    return found


def generation_fitness(ledger: Ledger, result: Mapping[str, Any]) -> GenerationFitness:
    """Return the fitness of :func:`fitness_course` of one closed generation, by its result."""
    if ledger.experiment["rungs"] == 1:
        return _stored(result)
    told: Told = {}
    for generation in range(result["generation"] + 1):
        _learn(ledger, generation, told)
    return _of_front(ledger, result, told)


def with_fitness_shown(ledger: Ledger, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a closed generation with its :func:`generation_fitness` among its metrics."""
    found = generation_fitness(ledger, result)
    return {**result, "metrics": {**result["metrics"], "best_fitness": found.best, "average_fitness": found.average}}


def _stored(result: Mapping[str, Any]) -> GenerationFitness:
    return GenerationFitness(result["metrics"]["best_fitness"], result["metrics"]["average_fitness"])


def _learn(ledger: Ledger, generation: int, told: Told) -> None:
    evaluations = ledger.evaluations(generation)
    for row in ledger.plan(generation):
        if row["id"] in evaluations:
            told.setdefault(row["candidate"], {}).setdefault(row["rung"], []).append(evaluations[row["id"]])


def _of_front(ledger: Ledger, result: Mapping[str, Any], told: Told) -> GenerationFitness:
    box = FitnessBox(**result["box"]) if result["box"] else None
    ratings = joined_ratings(ledger, result["generation"])

    def scores(candidates: Sequence[str]) -> list[float]:
        standing = {item: combine_replicates(told[item][result["rung"]]) for item in candidates if whole(item)}
        return [ratings.fitness(item, box.score(found) if box else None) or 0.0 for item, found in standing.items()]

    def whole(candidate: str) -> bool:
        return bool(max(told.get(candidate, {}), default=-1) == result["rung"])

    front = scores(result["front"])
    average_over = scores(result["survivors"]) or front or [0.0]
    return GenerationFitness(max(front, default=0.0), math.fsum(average_over) / len(average_over))
