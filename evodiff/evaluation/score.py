"""The score that a search trial is judged by: KID of a few hundred generated images, and the denoising loss."""

from __future__ import annotations

import hashlib
import math
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # ships no type information
from torch import Tensor, nn

from evodiff.data import scale
from evodiff.errors import TrialFailure
from evodiff.evaluation.kid import Estimate, kid, kid_floor
from evodiff.sampling import NoiseSchedule, balanced_labels, generate, initial_noise, spaced_timesteps
from evodiff.training.determinism import deterministic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from evodiff.data import ImageDataset
    from evodiff.data.dataset import Part
    from evodiff.sampling import Spacing
    from evodiff.settings import EvaluationSettings, TrainingSettings

_LOSS_SEED = 0


class Features(Protocol):
    """What scoring asks of a feature net."""

    @property
    def digest(self) -> str:
        """SHA-256 of its weights: scores compare under one digest only."""

    def features(self, images: Tensor) -> NDArray[np.float64]:
        """(n, channels, height, width) float32 in [-1, 1] to (n, d), standardised by the training set."""

    def probabilities(self, images: Tensor) -> NDArray[np.floating[Any]]:
        """The same images to (n, classes)."""


@dataclass(frozen=True, eq=False)
class ScoringInputs:
    """What networks are scored against; made once a process by :func:`scoring_inputs`.

    ``images`` (n, channels, height, width) float32 in [-1, 1] and ``labels`` (n,) long are a part of the dataset,
    ``features`` (n, d) what the feature net makes of it.
    """

    feature_net: Features
    images: Tensor
    labels: Tensor | None
    features: NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """What a trained network is worth; smaller is better but for ``label_accuracy``.

    ``kid`` may be negative. ``label_accuracy`` is the share of images that the feature net takes for the label they
    were asked for. ``images`` is the SHA-256 of the generated images, ``feature_net`` that of the net.
    """

    kid: float
    kid_standard_error: float
    denoising_loss: float
    label_accuracy: float | None
    images: str
    feature_net: str

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def scoring_inputs(dataset: ImageDataset, feature_net: Features, name: Part = "validation") -> ScoringInputs:
    """Prepare a part of a dataset for scoring: the search's by default, ``test`` for reports."""
    images, labels = part(dataset, name)
    with reproducible():
        return ScoringInputs(feature_net, images, labels, feature_net.features(images))


def noise_floor(dataset: ImageDataset, feature_net: Features) -> Estimate:
    """KID of the training against the validation part, to be printed beside every KID."""
    with reproducible():
        train = feature_net.features(part(dataset, "train")[0])
        return kid_floor(train, feature_net.features(part(dataset, "validation")[0]))


def score(
    network: nn.Module,
    inputs: ScoringInputs,
    *,
    training: TrainingSettings,
    evaluation: EvaluationSettings,
    seed: int,
    device: str = "cpu",
) -> Score:
    """Judge a trained network; on the CPU the same arguments give the same bytes, whatever ran before.

    1. ``evaluation.samples`` images are generated from the noise of ``seed`` with the class balance of the inputs, and
       their features compared with those of the inputs.
    2. The loss is the mean squared error of the network's output on one batch of the inputs' images, the same
       for every network and seed: noise levels evenly spread, no weighting.

    Networks that are scored with one ``seed`` start from the same noise, which takes part of the chance out of their
    comparison.

    Raises:
        TrialFailure: an image or the loss is infinite or not a number.
    """
    network = network.to(device)
    was_training = network.training
    network.eval()
    try:
        with reproducible(device):
            loss = denoising_loss(network, inputs, training, evaluation, device=device)
            images, labels = generate_like(
                network,
                inputs.images,
                inputs.labels,
                training=training,
                evaluation=evaluation,
                seed=seed,
                device=device,
            )
            estimate = kid(inputs.feature_net.features(images), inputs.features)
            accuracy = None if labels is None else label_accuracy(inputs.feature_net, images, labels)
    finally:
        network.train(was_training)
    return Score(
        kid=estimate.value,
        kid_standard_error=estimate.standard_error,
        denoising_loss=loss,
        label_accuracy=accuracy,
        images=hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest(),
        feature_net=inputs.feature_net.digest,
    )


def generate_like(
    network: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    *,
    training: TrainingSettings,
    evaluation: EvaluationSettings,
    seed: int,
    device: str = "cpu",
    samples: int | None = None,
    spacing: Spacing = "log_snr",
) -> tuple[Tensor, Tensor | None]:
    """Generate images of the shape and the class balance of real ones by the scoring sampler.

    ``samples`` defaults to ``evaluation.samples``; scores rest on the default ``spacing`` of its steps. Returns the
    images, in [-1, 1] on the CPU, and their labels.

    Raises:
        TrialFailure: an image is infinite or not a number.
    """
    count = evaluation.samples if samples is None else samples
    schedule = NoiseSchedule.named(training.noise_schedule)
    channels, height, width = images.shape[1:]
    wanted = None if labels is None else balanced_labels(labels, count)
    generated = generate(
        network,
        initial_noise(seed, count, (channels, height, width)),
        wanted,
        schedule=schedule,
        prediction=training.prediction,
        timesteps=spaced_timesteps(
            schedule,
            evaluation.sampler_steps,
            spacing,
            sigma_min=evaluation.sigma_min,
            sigma_max=evaluation.sigma_max,
        ),
        guidance=evaluation.guidance,
        batch_size=evaluation.batch_size,
        device=device,
    )
    return generated, wanted


def part(dataset: ImageDataset, name: Part) -> tuple[Tensor, Tensor | None]:
    """One part of a dataset as a network takes it: images float32 in [-1, 1], labels long."""
    images, labels = dataset.part(name)
    return torch.from_numpy(scale(images)), None if labels is None else torch.from_numpy(labels)


@contextmanager
def reproducible(device: str = "cpu") -> Iterator[None]:
    """Compute with one thread and deterministic kernels on the CPU.

    The order of sums, and with it their last bits, is otherwise the threads' affair, in numpy's products as in torch's.
    """
    with deterministic(torch.device(device)), threadpool_limits(1, user_api="blas"):
        yield


@dataclass(frozen=True, eq=False)
class FixedBatch:
    """Images x_0, noise, timesteps and labels that every network is asked about: (n, channels, height, width), (n,)."""

    x0: Tensor
    noise: Tensor
    t: Tensor
    labels: Tensor | None

    def rows(self, rows: slice, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return some rows of all four on a device."""
        labels = None if self.labels is None else self.labels[rows].to(device)
        return self.x0[rows].to(device), self.noise[rows].to(device), self.t[rows].to(device), labels


def fixed_batch(inputs: ScoringInputs, schedule: NoiseSchedule, count: int) -> FixedBatch:
    """Return ``count`` images of the inputs with noise, the same ones every time, timesteps evenly spread."""
    rng = np.random.default_rng(_LOSS_SEED)
    chosen = torch.from_numpy(np.resize(rng.permutation(len(inputs.images)), count))
    strata = (torch.arange(count) + 0.5) / count
    channels, height, width = inputs.images.shape[1:]
    return FixedBatch(
        x0=inputs.images[chosen],
        noise=initial_noise(_LOSS_SEED, count, (channels, height, width)),
        t=(strata * schedule.timesteps).long(),
        labels=None if inputs.labels is None else inputs.labels[chosen],
    )


@torch.inference_mode()
def denoising_loss(
    network: nn.Module,
    inputs: ScoringInputs,
    training: TrainingSettings,
    evaluation: EvaluationSettings,
    *,
    device: str,
    count: int | None = None,
) -> float:
    """Return the mean squared error on the fixed batch: ``count`` validation images, by default ``loss_batch``.

    Raises:
        TrialFailure: it is infinite or not a number.
    """
    schedule = NoiseSchedule.named(training.noise_schedule)
    batch = fixed_batch(inputs, schedule, evaluation.loss_batch if count is None else count)
    count = len(batch.x0)
    schedule = schedule.to(device)
    total = 0.0
    for start in range(0, count, evaluation.batch_size):
        x0, noise, t, labels = batch.rows(slice(start, start + evaluation.batch_size), device)
        output = network(schedule.add_noise(x0, noise, t), t, labels)
        target = schedule.target(training.prediction, x0, noise, t)
        total += float((output - target).square().mean(dim=(1, 2, 3)).sum().item())
    if not math.isfinite(total):
        raise TrialFailure("non-finite loss", "on the fixed batch of images")
    return total / count


def label_accuracy(feature_net: Features, images: Tensor, labels: Tensor) -> float:
    """Share of images that the feature net takes for their label."""
    return float((feature_net.probabilities(images).argmax(axis=1) == labels.numpy()).mean())
