"""How a trained network bears other sampling than it is scored with: guidance, steps, their spacing, half precision.

One thing is changed at a time, and every variant starts from the same noise and labels as the default, so that
differences are paired image by image.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from torch import Tensor, nn

from evodiff.errors import Interrupted, TrialFailure
from evodiff.evaluation.kid import Estimate, kid, kid_difference
from evodiff.evaluation.score import fixed_batch, generate_like, label_accuracy, reproducible
from evodiff.sampling import SPACINGS, NoiseSchedule, Spacing

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from evodiff.evaluation.score import ScoringInputs
    from evodiff.settings import EvaluationSettings, TrainingSettings

Aspect = Literal["guidance", "steps", "spacing", "precision"]
Precision = Literal["float32", "bfloat16", "float16"]

GUIDANCE: Final = (1.0, 1.5, 2.0, 4.0)
STEPS: Final = (5, 10, 20, 50)
PRECISIONS: Final[dict[Precision, torch.dtype]] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Sampling:
    """How images are drawn from a network."""

    guidance: float
    steps: int
    spacing: Spacing = "log_snr"
    precision: Precision = "float32"

    @classmethod
    def default(cls, evaluation: EvaluationSettings) -> Sampling:
        """Return the sampling that scores rest on."""
        return cls(evaluation.guidance, evaluation.sampler_steps)

    @property
    def calls(self) -> int:
        """How often the network is called for an image."""
        return self.steps * (1 if self.guidance == 1 else 2)


@dataclass(frozen=True)
class VariantScore:
    """What came of sampling in one way, ``aspect`` being what is changed; None where it says nothing.

    ``kid_difference`` is this KID minus the default's, paired; ``image_difference`` the root mean square of the
    difference of pixels, which are in [-1, 1]. ``output_difference``, for another precision, is the root mean square of
    the change of the network's output on noised test images, relative to that of the output. ``problem`` says why
    there is no KID.
    """

    aspect: Aspect
    sampling: Sampling
    kid: Estimate | None = None
    kid_difference: Estimate | None = None
    image_difference: float | None = None
    label_accuracy: float | None = None
    output_difference: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Robustness:
    """The default sampling, and what came of each variant; the default stands among the variants of every aspect."""

    samples: int
    default: Sampling
    variants: tuple[VariantScore, ...]
    feature_net: str

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def variants(evaluation: EvaluationSettings, *, labelled: bool) -> list[tuple[Aspect, Sampling]]:
    """Return what is tried, one aspect after the other and each in order; guidance only where there are labels."""
    default = Sampling.default(evaluation)
    found: list[tuple[Aspect, Sampling]] = []
    if labelled:
        scales = sorted({*GUIDANCE, default.guidance})
        found += [("guidance", replace(default, guidance=scale)) for scale in scales]
    found += [("steps", replace(default, steps=steps)) for steps in sorted({*STEPS, default.steps})]
    found += [("spacing", replace(default, spacing=spacing)) for spacing in SPACINGS]
    found += [("precision", replace(default, precision=precision)) for precision in PRECISIONS]
    return found


def network_calls(evaluation: EvaluationSettings, *, labelled: bool) -> int:
    """Return how often :func:`robustness` calls the network for an image, all variants together."""
    default = Sampling.default(evaluation)
    return default.calls + sum(way.calls for _, way in variants(evaluation, labelled=labelled) if way != default)


def robustness(
    network: nn.Module,
    inputs: ScoringInputs,
    *,
    training: TrainingSettings,
    evaluation: EvaluationSettings,
    seed: int,
    device: str = "cpu",
    report: Callable[[dict[str, Any]], None] = lambda content: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Robustness:
    """Judge a trained network under each of :func:`variants`, by ``evaluation.samples`` images each.

    Args:
        network: trained, on any device; its mode is put back afterwards.
        inputs: what it is compared with: test images and the second feature net.
        report: hears {"done", "total"}, in calls of the network for an image.
        should_stop: asked before every variant.

    Raises:
        TrialFailure: an image of the default sampling is infinite or not a number.
        Interrupted: ``should_stop`` said so.
    """
    network = network.to(device)
    was_training = network.training
    network.eval()
    judge = _Judge(network, inputs, training, evaluation, seed, device)
    labelled = inputs.labels is not None
    done, total = judge.default.calls, network_calls(evaluation, labelled=labelled)
    report({"done": 0, "total": total})
    try:
        with reproducible(device):
            judge.draw_default()
            found = []
            for aspect, way in variants(evaluation, labelled=labelled):
                if should_stop():
                    raise Interrupted("The judging of other samplings was stopped.", remedy="Start it again.")
                report({"done": done, "total": total})
                found.append(judge.score(aspect, way))
                done += 0 if way == judge.default else way.calls
    finally:
        network.train(was_training)
    return Robustness(evaluation.samples, judge.default, tuple(found), inputs.feature_net.digest)


class LowPrecision(nn.Module):
    """A network that computes in ``dtype`` behind inputs and outputs in float32; the original is left as it is."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to(dtype)
        self.dtype = dtype

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Map noisy images (batch, channels, height, width) to a prediction of their shape."""
        output: Tensor = self.network(sample.to(self.dtype), timestep, class_labels)
        return output.float()


class _Judge:
    """The network, what it is compared with, and the images of the default sampling."""

    images: Tensor
    features: NDArray[Any]
    at_default: VariantScore

    def __init__(
        self,
        network: nn.Module,
        inputs: ScoringInputs,
        training: TrainingSettings,
        evaluation: EvaluationSettings,
        seed: int,
        device: str,
    ) -> None:
        self.network = network
        self.inputs = inputs
        self.training = training
        self.evaluation = evaluation
        self.seed = seed
        self.device = device
        self.default = Sampling.default(evaluation)

    def draw_default(self) -> None:
        """Draw the images that all others are compared with."""
        self.images, labels = self._draw(self.network, self.default)
        self.features = self.inputs.feature_net.features(self.images)
        self.at_default = VariantScore(
            "steps",
            self.default,
            kid=kid(self.features, self.inputs.features),
            kid_difference=Estimate(0.0, 0.0),
            image_difference=0.0,
            label_accuracy=self._accuracy(self.images, labels),
        )

    def score(self, aspect: Aspect, way: Sampling) -> VariantScore:
        """Return what comes of one variant."""
        if way == self.default:
            unchanged = 0.0 if aspect == "precision" else None
            return replace(self.at_default, aspect=aspect, output_difference=unchanged)
        try:
            network, output_difference = self._in_precision(way.precision)
            images, labels = self._draw(network, way)
        except (TrialFailure, _Unsupported) as reason:
            return VariantScore(aspect, way, problem=str(reason))
        features = self.inputs.feature_net.features(images)
        return VariantScore(
            aspect,
            way,
            kid=kid(features, self.inputs.features),
            kid_difference=kid_difference(features, self.features, self.inputs.features),
            image_difference=_root_mean_square(images - self.images),
            label_accuracy=self._accuracy(images, labels),
            output_difference=output_difference,
        )

    def _draw(self, network: nn.Module, way: Sampling) -> tuple[Tensor, Tensor | None]:
        changed = {"guidance": way.guidance, "sampler_steps": way.steps}
        return generate_like(
            network,
            self.inputs.images,
            self.inputs.labels,
            training=self.training,
            evaluation=self.evaluation.model_copy(update=changed),
            seed=self.seed,
            device=self.device,
            spacing=way.spacing,
        )

    def _accuracy(self, images: Tensor, labels: Tensor | None) -> float | None:
        return None if labels is None else label_accuracy(self.inputs.feature_net, images, labels)

    def _in_precision(self, precision: Precision) -> tuple[nn.Module, float | None]:
        """Return the network in that precision, and by how much its output differs.

        Raises:
            _Unsupported: the device cannot compute in it.
            TrialFailure: an output is infinite or not a number.
        """
        if precision == "float32":
            return self.network, None
        try:
            network = LowPrecision(self.network, PRECISIONS[precision])
            difference = self._output_difference(network)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError) as error:  # what torch says of kernels, or types, that a device has not got
            reason = str(error).partition("\n")[0]
            raise _Unsupported(f"{self.device} does not compute in {precision}: {reason}") from error
        if not math.isfinite(difference):
            raise TrialFailure("non-finite output", f"in {precision}, on noised test images")
        return network, difference

    @torch.inference_mode()
    def _output_difference(self, network: nn.Module) -> float:
        schedule = NoiseSchedule.named(self.training.noise_schedule)
        batch = fixed_batch(self.inputs, schedule, self.evaluation.loss_batch)
        schedule = schedule.to(self.device)
        squares = torch.zeros(2, dtype=torch.float64)
        for start in range(0, len(batch.x0), self.evaluation.batch_size):
            x0, noise, t, labels = batch.rows(slice(start, start + self.evaluation.batch_size), self.device)
            x_t = schedule.add_noise(x0, noise, t)
            exact, rounded = self.network(x_t, t, labels), network(x_t, t, labels)
            squares += torch.stack([(rounded - exact).square().sum(), exact.square().sum()]).double().cpu()
        changed, whole = squares.tolist()
        return math.sqrt(changed / whole) if whole else math.sqrt(changed)


class _Unsupported(Exception):  # noqa: N818 - the fact, which becomes a remark
    """The device cannot compute in a precision."""


def _root_mean_square(values: Tensor) -> float:
    return math.sqrt(float(values.double().square().mean()))
