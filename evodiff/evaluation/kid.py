"""Kernel Inception Distance (Bińkowski et al. 2018): an unbiased distance between two sets of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Features = NDArray[np.float64]

SMALLEST_SAMPLE = 4
"""Rows that each side needs: with fewer the second-order part of the variance has no estimate."""


@dataclass(frozen=True)
class Estimate:
    """A number that was estimated from samples, and the standard deviation of its estimator."""

    value: float
    standard_error: float

    def to_json(self) -> dict[str, float]:
        """Return plain JSON."""
        return {"value": self.value, "standard_error": self.standard_error}


def kid(x: Features, y: Features) -> Estimate:
    """Unbiased squared maximum mean discrepancy with k(a, b) = (a·b/d + 1)³.

    The value may be negative: it is unbiased around zero where both sets come from one distribution. The standard
    error is that over fresh draws of both sets. It is the delete-one jackknife of both (Arvesen 1969), which counts
    the second-order terms of the Hoeffding decomposition twice (Efron & Stein 1981) and those are all there is where
    the distributions are alike; so they are estimated by themselves, from the doubly centred kernel, and taken
    off once. In simulations it is right within 5 % away from zero and about 15 % too large at zero, where the
    jackknife alone is 40 % too large. O((n + m)²) time and memory.

    Args:
        x: an (n, d) array, n >= 4.
        y: an (m, d) array, m >= 4.

    Raises:
        ValueError: shapes do not fit, too few rows, or a feature is not finite.
    """
    x, y = _checked(x, "x"), _checked(y, "y")
    _check_columns(x, y)
    return _estimate(_kernel(x, x), _kernel(y, y), _kernel(x, y))


def kid_difference(first: Features, second: Features, y: Features) -> Estimate:
    """KID of ``first`` to ``y`` minus KID of ``second`` to ``y``, where row i of both came of the same chance.

    That is so for images from the same noise and labels. What the pairs share, and what ``y`` does to both, cancels,
    so that the standard error, estimated as :func:`kid` does from the differences of kernels, may be far below that of
    either; it is that over fresh draws of pairs and of ``y``. O((n + m)²) time and memory.

    Args:
        first: an (n, d) array, n >= 4.
        second: an (n, d) array.
        y: an (m, d) array, m >= 4.

    Raises:
        ValueError: shapes do not fit, too few rows, or a feature is not finite.
    """
    first, second, y = _checked(first, "first"), _checked(second, "second"), _checked(y, "y")
    _check_columns(first, y)
    if first.shape != second.shape:
        raise ValueError(f"second: expected a row for each of first, shape {first.shape}, found {second.shape}")
    within = _kernel(first, first) - _kernel(second, second)
    return _estimate(within, np.zeros((len(y), len(y))), _kernel(first, y) - _kernel(second, y))


def kid_floor(train: Features, validation: Features) -> Estimate:
    """KID of training against validation images: what a perfect memory of the training set would score.

    It is the noise floor to print beside a generator's KID: smaller differences than its standard error mean nothing.
    """
    return kid(train, validation)


def _checked(features: Features, name: str) -> Features:
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or len(features) < SMALLEST_SAMPLE:
        raise ValueError(f"{name}: expected a (n, d) array with n >= {SMALLEST_SAMPLE}, found shape {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError(f"{name}: expected finite features, found {int((~np.isfinite(features)).sum())} that are not")
    return features


def _check_columns(x: Features, y: Features) -> None:
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features: expected equal numbers of columns, found {x.shape[1]} and {y.shape[1]}")


def _estimate(kernel_x: Features, kernel_y: Features, cross: Features) -> Estimate:
    """The discrepancy of (n, n), (m, m) and (n, m) kernels, or of differences of kernels: all of it is linear."""
    within_x, first_x, second_x = _within(kernel_x)
    within_y, first_y, second_y = _within(kernel_y)
    n, m = cross.shape
    between = cross.mean()
    # (n,) and (m,): the statistic without one row, up to a constant that the jackknife does not see.
    jackknife = _jackknife(first_x - 2 * (cross.sum() - cross.sum(axis=1)) / ((n - 1) * m))
    jackknife += _jackknife(first_y - 2 * (cross.sum() - cross.sum(axis=0)) / ((m - 1) * n))
    centred = cross - cross.mean(axis=0) - cross.mean(axis=1)[:, None] + between
    interaction = np.square(centred).sum() / ((n - 1) * (m - 1))
    second_order = max(second_x + second_y + 4 * interaction / (n * m), 0.0)
    variance = max(jackknife - second_order, second_order)
    return Estimate(float(within_x + within_y - 2 * between), float(np.sqrt(variance)))


def _kernel(x: Features, y: Features) -> Features:
    kernel: Features = x @ y.T
    kernel /= x.shape[1]
    kernel += 1
    return kernel * kernel * kernel


def _within(kernel: Features) -> tuple[float, Features, float]:
    """Mean over pairs i != j; that mean without row i, (n,); variance of its second-order part."""
    n = len(kernel)
    np.fill_diagonal(kernel, 0)
    rows = kernel.sum(axis=1)
    total = rows.sum()
    without = (total - 2 * rows) / ((n - 1) * (n - 2))
    # U-centring (Székely & Rizzo 2014): makes the mean square of the off-diagonal an unbiased estimate.
    centred = kernel - rows / (n - 2) - rows[:, None] / (n - 2) + total / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0)
    degenerate = np.square(centred).sum() / (n * (n - 3))
    return float(total / (n * (n - 1))), without, float(2 * degenerate / (n * (n - 1)))


def _jackknife(without: Features) -> float:
    n = len(without)
    return float((n - 1) / n * np.square(without - without.mean()).sum())
