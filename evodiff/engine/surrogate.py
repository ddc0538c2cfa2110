"""A Gaussian process over the features of genomes, that predicts what a training would bring back.

The kernel is a weighted sum of three, each with a mean of 1 on the diagonal: a linear one (what each gene adds), its
square (what pairs of them add), and ``exp(-L1 / length)`` (what alike genomes share; on one-hot features a Hamming
kernel). Weights, length and noise come from a small grid, by marginal likelihood (Rasmussen & Williams 2006, section
5.4): with few evaluations additive effects are all that can be told, with many the others take over. So does whether
features in steps are amounts or choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Shares of the linear, the squared and the exponential kernel; lengths of the last in medians of the distances.
SHARES: Final = ((1.0, 0.0, 0.0), (0.6, 0.4, 0.0), (0.0, 0.0, 1.0), (0.4, 0.0, 0.6), (0.3, 0.3, 0.4))
LENGTHS: Final = (0.5, 1.0, 2.0, 4.0)
NOISES: Final = (0.001, 0.01, 0.05, 0.15, 0.4, 0.8)
# Kernels are chosen on at most so many evaluations, evenly spread: it takes cubic time for each of the grid.
CHOSEN_ON: Final = 256
# Scaled features beyond so many deviations lie where nothing is known; how far does not matter.
FARTHEST: Final = 8.0
# Evidence is strong from this logarithm of a ratio on (Kass & Raftery 1995: a factor of 20).
STRONG: Final = 3.0
# Features of more values than that, or than half of the evaluations, are amounts.
MOST_LEVELS: Final = 32


@dataclass(frozen=True)
class Kernel:
    """A point of the grid; ``noise`` is a share of the variance."""

    shares: tuple[float, float, float]
    length: float
    noise: float


class Surrogate:
    """Predicts one objective from features.

    Args:
        features: (n, d) array of evaluated genomes, n at least 2, finite.
        values: (n,) array, finite, minimised.
    """

    def __init__(self, features: Floats, values: Floats) -> None:
        self.warp = Warp(values)
        self.values = self.warp(values)
        plain, *others = [self._fit(scale, features) for scale in _scales(features)]
        convincing = [other for other in others if other[0] > plain[0] + STRONG]
        _, self._scale, self._kernels, self.kernel = (convincing or [plain])[0]
        covariance = self._kernels.mixed(self._kernels.rows, self.kernel)
        covariance[np.diag_indices(len(covariance))] += self.kernel.noise
        self._inverse = np.linalg.inv(covariance)
        self._mean = float(self.values.mean())
        centred = self.values - self._mean
        self._weights = self._inverse @ centred
        self.variance = max(float(self._weights @ centred) / len(centred), 1e-12)

    @property
    def noise(self) -> float:
        """Variance of one more evaluation, beyond what the model does not know."""
        return self.kernel.noise * self.variance

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Return the mean and the deviation, (m,) each, of the warped values of other genomes."""
        rows = self._scale(features)
        cross = self._kernels.mixed(rows, self.kernel)
        left = self._kernels.diagonal(rows, self.kernel) - np.einsum("ij,ij->i", cross @ self._inverse, cross)
        return self._mean + cross @ self._weights, np.sqrt(self.variance * np.maximum(left, 0))

    def covariance(self, features: Floats) -> Floats:
        """Return the (m, m) covariance of the warped values of other genomes."""
        rows = self._scale(features)
        cross = self._kernels.mixed(rows, self.kernel)
        own = self._kernels.mixed(rows, self.kernel, rows)
        covariance: Floats = self.variance * (own - cross @ self._inverse @ cross.T)
        return covariance

    def left_out(self) -> Floats:
        """Return an (n,) array: for each evaluated genome what the others predict of it (ibid., equation 5.12)."""
        left: Floats = self.values - self._weights / np.diag(self._inverse)
        return left

    def _fit(self, scale: _FeatureScale, features: Floats) -> tuple[float, _FeatureScale, _Kernels, Kernel]:
        """Return the evidence for a way to see the features, and what it rests on."""
        kernels = _Kernels(scale(features))
        evidence, kernel = self._choose(kernels)
        return evidence, scale, kernels, kernel

    def _choose(self, kernels: _Kernels) -> tuple[float, Kernel]:
        step = -(-len(self.values) // CHOSEN_ON)
        rows, values = kernels.rows[::step], self.values[::step]
        centred = values - values.mean()
        parts = kernels.parts(rows, rows)
        best, highest = Kernel(SHARES[0], LENGTHS[0], NOISES[-1]), -np.inf
        for shares in SHARES:
            for length in LENGTHS if shares[2] else LENGTHS[:1]:
                eigenvalues, vectors = np.linalg.eigh(kernels.mix(*parts, Kernel(shares, length, 0.0)))
                squares = (vectors.T @ centred) ** 2
                for noise in NOISES:
                    evidence = _evidence(np.maximum(eigenvalues, 0) + noise, squares)
                    if evidence > highest:
                        best, highest = Kernel(shares, length, noise), evidence
        return highest, best


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


class _FeatureScale:
    """Features made comparable: centred, divided by their deviation, constant ones left out.

    ``levels`` are the values that each feature takes; where they are given, which of them it is stands beside it, as
    one more feature for each.
    """

    def __init__(self, features: Floats, levels: Sequence[Floats] = ()) -> None:
        self._levels = levels
        features = self._with_levels(features)
        self._centre = features.mean(axis=0)
        spread = np.ptp(features, axis=0)
        self._kept = spread > 0
        # A rare choice among one-hot features weighs at most twice what an even one does.
        deviation = np.maximum(features.std(axis=0), spread / 4) / self._weights(len(spread))
        self._deviation = deviation[self._kept]

    def __call__(self, features: Floats) -> Floats:
        features = self._with_levels(features)
        scaled = (features[:, self._kept] - self._centre[self._kept]) / self._deviation
        clipped: Floats = np.clip(scaled, -FARTHEST, FARTHEST)
        return clipped

    def _with_levels(self, features: Floats) -> Floats:
        if not self._levels:
            return features
        chosen = [column[:, None] == levels for column, levels in zip(features.T, self._levels, strict=True)]
        return np.hstack([features, *chosen])

    def _weights(self, columns: int) -> Floats:
        """Return (columns,) factors: the levels of a feature weigh together about as much as the feature itself."""
        each = [np.full(len(levels), len(levels) ** -0.5) for levels in self._levels]
        return np.concatenate([np.ones(columns - sum(map(len, each))), *each])


def _scales(features: Floats) -> list[_FeatureScale]:
    """Return the ways to see the features: as they are, and, where each takes few values, as choices as well.

    A gene in steps may be an amount, of which neighbours are alike, or a choice that was numbered, of which they are
    not (each step of DTLZ1 goes from a hill into a valley). One-hot features are choices as they are.
    """
    levels = [np.unique(column) for column in features.T]
    most = max((len(values) for values in levels), default=0)
    plain = _FeatureScale(features)
    stepped = 2 < most <= min(MOST_LEVELS, len(features) // 2)
    return [plain, _FeatureScale(features, levels)] if stepped else [plain]


class _Kernels:
    """The three kernels between scaled rows and those of the training data."""

    def __init__(self, rows: Floats) -> None:
        self.rows = rows
        norms = (rows**2).sum(axis=1)
        self._linear = max(float(norms.mean()), 1e-12)
        self._square = max(float((norms**2).mean()) / self._linear**2, 1e-12)
        distances = _l1(rows, rows)[np.triu_indices(len(rows), 1)]
        self._median = max(float(np.median(distances)), 1e-12)

    def parts(self, first: Floats, second: Floats) -> tuple[Floats, Floats]:
        """Return the linear kernel and the L1 distances in medians, (n, m) each."""
        return first @ second.T / self._linear, _l1(first, second) / self._median

    def mix(self, linear: Floats, distance: Floats, kernel: Kernel) -> Floats:
        """Return the weighted sum, without noise."""
        additive, pairs, alike = kernel.shares
        mixed: Floats = additive * linear + pairs * linear**2 / self._square
        return mixed + alike * np.exp(-distance / kernel.length) if alike else mixed

    def mixed(self, first: Floats, kernel: Kernel, second: Floats | None = None) -> Floats:
        """Return the weighted sum between rows, (n, m); ``second`` is the training data by default."""
        return self.mix(*self.parts(first, self.rows if second is None else second), kernel)

    def diagonal(self, rows: Floats, kernel: Kernel) -> Floats:
        """Return the kernel of each row with itself, (n,)."""
        return self.mix((rows**2).sum(axis=1) / self._linear, np.zeros(len(rows)), kernel)


def rank_correlation(first: Floats, second: Floats) -> float:
    """Return Kendall's tau-b of two samples, (n,) each; 0 where one of them is constant. O(n^2)."""
    one, other = np.sign(first[:, None] - first), np.sign(second[:, None] - second)
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size else 0.0


def chance(count: int) -> float:
    """Return what tau exceeds by chance in one of twenty samples of ``count`` (Kendall 1938: nearly normal)."""
    deviation = (2 * (2 * count + 5) / (9 * count * (count - 1))) ** 0.5 if count > 1 else 1.0
    return float(min(1.0, 1.645 * deviation))


def _evidence(spectrum: Floats, squares: Floats) -> float:
    """Return the logarithm of the marginal likelihood, without constants, for the best variance of the whole."""
    fit = np.log(max(float((squares / spectrum).mean()), 1e-300))
    return round(float(-0.5 * len(squares) * fit - 0.5 * np.log(spectrum).sum()), 6)


def _l1(first: Floats, second: Floats) -> Floats:
    from scipy.spatial.distance import cdist  # its import takes most of a second, which other strategies need not wait

    if not first.shape[1]:
        return np.zeros((len(first), len(second)))
    distances: Floats = cdist(first, second, "cityblock")
    return distances
