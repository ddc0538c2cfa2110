"""Training of a feature network: what makes its features tell good images from bad ones.

Three terms are minimised on shifted and slightly noisy training images x with features f:

1. *Description*: a linear map of f predicts x averaged to 8 x 8 and, on a 4 x 4 grid, how much detail there is
   (mean |x - blur(x)|). Every target varies over good images, so that blurred, noisy, averaged or repeated images move
   the features without throwing them out of all bounds, as features that were taught to detect corruptions would.
2. *Decorrelation*: mean squared correlation of two features. Without it most of the 64 repeat the brightness, and the
   kernel of KID sees few directions with much noise.
3. *Labels*, where there are two classes or more: cross-entropy of a linear map of f.

Without labels the first two remain: a denoising autoencoder with a linear decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evodiff.data.dataset import scale
from evodiff.evaluation.feature_networks import FEATURES, VARIANTS, Variant, build_feature_network

if TYPE_CHECKING:
    from evodiff.data.dataset import ImageDataset

Progress = Callable[[int, int], None]

_BATCH: Final = 64
_LEARNING_RATE: Final = 3e-3
_WARMUP: Final = 20
_NOISE: Final = 0.1  # largest standard deviation of the noise that images are trained with
_DESCRIPTION_WEIGHT: Final = 0.5
_MEASURED: Final = 5000  # images that means and deviations are taken over


@dataclass(frozen=True)
class TrainedNetwork:
    """What training leaves: the network, the map from features to class scores, and how well it does.

    ``accuracy`` is the share of validation images of which the label is found, None without labels; ``explained`` the
    share of the variance of their description (term 1) that the features explain.
    """

    network: nn.Module
    classifier: nn.Linear | None
    mean: Tensor
    deviation: Tensor
    accuracy: float | None
    explained: float


def train_network(
    dataset: ImageDataset, *, variant: Variant, seed: int, progress: Progress | None = None
) -> TrainedNetwork:
    """Train on the training part with one thread; the same bytes on the same CPU type and versions."""
    channels, size, classes = dataset.shape
    pixels, targets = dataset.part("train")
    images = torch.from_numpy(scale(pixels))
    labels = None if targets is None or classes < 2 else torch.from_numpy(targets)
    entropy = int(np.random.SeedSequence([seed, VARIANTS.index(variant)]).generate_state(1, np.uint64)[0] >> 1)
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(entropy)  # layers initialise themselves from the global generator, which is given back
        network = build_feature_network(variant, channels, size)
        describe = _Description(images[:_MEASURED])
        decoder = nn.Linear(FEATURES, describe.values)
        classifier = None if labels is None else nn.Linear(FEATURES, classes)
        parts = [network, decoder] if classifier is None else [network, decoder, classifier]
        parameters = [parameter for part in parts for parameter in part.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE, weight_decay=1e-2)
        generator = torch.Generator().manual_seed(entropy)
        steps = training_steps(size)
        batches = _batches(len(images), generator)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = _LEARNING_RATE * _schedule(step, steps)
            chosen = next(batches)
            seen = _augment(images[chosen], generator)
            features = network(seen)
            loss = _DESCRIPTION_WEIGHT * F.mse_loss(decoder(features), describe(seen)) + _correlation(features)
            if classifier is not None and labels is not None:
                loss = loss + F.cross_entropy(classifier(features), labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
            optimizer.step()
            if progress is not None:
                progress(step + 1, steps)
        network.eval().requires_grad_(False)
        return _measure(dataset, images, network, classifier, decoder, describe)


def training_steps(size: int) -> int:
    """Steps of training: images of up to 16 pixels are learned in fewer."""
    return 200 if size <= 16 else 800


def in_chunks(network: nn.Module, images: Tensor) -> Tensor:
    """Apply a network to (n, ...) images, 256 at once, without gradients."""
    with torch.no_grad():
        return torch.cat([network(chunk) for chunk in torch.split(images, 256)])


class _Description:
    """Term 1's targets for images (n, channels, size, size): (n, values), standardised over the images given first."""

    def __init__(self, images: Tensor) -> None:
        raw = self._raw(images)
        self._mean = raw.mean(0)
        # A pixel that is nearly always the same (the corner of a digit) must not be blown up into noise.
        deviation = raw.std(0)
        coarse = images.shape[1] * 64
        floors = [part.square().mean().sqrt().expand_as(part) for part in (deviation[:coarse], deviation[coarse:])]
        self._deviation = torch.maximum(deviation, 0.5 * torch.cat(floors)).clamp_min(1e-3)
        self.values = raw.shape[1]

    def __call__(self, images: Tensor) -> Tensor:
        return (self._raw(images) - self._mean) / self._deviation

    @staticmethod
    def _raw(images: Tensor) -> Tensor:
        channels = images.shape[1]
        kernel = images.new_tensor([1.0, 2.0, 1.0]) / 4
        kernel = (kernel[:, None] * kernel).expand(channels, 1, 3, 3)
        blurred = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)
        detail = (images - blurred).abs().mean(1, keepdim=True)
        coarse = F.adaptive_avg_pool2d(images, 8)
        return torch.cat([coarse.flatten(1), F.adaptive_avg_pool2d(detail, 4).flatten(1)], dim=1)


def _batches(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of indices, each image once an epoch; what does not fill a batch is left out of the epoch."""
    batch = min(_BATCH, count)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from torch.split(order[: count - count % batch], batch)


def _augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift by up to a sixteenth of the side (at least one pixel) and add noise of a random strength."""
    count, channels, height, width = images.shape
    reach = max(1, height // 16)
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    down, right = torch.randint(0, 2 * reach + 1, (2, count, 1), generator=generator)
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    image = torch.arange(count)[:, None, None, None]
    channel = torch.arange(channels)[None, :, None, None]
    shifted = padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
    strength = _NOISE * torch.rand(count, 1, 1, 1, generator=generator)
    return shifted + strength * torch.randn(shifted.shape, generator=generator)


def _correlation(features: Tensor) -> Tensor:
    """Mean squared correlation of two different features over a batch (n, 64)."""
    standardised = (features - features.mean(0)) / (features.std(0) + 1e-2)
    correlation = standardised.T @ standardised / len(features)
    return (correlation - torch.diag(torch.diag(correlation))).square().mean()


def _schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / _WARMUP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _measure(
    dataset: ImageDataset,
    images: Tensor,
    network: nn.Module,
    classifier: nn.Linear | None,
    decoder: nn.Linear,
    describe: _Description,
) -> TrainedNetwork:
    raw = in_chunks(network, images[:_MEASURED]).double()
    deviation = raw.std(0)
    deviation = torch.maximum(deviation, 1e-3 * deviation.max()).clamp_min(1e-6)
    pixels, labels = dataset.part("validation")
    validation = torch.from_numpy(scale(pixels))
    features = in_chunks(network, validation)
    accuracy = None
    with torch.no_grad():
        truth = describe(validation)
        explained = 1 - float((decoder(features) - truth).square().mean() / truth.var(0).mean())
        if classifier is not None and labels is not None:
            accuracy = float((classifier(features).argmax(1) == torch.from_numpy(labels)).double().mean())
    return TrainedNetwork(network, classifier, raw.mean(0), deviation, accuracy, explained)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums over several threads may come out differently from one machine to the next."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
