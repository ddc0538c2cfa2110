"""A Gaussian process over the features of genomes, that predicts what a training would bring back.

The kernel is a weighted sum of three, each with a mean of 1 on the diagonal: a linear one (what each gene adds), its
square (what pairs of them add), and ``exp(-L1 / length)`` (what alike genomes share; on one-hot features a Hamming
kernel). Weights, length and noise come from a small grid, by marginal likelihood (Rasmussen & Williams 2006, section
5.4): with few evaluations additive effects are all that can be told, with many the others take over. So does whether
features in steps are amounts or choices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from evodiff.engine.matrices import (
    for_slices,
    l1_distances,
    on_every_core,
    slices,
    times_transposed,
    triangular_inverse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Singles = NDArray[np.float32]
    Number = TypeVar("Number", np.float32, np.float64)

# Shares of the linear, the squared and the exponential kernel; lengths of the last in medians of the distances.
SHARES: Final = ((1.0, 0.0, 0.0), (0.6, 0.4, 0.0), (0.0, 0.0, 1.0), (0.4, 0.0, 0.6), (0.3, 0.3, 0.4))
LENGTHS: Final = (0.5, 1.0, 2.0, 4.0)
NOISES: Final = (0.001, 0.01, 0.05, 0.15, 0.4, 0.8)
# Kernels are chosen on at most so many evaluations, evenly spread: it takes cubic time for each of the grid.
CHOSEN_ON: Final = 256
# Scaled features beyond so many deviations lie where nothing is known; how far does not matter.
FARTHEST: Final = 8.0
# Kernels are mixed so many elements at a time, which stay in a cache.
MIXED: Final = 65_536
# Evidence is strong from this logarithm of a ratio on (Kass & Raftery 1995: a factor of 20).
STRONG: Final = 3.0
QUANTILE: Final = 1.645  # what a standard normal variable exceeds in one of twenty samples
# Features of more values than that, or than half of the evaluations, are amounts.
MOST_LEVELS: Final = 32


@dataclass(frozen=True)
class Kernel:
    """A point of the grid; ``noise`` is a share of the variance."""

    shares: tuple[float, float, float]
    length: float
    noise: float


@dataclass(frozen=True)
class Parts:
    """What kernels of any weights are mixed from: the linear kernel and the L1 distances in medians, alike in shape."""

    linear: Floats
    distance: Singles

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Parts:
        """Return the parts of some rows."""
        return Parts(self.linear[rows], self.distance[rows])

    def every(self, step: int) -> Parts:
        """Return what is left where only every ``step``-th row and column is taken."""
        return Parts(self.linear[::step, ::step].copy(), self.distance[::step, ::step].copy())


@dataclass(frozen=True)
class Place:
    """Where m genomes lie: ``rows``, (m, d) scaled, parts with n evaluated ones, (m, n), and with themselves, (m,)."""

    rows: Floats
    near: Parts
    itself: Parts

    def __getitem__(self, chosen: NDArray[np.int64]) -> Place:
        """Return the place of those ``chosen``."""
        return Place(self.rows[chosen], self.near[chosen], self.itself[chosen])

    @classmethod
    def joined(cls, places: Sequence[Place]) -> Place:
        """Return one or more, one after the other."""

        def stack(arrays: Iterable[NDArray[Number]]) -> NDArray[Number]:
            return np.concatenate(list(arrays))

        near = Parts(stack(item.near.linear for item in places), stack(item.near.distance for item in places))
        itself = Parts(stack(item.itself.linear for item in places), stack(item.itself.distance for item in places))
        return cls(stack(item.rows for item in places), near, itself)


class Geometry:
    """How alike genomes are by their features, which all objectives have in common.

    Features are centred and divided by their deviation; constant ones are left out.

    Args:
        features: (n, d) array of evaluated genomes, n at least 2, finite.
        weights: (d,) array of how much each counts, above 0; None is all alike.
        levels: the values that each feature takes; where they are given, which of them it is stands beside it, as one
            more feature for each.
    """

    def __init__(self, features: Floats, weights: Floats | None = None, levels: Sequence[Floats] = ()) -> None:
        self._levels = levels
        weights = np.ones(features.shape[1]) if weights is None else weights
        wide = self._with_levels(features)
        self._centre = wide.mean(axis=0)
        spread = np.ptp(wide, axis=0)
        self._kept = spread > 0
        # A rare choice among one-hot features weighs at most twice what an even one does.
        deviation = np.maximum(wide.std(axis=0), spread / 4)
        self._deviation = deviation[self._kept]
        self._weights = self._with_those_of_levels(weights)[self._kept]
        self._rows = self._scaled(features)
        norms = (self._rows**2).sum(axis=1)
        self._linear = max(float(norms.mean()), 1e-12)
        self._square = max(float((norms**2).mean()) / self._linear**2, 1e-12)
        distance = l1_distances(self._rows, self._rows)
        pairs = ~np.tri(len(distance), dtype=np.bool_)
        self._median = max(float(np.median(distance[pairs])), 1e-12)
        self.own = Parts(self._rows @ self._rows.T / self._linear, distance / self._median)

    def place(self, features: Floats) -> Place:
        """Return where genomes with (m, d) features lie."""
        rows = self._scaled(features)
        itself = Parts((rows**2).sum(axis=1) / self._linear, np.zeros(len(rows), dtype=np.float32))
        return Place(rows, self.parts(rows, self._rows), itself)

    def parts(self, first: Floats, second: Floats) -> Parts:
        """Return the parts of (m, d) and (k, d) scaled rows, (m, k) each."""
        linear, distance = np.empty((len(first), len(second))), l1_distances(first, second)
        scaled = second.T / self._linear

        def fill(rows: slice) -> None:
            np.matmul(first[rows], scaled, out=linear[rows])
            distance[rows] /= np.float32(self._median)

        for_slices(fill, len(first))
        return Parts(linear, distance)

    def mix(self, parts: Parts, kernel: Kernel) -> Floats:
        """Return the weighted sum of the three kernels, in the shape of the parts, without noise."""
        additive, pairs, alike = kernel.shares
        mixed = np.empty(parts.linear.shape)
        for rows in slices(len(mixed), max(1, MIXED * len(mixed) // max(mixed.size, 1))):
            linear, whole = parts.linear[rows], mixed[rows]
            np.multiply(linear, pairs / self._square, out=whole)
            whole += additive
            whole *= linear
            if alike:
                near = np.exp(parts.distance[rows] * (-1.0 / kernel.length), dtype=np.float64)
                near *= alike
                whole += near
        return mixed

    def _scaled(self, features: Floats) -> Floats:
        features = self._with_levels(features)
        scaled = (features[:, self._kept] - self._centre[self._kept]) / self._deviation
        weighed: Floats = np.clip(scaled, -FARTHEST, FARTHEST) * self._weights
        return weighed

    def _with_levels(self, features: Floats) -> Floats:
        if not self._levels:
            return features
        chosen = [column[:, None] == levels for column, levels in zip(features.T, self._levels, strict=True)]
        return np.hstack([features, *chosen])

    def _with_those_of_levels(self, weights: Floats) -> Floats:
        """Return (d,) weights and those of levels, that weigh together about as much as the feature itself."""
        if not self._levels:
            return weights
        levels = zip(weights, self._levels, strict=True)
        return np.concatenate([weights, *(np.full(len(each), weight * len(each) ** -0.5) for weight, each in levels)])


def geometries(features: Floats, weights: Floats | None = None) -> list[Geometry]:
    """Return the ways to see (n, d) features: as they are, and, where each takes few values, as choices as well.

    They count by (d,) ``weights``, all alike where there are none.

    A gene in steps may be an amount, of which neighbours are alike, or a choice that was numbered, of which they are
    not (each step of DTLZ1 goes from a hill into a valley). One-hot features are choices as they are.
    """
    ordered = np.sort(features, axis=0)
    first = np.vstack([np.ones_like(ordered[:1], dtype=np.bool_), ordered[1:] != ordered[:-1]])
    most = int(first.sum(axis=0).max(initial=0))
    plain = Geometry(features, weights)
    if not 2 < most <= min(MOST_LEVELS, len(features) // 2):
        return [plain]
    levels = [column[new] for column, new in zip(ordered.T, first.T, strict=True)]
    return [plain, Geometry(features, weights, levels)]


class Surrogate:
    """Predicts one objective of genomes; ``geometry`` is that of the given ones which it has taken.

    Args:
        seen: where the evaluated genomes lie, at least 2 of them; models of several objectives share it. Any but the
            first is taken only where the evidence for it is strong.
        values: (n,) array, finite, minimised.
    """

    def __init__(self, seen: Sequence[Geometry], values: Floats) -> None:
        self.warp = Warp(values)
        self.values = self.warp(values)
        plain, *others = [(*self._choose(geometry), geometry) for geometry in seen]
        convincing = [other for other in others if other[0] > plain[0] + STRONG]
        _, self.kernel, self.geometry = (convincing or [plain])[0]
        covariance = self.geometry.mix(self.geometry.own, self.kernel)
        covariance[np.diag_indices(len(covariance))] += self.kernel.noise
        # Its square is the inverse of the covariance.
        self._whitening = triangular_inverse(np.linalg.cholesky(covariance))
        self._mean = float(self.values.mean())
        centred = self.values - self._mean
        white = self._whitening @ centred
        self._weights = self._whitening.T @ white
        self.variance = max(float(white @ white) / len(centred), 1e-12)

    @property
    def noise(self) -> float:
        """Variance of one more evaluation, beyond what the model does not know."""
        return self.kernel.noise * self.variance

    def predict(self, place: Place) -> tuple[Floats, Floats]:
        """Return the mean and the deviation, (m,) each, of the warped values of m other genomes."""
        mean, left = np.empty(len(place.rows)), self.geometry.mix(place.itself, self.kernel)

        def fill(rows: slice) -> None:
            cross = self.geometry.mix(place.near[rows], self.kernel)
            mean[rows] = self._mean + cross @ self._weights
            white = times_transposed(cross, self._whitening)
            left[rows] -= np.einsum("ij,ij->i", white, white)

        for_slices(fill, len(mean))
        return mean, np.sqrt(self.variance * np.maximum(left, 0))

    def covariance(self, place: Place) -> Floats:
        """Return the (m, m) covariance of the warped values of m other genomes."""
        white = times_transposed(self.geometry.mix(place.near, self.kernel), self._whitening)
        own = self.geometry.mix(self.geometry.parts(place.rows, place.rows), self.kernel)
        covariance: Floats = self.variance * (own - white @ white.T)
        return covariance

    def smoothed(self) -> Floats:
        """Return an (n,) array: what is to be expected of each evaluated genome, once the noise of its value is out."""
        smooth: Floats = self.values - self.kernel.noise * self._weights
        return smooth

    def left_out(self) -> Floats:
        """Return an (n,) array: for each evaluated genome what the others predict of it (ibid., equation 5.12)."""
        left: Floats = self.values - self._weights / (self._whitening**2).sum(axis=0)
        return left

    def _choose(self, geometry: Geometry) -> tuple[float, Kernel]:
        step = -(-len(self.values) // CHOSEN_ON)
        values, parts = self.values[::step], geometry.own.every(step)
        centred = values - values.mean()
        kernels = [
            Kernel(shares, length, 0.0) for shares in SHARES for length in (LENGTHS if shares[2] else LENGTHS[:1])
        ]
        found = on_every_core(lambda kernel: _evidences(geometry.mix(parts, kernel), centred), kernels)
        highest = max(max(evidences) for evidences in found)
        kernel, evidences = next(pair for pair in zip(kernels, found, strict=True) if highest in pair[1])
        return highest, replace(kernel, noise=NOISES[evidences.index(highest)])


class Warp:
    """Values as the models see them: 0 at the median, and compressed beyond it.

    How bad a bad genome is says little of the good ones, and trainings fail in a long tail: above the median the
    logarithm of the excess is taken. The unit is the distance from the median to the best tenth, or a part of the whole
    spread where so many are equally good that this is next to nothing.
    """

    def __init__(self, values: Floats) -> None:
        self.median = float(np.median(values))
        low, high = np.percentile(values, [10, 90])
        spread = max(self.median - float(low), 0.1 * float(high - low), 0.01 * float(np.ptp(values)))
        self.unit = spread or max(1.0, abs(self.median))

    def __call__(self, values: Floats) -> Floats:
        """Return the warped values."""
        scaled = (values - self.median) / self.unit
        warped: Floats = np.where(scaled > 0, np.log1p(np.maximum(scaled, 0)), scaled)
        return warped

    def inverse(self, warped: Floats) -> Floats:
        """Return the values that are warped so."""
        scaled = np.where(warped > 0, np.expm1(np.clip(warped, 0, 50)), warped)
        values: Floats = self.median + self.unit * scaled
        return values


def rank_correlation(first: Floats, second: Floats) -> float:
    """Return Kendall's tau-b of two samples, (n,) each; 0 where one of them is constant. O(n^2)."""
    one, other = _signs(first), _signs(second)
    size = float(np.sqrt(float(np.count_nonzero(one)) * np.count_nonzero(other)))
    return float((one * other).sum()) / size if size else 0.0


def _signs(values: Floats) -> NDArray[np.int8]:
    """Return an (n, n) array: whether each value is larger (1) or smaller (-1) than each other one."""
    larger: NDArray[np.int8] = (values[:, None] > values).view(np.int8)
    return larger - larger.T


def chance(count: int) -> float:
    """Return what tau exceeds by chance in one of twenty samples of ``count`` (Kendall 1938: nearly normal)."""
    deviation = (2 * (2 * count + 5) / (9 * count * (count - 1))) ** 0.5 if count > 1 else 1.0
    return float(min(1.0, QUANTILE * deviation))


def _evidences(covariance: Floats, values: Floats) -> list[float]:
    """Return, for each of the noises, the logarithm of the marginal likelihood, without constants.

    For the best variance of the whole; minus infinity where a noise is too small for numbers so rounded. The values,
    (n,), are one more row of the (n, n) covariance, so that the last row of the Cholesky factor holds them whitened.
    """
    count, square = len(values), float(values @ values)
    bordered = np.zeros((count + 1, count + 1))
    bordered[:count, :count] = covariance
    bordered[count, :count] = values
    variances = np.diagonal(covariance)
    found = []
    for noise in NOISES:
        np.fill_diagonal(bordered, np.append(variances + noise, 1 + 2 * square / noise))  # enough to be definite
        try:
            lower = np.linalg.cholesky(bordered)
        except np.linalg.LinAlgError:  # distances are rounded: without more noise it is no covariance
            found.append(-np.inf)
            continue
        fit = np.log(max(float((lower[count, :count] ** 2).mean()), 1e-300))
        spread = 2 * np.log(np.diagonal(lower)[:count]).sum()
        found.append(round(float(-0.5 * count * fit - 0.5 * spread), 6))
    return found
