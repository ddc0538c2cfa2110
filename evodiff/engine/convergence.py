"""How far a search has come, and whether it still moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import moocore
import numpy as np

from evodiff.engine.statistics import Interval, bootstrap_interval
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.engine.fitness import FitnessBox

WINDOW = 3
# A trend is fitted to the last generations, so many gains; less than TOLERANCE a generation is none.
TREND: Final = 4
TOLERANCE: Final = 1e-3

Verdict = Literal["too short", "still improving", "converged", "falling", "undecided"]


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


@dataclass(frozen=True)
class Convergence:
    """Whether searches still improve: relative hypervolume ``gain`` a generation lately, with its 95 % interval.

    ``still improving``: all of the interval is above a thousandth. ``falling``: all of it is as far below 0, as where a
    front came to be that of a higher rung, or its replicates were less lucky. ``converged``: all of it is between.
    ``undecided``: several of these are possible. ``too short``, with no gain: there are not five generations to tell
    from.
    """

    gain: Interval | None
    verdict: Verdict


def diagnose(curves: Sequence[Sequence[float]]) -> Convergence:
    """Return how searches by one method stand, from the hypervolume after each generation of each.

    The gain of a run is the slope of the least-squares line through its last five generations, as a share of the last
    value, or of the largest where that is 0. Of several runs it is the mean, with a percentile bootstrap over runs; of
    one run it has the interval of the slope by Student's t, which takes the scatter round the line for chance.

    Raises:
        SettingsError: a hypervolume is not finite.
    """
    for curve in curves:
        unknown = np.flatnonzero(~np.isfinite(np.asarray(curve, dtype=np.float64)))
        if len(unknown):
            raise SettingsError(
                f"Expected a finite hypervolume after each generation, found {curve[unknown[0]]} after generation"
                f" {unknown[0]}.",
                remedy="Give 0 where nothing was found.",
            )
    if not curves or min(len(curve) for curve in curves) <= TREND:
        return Convergence(None, "too short")
    slopes, errors = zip(*(_relative_slope(np.asarray(curve[-TREND - 1 :])) for curve in curves), strict=True)
    if len(slopes) > 1:
        gain = bootstrap_interval([slopes], lambda found: float(np.mean(found)), np.random.default_rng(0))
    else:
        half = errors[0] * _student_quantile(0.975, TREND - 1)
        gain = Interval(slopes[0], slopes[0] - half, slopes[0] + half)
    return Convergence(gain, _verdict(gain))


def _verdict(gain: Interval) -> Verdict:
    if gain.low > TOLERANCE:
        return "still improving"
    if gain.high < -TOLERANCE:
        return "falling"
    return "converged" if gain.low >= -TOLERANCE and gain.high <= TOLERANCE else "undecided"


def _relative_slope(values: np.ndarray) -> tuple[float, float]:
    """Return slope and standard error of the least-squares line, as shares of the last value, or else of the largest.

    Both are 0 where all values are.
    """
    unit = float(values[-1] or values.max())
    if unit == 0:
        return 0.0, 0.0
    steps = np.arange(len(values)) - (len(values) - 1) / 2
    spread = float((steps**2).sum())
    slope = float(steps @ values) / spread
    residuals = values - values.mean() - slope * steps
    error = math.sqrt(float((residuals**2).sum()) / (len(values) - 2) / spread)
    return slope / unit, error / unit


def _student_quantile(probability: float, freedom: int) -> float:
    from scipy.special import stdtrit  # a tenth of a second, which a search need not wait

    return float(stdtrit(freedom, probability))
