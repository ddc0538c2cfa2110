"""Fréchet distance between two sets of features (Heusel et al. 2017), in few dimensions and with its floor.

The distance is biased upward where samples are few: two sets of 256 from one Gaussian are 80 apart in 256 dimensions.
It is therefore taken in at most 64 principal components of the reference, and to be read beside
:func:`frechet_floor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evodiff.evaluation.kid import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Features = NDArray[np.float64]


def frechet_distance(x: Features, reference: Features, *, dimensions: int = 64) -> float:
    """Squared Fréchet distance ‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2(Σ₁Σ₂)^½) of the Gaussians fitted to both sets.

    Features are first projected on the principal components of the reference, at most ``dimensions`` and at most
    as many as both sets have degrees of freedom. Directions that the reference lacks are therefore not seen.

    Args:
        x: an (n, d) array, n >= 2.
        reference: an (m, d) array, m >= 2.

    Raises:
        ValueError: shapes do not fit or a feature is not finite.
    """
    if x.ndim != 2 or reference.ndim != 2 or x.shape[1] != reference.shape[1] or min(len(x), len(reference)) < 2:
        raise ValueError(
            f"features: expected (n, d) and (m, d) arrays of two or more rows, found {x.shape} and {reference.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(reference).all()):
        raise ValueError("features: expected finite numbers, found some that are not")
    kept = min(dimensions, x.shape[1], len(x) - 1, len(reference) - 1)
    centre = reference.mean(axis=0)
    variances, axes = np.linalg.eigh(_covariance(reference))
    axes = axes[:, -kept:]
    variances = np.clip(variances[-kept:], 0, None)
    projected = (x - centre) @ axes
    # In its own components the reference has mean zero and a diagonal covariance, so its square root is free.
    root = np.sqrt(variances)
    covariance = _covariance(projected)
    cross = np.linalg.eigvalsh(root[:, None] * covariance * root)
    mean_part = np.square(projected.mean(axis=0)).sum()
    trace_part = np.trace(covariance) + variances.sum() - 2 * np.sqrt(np.clip(cross, 0, None)).sum()
    return float(mean_part + trace_part)


def frechet_floor(
    reference: Features, samples: int, *, dimensions: int = 64, replicates: int = 20, seed: int = 0
) -> Estimate:
    """Mean and standard deviation of the distance between two sets that differ by chance alone.

    ``samples`` rows against as many rows as the reference has, both drawn with replacement from the reference
    (bootstrap), so both sizes are those of the distance that the floor stands beside. Up to a tenth lower than what
    fresh draws from the population would give.
    """
    rng = np.random.default_rng(seed)
    size = len(reference)
    distances = [
        frechet_distance(
            reference[rng.integers(size, size=samples)], reference[rng.integers(size, size=size)], dimensions=dimensions
        )
        for _ in range(replicates)
    ]
    return Estimate(float(np.mean(distances)), float(np.std(distances, ddof=1)))


def _covariance(features: Features) -> Features:
    centred = features - features.mean(axis=0)
    covariance: Features = centred.T @ centred / (len(features) - 1)
    return covariance
