"""How far a search has come, and whether it still moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import moocore
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.engine.fitness import FitnessBox

WINDOW = 3


@dataclass(frozen=True)
class EvolutionMetrics:
    """A closed generation in numbers.

    ``best_fitness`` and ``average_fitness`` are over the survivors, ``diversity_score`` is their mean pairwise
    distance;
    ``convergence_rate`` is the relative gain of the front's hypervolume over the last three generations.
    """

    generation: int
    best_fitness: float
    average_fitness: float
    diversity_score: float
    convergence_rate: float


def front_hypervolume(front: Sequence[Mapping[str, float]], box: FitnessBox | None) -> float:
    """Return the hypervolume of a front in units of the fitness box; above 1 once it reaches past the ideal.

    Rounded to 12 digits, since the last ones may depend on the machine and the value is part of what is replayed.
    """
    if box is None or not front:
        return 0.0
    shares = np.array([box.shares(values) for values in front])
    return float(f"{float(moocore.hypervolume(-shares, ref=0.0)):.12g}")


def convergence_rate(hypervolumes: Sequence[float]) -> float:
    """Return (now - before) / before, before being three generations ago, or the first of fewer; 0 for one generation.

    Where there was no hypervolume before, any gain counts as 1.
    """
    now, before = hypervolumes[-1], hypervolumes[max(0, len(hypervolumes) - 1 - WINDOW)]
    if before == 0:
        return 1.0 if now > 0 and len(hypervolumes) > 1 else 0.0
    return (now - before) / before


def plateaued(history: Sequence[EvolutionMetrics], *, tolerance: float = 1e-3, patience: int = 1) -> bool:
    """Return whether hypervolume gained at most ``tolerance`` in three generations, ``patience`` times in a row."""
    if len(history) < WINDOW + patience:
        return False
    return all(metrics.convergence_rate <= tolerance for metrics in history[-patience:])


def summarise(
    generation: int, fitness_scores: Sequence[float], diversity: float, hypervolumes: Sequence[float]
) -> EvolutionMetrics:
    """Return the metrics of a generation from those of its survivors and the hypervolumes up to now."""
    return EvolutionMetrics(
        generation=generation,
        best_fitness=max(fitness_scores, default=0.0),
        average_fitness=math.fsum(fitness_scores) / len(fitness_scores) if fitness_scores else 0.0,
        diversity_score=diversity,
        convergence_rate=convergence_rate(hypervolumes),
    )
