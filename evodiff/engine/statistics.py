"""Statistics for comparing strategies over seeds: intervals, a rank test, an effect size; few samples, any shape.

Nothing here assumes a distribution: hypervolumes of evolutionary runs are bounded, skewed and often tied. The choice of
test and effect size follows Arcuri & Briand (2011) on assessing randomised algorithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RankTest:
    """The U statistic of the first sample, and the two-sided p-value."""

    u: float
    p_value: float


def median_band(curves: ArrayLike, rng: np.random.Generator, *, level: float = 0.95, resamples: int = 2000) -> Floats:
    """Return a (3, k) array: the median of n curves at each of k points, and its interval's lower and upper bound.

    ``curves`` is (n, k). A percentile bootstrap over whole curves (Efron & Tibshirani 1993, section 13): each resample
    draws n of them with replacement. With fewer than five curves the interval says little more than their range.

    Raises:
        SettingsError: there is no curve, ``level`` is not between 0 and 1, or there are no ``resamples``.
    """
    rows = _two_dimensional(curves)
    _check_bootstrap(level, resamples)
    drawn = rng.integers(len(rows), size=(resamples, len(rows)))
    medians = np.stack([np.median(rows[chosen], axis=0) for chosen in drawn])
    tail = 50 * (1 - level)
    low, high = np.percentile(medians, [tail, 100 - tail], axis=0)
    return np.stack([np.median(rows, axis=0), low, high])


def bootstrap_interval(
    samples: Sequence[Sequence[float]],
    statistic: Callable[..., float],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Return ``statistic(*samples)`` with its percentile bootstrap interval; samples are drawn independently.

    Raises:
        SettingsError: a sample is no list of finite numbers, ``level`` is not between 0 and 1, or there are no
            ``resamples``.
    """
    arrays = [_one_dimensional(sample) for sample in samples]
    _check_bootstrap(level, resamples)
    found = [statistic(*(rng.choice(array, len(array)) for array in arrays)) for _ in range(resamples)]
    tail = 50 * (1 - level)
    low, high = np.percentile(found, [tail, 100 - tail])
    return Interval(float(statistic(*arrays)), float(low), float(high))


def vargha_delaney(first: ArrayLike, second: ArrayLike) -> float:
    """Return A12: how likely a value of ``first`` is larger than one of ``second``, ties counting half.

    0.5 is no effect; Vargha & Delaney (2000) call 0.56 small, 0.64 medium and 0.71 large, and so below 0.5 likewise.
    """
    x, y = _one_dimensional(first), _one_dimensional(second)
    return float(_u_statistic(x, y) / (len(x) * len(y)))


def mann_whitney(first: ArrayLike, second: ArrayLike) -> RankTest:
    """Return the two-sided Mann-Whitney test: are values of one sample larger than those of the other?

    The p-value is exact, ties included: the share of all ways to deal the pooled midranks into samples of these sizes
    whose U lies at least as far from its mean. O((n + m)^2 n m) additions, milliseconds for dozens of seeds.
    """
    x, y = _one_dimensional(first), _one_dimensional(second)
    u = _u_statistic(x, y)
    ranks = _doubled_midranks(np.concatenate([x, y]))
    ways = _subset_sums(ranks, len(x))
    # The doubled rank sum of the first sample is 2 U + n (n + 1); its mean is n (n + m + 1).
    sums = np.arange(len(ways))
    mean = len(x) * (len(x) + len(y) + 1)
    distance = abs(int(ranks[: len(x)].sum()) - mean)
    extreme = ways[abs(sums - mean) >= distance].sum()
    return RankTest(u, float(min(1.0, extreme / ways.sum())))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for there being several, in the same order (Holm 1979).

    Calling those below alpha significant, one or more is wrongly so with a probability of at most alpha.

    Raises:
        SettingsError: one of them does not lie in [0, 1]; NaN would be taken for the smallest of all.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise SettingsError(
            f"Expected p-values, numbers from 0 to 1, found {p_values}.", remedy="Leave out tests that were not made."
        )
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for position, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - position)))
        adjusted[index] = largest
    return adjusted


def _check_bootstrap(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise SettingsError(f"Expected a level between 0 and 1, found {level}.", remedy="Give 0.95.")
    if resamples < 1:
        raise SettingsError(f"Expected one or more resamples, found {resamples}.", remedy="Give 2000.")


def _u_statistic(x: Floats, y: Floats) -> float:
    return float((x[:, None] > y).sum() + 0.5 * (x[:, None] == y).sum())


def _doubled_midranks(values: Floats) -> NDArray[np.int64]:
    """Return twice the rank of each value, from 1, ties sharing their mean rank: whole numbers."""
    below = (values[:, None] > values).sum(axis=1)
    equal = (values[:, None] == values).sum(axis=1)
    doubled: NDArray[np.int64] = 2 * below + equal + 1
    return doubled


def _subset_sums(ranks: NDArray[np.int64], size: int) -> Floats:
    """Return at index s in how many ways ``size`` of the ranks sum to s, in float64 (relative error below 1e-12)."""
    ways = np.zeros((size + 1, int(ranks.sum()) + 1))
    ways[0, 0] = 1
    for rank in ranks:
        for count in range(size, 0, -1):
            ways[count, rank:] += ways[count - 1, : len(ways[0]) - rank]
    whole: Floats = ways[size]
    return whole


def _one_dimensional(sample: ArrayLike) -> Floats:
    array = np.asarray(sample, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise SettingsError(
            f"Expected one or more finite numbers, found an array of shape {array.shape}.",
            remedy="Give one number a seed.",
        )
    return array


def _two_dimensional(curves: ArrayLike) -> Floats:
    array = np.asarray(curves, dtype=np.float64)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise SettingsError(
            f"Expected finite curves, (n, k), found an array of shape {array.shape}.",
            remedy="Give one curve a seed, all over the same points.",
        )
    return array
