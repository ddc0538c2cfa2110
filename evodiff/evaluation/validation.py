"""Validation of a trained network for reports: test images, and a feature net that the search never saw."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evodiff.data import unscale
from evodiff.data.png import encode_png
from evodiff.evaluation.frechet import frechet_distance, frechet_floor
from evodiff.evaluation.kid import Estimate, kid, kid_floor
from evodiff.evaluation.manifold import ManifoldCounts, precision_recall_density_coverage
from evodiff.evaluation.memorisation import Memorisation, memorisation
from evodiff.evaluation.score import generate_like, label_accuracy, part, reproducible

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from evodiff.data import ImageDataset
    from evodiff.evaluation.score import Features
    from evodiff.settings import EvaluationSettings, TrainingSettings

DIMENSIONS = 64
CLOSEST_PAIRS = 8  # of a generated image and its nearest training image, kept to be looked at


@dataclass(frozen=True, eq=False)
class Validation:
    """How a trained network fares on test images.

    ``manifold_floor`` and the other floors are what unseen real images would score in the place of the generated
    ones, or, for the Fréchet distance, what as many images of the same distribution would. For the manifold they are
    training images, as many as were generated or all there are: recall and coverage grow with their number.

    ``images``, (n, channels, height, width) float32 in [-1, 1], are the generated ones and ``labels``, (n,), what was
    asked for; ``nearest_images``, shaped alike, are the training images nearest to each, by the feature net.
    ``memorisation.closest`` says which pairs are worth a look.
    """

    samples: int
    kid: Estimate
    kid_floor: Estimate
    frechet_distance: float
    frechet_floor: Estimate
    frechet_dimensions: int
    manifold: ManifoldCounts
    manifold_floor: ManifoldCounts
    memorisation: Memorisation
    label_accuracy: float | None
    feature_net: str
    images: Tensor
    nearest_images: Tensor
    labels: NDArray[np.int64] | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: the numbers, and of the pictures only the pairs that look most like copies.

        ``memorisation.closest`` lists these, the likeliest copy first, with both images as PNG in base64.
        """
        return {
            "samples": self.samples,
            "kid": self.kid.to_json(),
            "kid_floor": self.kid_floor.to_json(),
            "frechet_distance": self.frechet_distance,
            "frechet_floor": self.frechet_floor.to_json(),
            "frechet_dimensions": self.frechet_dimensions,
            "manifold": self.manifold.to_json(),
            "manifold_floor": self.manifold_floor.to_json(),
            "memorisation": {**self.memorisation.to_json(), "closest": self._closest()},
            "label_accuracy": self.label_accuracy,
            "feature_net": self.feature_net,
        }

    def _closest(self) -> list[dict[str, Any]]:
        return [
            {
                "distance": float(self.memorisation.nearest_distance[index]),
                "relative_distance": float(self.memorisation.relative_distance[index]),
                "generated_png": _base64_png(self.images[index]),
                "training_png": _base64_png(self.nearest_images[index]),
            }
            for index in self.memorisation.closest(CLOSEST_PAIRS)
        ]


def _some(features: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """Draw ``count`` rows of (n, d) features, or all of them, never one twice: twins would have no neighbourhood."""
    return features[np.random.default_rng(seed).permutation(len(features))[:count]]


def _base64_png(image: Tensor) -> str:
    """Encode an image (channels, height, width) in [-1, 1]."""
    return base64.b64encode(encode_png(unscale(image.numpy()).transpose(1, 2, 0))).decode("ascii")


def validate(
    network: nn.Module,
    dataset: ImageDataset,
    feature_net: Features,
    *,
    training: TrainingSettings,
    evaluation: EvaluationSettings,
    seed: int,
    samples: int = 2000,
    neighbours: int = 5,
    device: str = "cpu",
) -> Validation:
    """Judge a trained network by the test images of its dataset.

    Args:
        network: trained, on any device; its mode is put back afterwards.
        feature_net: the second one, variant ``report``.
        samples: generated images.
        neighbours: k of precision, recall, density and coverage.

    Raises:
        TrialFailure: an image is infinite or not a number.
    """
    train_images, _ = part(dataset, "train")
    test_images, test_labels = part(dataset, "test")
    network = network.to(device)
    was_training = network.training
    network.eval()
    try:
        with reproducible(device):
            images, labels = generate_like(
                network,
                test_images,
                test_labels,
                training=training,
                evaluation=evaluation,
                seed=seed,
                device=device,
                samples=samples,
            )
            generated, train, test = (feature_net.features(batch) for batch in (images, train_images, test_images))
            dimensions = min(DIMENSIONS, test.shape[1], len(test) - 1, samples - 1)
            neighbour = memorisation(generated, train, test)
            return Validation(
                samples=samples,
                kid=kid(generated, test),
                kid_floor=kid_floor(train, test),
                frechet_distance=frechet_distance(generated, test, dimensions=dimensions),
                frechet_floor=frechet_floor(test, samples, dimensions=dimensions, seed=seed),
                frechet_dimensions=dimensions,
                manifold=precision_recall_density_coverage(test, generated, neighbours),
                manifold_floor=precision_recall_density_coverage(test, _some(train, samples, seed), neighbours),
                memorisation=neighbour,
                label_accuracy=None if labels is None else label_accuracy(feature_net, images, labels),
                feature_net=feature_net.digest,
                images=images,
                nearest_images=train_images[neighbour.nearest],
                labels=None if labels is None else labels.numpy(),
            )
    finally:
        network.train(was_training)
