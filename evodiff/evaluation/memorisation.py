"""Does a generator repeat its training images? Nearest neighbours, judged by how test images fare."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evodiff.evaluation.distances import pairwise_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Features = NDArray[np.float64]


@dataclass(frozen=True)
class Memorisation:
    """How much nearer to the training images the generated ones are than unseen real ones.

    ``share`` of the generated images are nearer, relative to their neighbourhood, than ``expected_share`` of the test
    images: than ``threshold``, as the ratio of its distance to the mean one of its ``neighbourhood`` nearest training
    images. ``standard_error`` is that of ``share`` if nothing is memorised. ``nearest``, (n,), names for each generated
    image the nearest training image, ``nearest_distance`` how far it is, and ``relative_distance`` the same relative to
    the neighbourhood.
    """

    share: float
    expected_share: float
    standard_error: float
    threshold: float
    neighbourhood: int
    median_distance: float
    median_test_distance: float
    nearest: NDArray[np.int64]
    nearest_distance: NDArray[np.float64]
    relative_distance: NDArray[np.float64]

    @property
    def excess(self) -> float:
        """Share of the generated images that chance does not explain, in standard errors."""
        return (self.share - self.expected_share) / self.standard_error

    @property
    def copies(self) -> bool:
        """Whether images were memorised: an excess of more than three standard errors."""
        return self.excess > 3

    def closest(self, count: int) -> NDArray[np.int64]:
        """Which generated images are most like copies, worst first: what a report shows beside their ``nearest``."""
        return np.argsort(self.relative_distance, kind="stable")[:count]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, without the neighbours."""
        return {
            "share": self.share,
            "expected_share": self.expected_share,
            "standard_error": self.standard_error,
            "threshold": self.threshold,
            "neighbourhood": self.neighbourhood,
            "median_distance": self.median_distance,
            "median_test_distance": self.median_test_distance,
            "copies": self.copies,
        }


def memorisation(
    generated: Features, train: Features, test: Features, *, quantile: float = 0.05, neighbourhood: int = 3
) -> Memorisation:
    """Compare the distances of generated and of test images to the training set (after Meehan et al. 2020).

    1. The distance of an image is that to its nearest training image over the mean of those to its ``neighbourhood``
       nearest ones (in the manner of Carlini et al. 2023, section 5.1). Of few neighbours such a ratio hardly depends
       on how densely the images lie (Facco et al. 2017): an image of little contrast is near to everything, but a
       copy is near to one image only. Noisy copies are told best by few neighbours too.
    2. The threshold is the ``quantile`` of the test images' distances.
    3. The share of generated images below it is binomial around ``quantile`` if nothing is memorised; the threshold's
       own noise is counted in its standard error, √(q(1-q)(1/n + 1/m)).

    Args:
        generated: an (n, d) array of features, or of pixels.
        train: an (N, d) array, N > 1.
        test: an (m, d) array of images that were not trained on.
    """
    neighbourhood = min(neighbourhood, len(train))
    nearest, plain, relative = _nearest(generated, train, neighbourhood)
    _, test_plain, test_relative = _nearest(test, train, neighbourhood)
    threshold = float(np.quantile(test_relative, quantile))
    return Memorisation(
        share=float((relative < threshold).mean()),
        expected_share=quantile,
        standard_error=math.sqrt(quantile * (1 - quantile) * (1 / len(generated) + 1 / len(test))),
        threshold=threshold,
        neighbourhood=neighbourhood,
        median_distance=float(np.median(plain)),
        median_test_distance=float(np.median(test_plain)),
        nearest=nearest,
        nearest_distance=plain,
        relative_distance=relative,
    )


def _nearest(x: Features, train: Features, neighbourhood: int) -> tuple[NDArray[np.int64], Features, Features]:
    """Nearest training row of each x, (n,), its distance, and that distance relative to the neighbourhood."""
    distance = pairwise_distances(x, train)
    nearest = distance.argmin(axis=1)
    plain = distance[np.arange(len(x)), nearest]
    around = np.partition(distance, neighbourhood - 1, axis=1)[:, :neighbourhood].mean(axis=1)
    # A neighbourhood without extent is one of copies: relative distance 0.
    relative = np.divide(plain, around, out=np.zeros_like(plain), where=around > 0)
    return nearest, plain, relative
