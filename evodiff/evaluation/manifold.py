"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) of generated images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from evodiff.evaluation.distances import pairwise_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Features = NDArray[np.float64]


@dataclass(frozen=True)
class ManifoldCounts:
    """How the generated and the real images lie among each other.

    A *ball* is around a real (or generated) image and reaches to its k-th nearest neighbour of the same kind.
    """

    precision: float  # share of generated images that lie in some real ball: do they look real
    recall: float  # share of real images that lie in some generated ball: is everything there
    density: float  # mean number of real balls over a generated image, divided by k; may exceed 1
    coverage: float  # share of real balls that hold a generated image; robust to outliers, unlike recall
    neighbours: int

    def to_json(self) -> dict[str, float]:
        """Return plain JSON."""
        return asdict(self)


def precision_recall_density_coverage(real: Features, generated: Features, k: int = 5) -> ManifoldCounts:
    """Compare two sets of features by nearest neighbours. O((n + m)²) time and memory.

    Of two equally large sets from one distribution the expected density is 1 and the expected coverage about
    1 - 1/2^k, whatever the distribution (Naeem et al. 2020, section 3.2).

    Args:
        real: an (n, d) array, n > k.
        generated: an (m, d) array, m > k.

    Raises:
        ValueError: too few rows for k neighbours.
    """
    if min(len(real), len(generated)) <= k:
        raise ValueError(f"features: expected more than {k} rows on both sides, found {len(real)} and {len(generated)}")
    real_radius = _radius(real, k)
    generated_radius = _radius(generated, k)
    distance = pairwise_distances(real, generated)  # (n, m)
    in_real_ball = distance < real_radius[:, None]
    in_generated_ball = distance < generated_radius[None, :]
    return ManifoldCounts(
        precision=float(in_real_ball.any(axis=0).mean()),
        recall=float(in_generated_ball.any(axis=1).mean()),
        density=float(in_real_ball.sum(axis=0).mean() / k),
        coverage=float(in_real_ball.any(axis=1).mean()),
        neighbours=k,
    )


def _radius(features: Features, k: int) -> Features:
    """(n,) distance of each row to its k-th nearest other row."""
    distance = pairwise_distances(features, features)
    np.fill_diagonal(distance, np.inf)
    radius: Features = np.partition(distance, k - 1, axis=1)[:, k - 1]
    return radius
