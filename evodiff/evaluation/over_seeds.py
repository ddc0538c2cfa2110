"""What a few trainings from different seeds say: their spread, and how two networks differ, with intervals.

Intervals are those of normally distributed values: with the three to five seeds that trainings are worth, resampling
knows no better.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.special import chdtri, stdtrit

from evodiff.engine.statistics import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """One value a seed: their mean with its standard error, their standard deviation with its interval, their range.

    Of one value the standard error is NaN, and its deviation is NaN between 0 and infinity.
    """

    count: int
    mean: float
    standard_error: float
    deviation: Interval
    smallest: float
    largest: float


def spread(values: Sequence[float], *, level: float = LEVEL) -> Spread:
    """Return how one or more values spread over seeds."""
    count, mean = len(values), statistics.fmean(values)
    smallest, largest = min(values), max(values)
    if count == 1:
        return Spread(count, mean, math.nan, Interval(math.nan, 0.0, math.inf), smallest, largest)
    deviation, freedom, tail = statistics.stdev(values), count - 1, (1 - level) / 2
    low, high = (deviation * math.sqrt(freedom / float(chdtri(freedom, share))) for share in (tail, 1 - tail))
    interval = Interval(deviation, low, high)
    return Spread(count, mean, deviation / math.sqrt(count), interval, smallest, largest)


def paired_difference(ours: Sequence[float], theirs: Sequence[float], *, level: float = LEVEL) -> Interval:
    """Return the mean of ours - theirs, the same seeds in the same order, with its two-sided interval of Student's t.

    The interval is over seeds: of trainings, and of the noise that samples start from. One pair leaves it unbounded.
    """
    found = spread([first - second for first, second in zip(ours, theirs, strict=True)])
    if found.count == 1:
        return Interval(found.mean, -math.inf, math.inf)
    half = float(stdtrit(found.count - 1, (1 + level) / 2)) * found.standard_error
    return Interval(found.mean, found.mean - half, found.mean + half)
