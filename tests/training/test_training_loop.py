"""What a training does, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch
from small_denoiser import CLASSES, SmallDenoiser
from torch import Tensor, nn

from evodiff.architecture.genome import ImageShape
from evodiff.architecture.network import build_network
from evodiff.architecture.zoo import ZOO
from evodiff.errors import TrialFailure
from evodiff.training import train
from evodiff.training.state import tensors_digest

if TYPE_CHECKING:
    from evodiff.sampling.noise import NoiseSchedule
    from evodiff.settings import TrainingSettings


class Exact(nn.Module):
    """Predicts without error what is to be predicted for black images, x_t = σ ε."""

    def __init__(self, schedule: NoiseSchedule, prediction: str) -> None:
        super().__init__()
        self.schedule, self.prediction = schedule, prediction
        self.offset = nn.Parameter(torch.zeros(1))

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        scale = 1 / self.schedule.noise[t]
        if self.prediction == "v_prediction":
            scale = scale * self.schedule.signal[t]
        return scale.view(-1, 1, 1, 1) * x_t + self.offset


@dataclass
class Listening:
    """A denoiser that notes what it is asked."""

    labels: list[Tensor | None] = field(default_factory=list)
    timesteps: list[Tensor] = field(default_factory=list)

    def network(self) -> nn.Module:
        listening = self

        class Network(SmallDenoiser):
            def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
                listening.labels.append(None if labels is None else labels.clone())
                listening.timesteps.append(t.clone())
                return super().forward(x_t, t, labels)

        return Network(seed=1)


class BreaksDown(SmallDenoiser):
    """Returns something that is not finite at its n-th call, or a loss whose gradient is not."""

    def __init__(self, at: int, factor: float) -> None:
        super().__init__(seed=1)
        self.calls, self.at, self.factor = 0, at, factor

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        output = super().forward(x_t, t, labels)
        self.calls += 1
        return output * self.factor if self.calls == self.at + 1 else output


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_a_network_that_knows_the_target_has_no_loss(
    prediction: Any, settings: TrainingSettings, schedule: NoiseSchedule
) -> None:
    black = torch.zeros(10, 1, 4, 4)
    settings = settings.model_copy(update={"prediction": prediction, "learning_rate": 1e-9})
    result = train(Exact(schedule, prediction), black, None, settings, seed=0, schedule=schedule, last_step=10)
    assert max(result.loss_curve) < 1e-9


def test_the_loss_falls(settings: TrainingSettings, schedule: NoiseSchedule) -> None:
    settings = settings.model_copy(update={"learning_rate": 1e-2, "batch_size": 20})
    one_picture = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    result = train(SmallDenoiser(1), one_picture, None, settings, seed=0, schedule=schedule, last_step=200)
    assert result.steps == 200
    assert len(result.loss_curve) == 20
    assert result.loss_curve[-1] < 0.7 * result.loss_curve[0]


def test_the_average_is_published_and_parameters_without_gradient_stay(
    images: Tensor, settings: TrainingSettings, schedule: NoiseSchedule
) -> None:
    network = SmallDenoiser(1)
    first = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    result = train(network, images, None, settings, seed=0, schedule=schedule, last_step=10)
    assert set(result.ema_weights) == set(first)
    assert torch.equal(result.ema_weights["unused"], first["unused"])
    assert not torch.equal(result.ema_weights["last.weight"], first["last.weight"])
    assert not torch.equal(result.ema_weights["last.weight"], network.last.weight)


def test_labels_are_dropped_to_the_null_class(
    images: Tensor, labels: Tensor, settings: TrainingSettings, schedule: NoiseSchedule
) -> None:
    for dropout, expected in ((0.0, {0, 1, 2}), (1.0, {CLASSES}), (0.5, {0, 1, 2, CLASSES})):
        listening = Listening()
        chosen = settings.model_copy(update={"label_dropout": dropout})
        train(listening.network(), images, labels, chosen, seed=0, schedule=schedule, last_step=10, classes=CLASSES)
        seen = {label for batch in listening.labels if batch is not None for label in batch.tolist()}
        assert seen == expected


def test_without_labels_the_network_is_given_none(
    images: Tensor, settings: TrainingSettings, schedule: NoiseSchedule
) -> None:
    listening = Listening()
    train(listening.network(), images, None, settings, seed=0, schedule=schedule, last_step=3)
    assert listening.labels == [None, None, None]
    assert all(t.dtype == torch.int64 and t.shape == (8,) for t in listening.timesteps)


@pytest.mark.parametrize("at", [0, 3, 25])
@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e38])
def test_a_loss_that_is_not_finite_ends_the_trial_and_names_the_step(
    at: int, factor: float, images: Tensor, settings: TrainingSettings, schedule: NoiseSchedule
) -> None:
    with pytest.raises(TrialFailure) as caught:
        train(BreaksDown(at, factor), images, None, settings, seed=0, schedule=schedule, last_step=40)
    assert caught.value.cause == "non_finite_loss"
    assert f"step {at} " in caught.value.detail


def test_weights_ruined_by_the_very_last_step_are_not_published(
    images: Tensor, settings: TrainingSettings, schedule: NoiseSchedule
) -> None:
    class Ruined(SmallDenoiser):
        def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
            output = super().forward(x_t, t, labels)
            root = (self.unused - self.unused).sum().sqrt()  # 0, with an infinite gradient
            return output + root * 0 if bool((self.first.weight != start).any()) else output

    network = Ruined(seed=1)
    start = network.first.weight.detach().clone()
    with pytest.raises(TrialFailure, match="non_finite_loss: the weights after step 1 are not finite"):
        train(network, images, None, settings, seed=0, schedule=schedule, last_step=2)


def test_a_trial_far_behind_the_reference_is_stopped_at_a_quarter(
    images: Tensor, settings: TrainingSettings, schedule: NoiseSchedule
) -> None:
    steps: list[int] = []
    with pytest.raises(TrialFailure, match="stopped_early: after 10 of 40 steps"):
        train(
            SmallDenoiser(1),
            images,
            None,
            settings,
            seed=0,
            schedule=schedule,
            last_step=40,
            reference_curve=[1e-3] * 20,
            should_stop=lambda: steps.append(0) is not None,
        )
    assert len(steps) == 10


def test_a_trial_as_good_as_the_reference_is_trained_to_the_end(
    images: Tensor, settings: TrainingSettings, schedule: NoiseSchedule
) -> None:
    def trained(reference: list[float] | None) -> Any:
        return train(
            SmallDenoiser(1),
            images,
            None,
            settings,
            seed=0,
            schedule=schedule,
            last_step=40,
            reference_curve=reference,
        )

    free = trained(None)
    assert tensors_digest(trained(free.loss_curve).ema_weights) == tensors_digest(free.ema_weights)


def test_progress_names_step_steps_and_loss(
    images: Tensor, settings: TrainingSettings, schedule: NoiseSchedule
) -> None:
    heard: list[dict[str, Any]] = []
    train(SmallDenoiser(1), images, None, settings, seed=0, schedule=schedule, last_step=5, report=heard.append)
    assert heard[0]["step"] == 1
    assert heard[0]["steps"] == 5
    assert 0 < heard[0]["loss"] < 10


def test_what_torch_was_told_before_holds_again_afterwards(
    images: Tensor, settings: TrainingSettings, schedule: NoiseSchedule
) -> None:
    network = SmallDenoiser(1)
    torch.set_num_threads(2)
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.random.get_rng_state()
    train(network, images, None, settings, seed=0, schedule=schedule, last_step=2)
    after = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.random.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_two_trials_give_the_same_bytes_in_both_orders(
    prediction: Any, settings: TrainingSettings, schedule: NoiseSchedule
) -> None:
    shape = ImageShape(1, 8, 10)
    generator = torch.Generator().manual_seed(3)
    pictures, classes = torch.rand(30, 1, 8, 8, generator=generator) * 2 - 1, torch.arange(30) % 10
    settings = settings.model_copy(update={"prediction": prediction})

    def trial(name: str, seed: int) -> str:
        network = build_network(ZOO[name](shape), shape, seed=seed)
        result = train(network, pictures, classes, settings, seed=seed, schedule=schedule, last_step=4, classes=10)
        return tensors_digest(result.state.tensors) + tensors_digest(result.ema_weights)

    forward = [trial("ddpm_unet_small", 1), trial("uvit", 2)]
    torch.manual_seed(1234)
    torch.set_num_threads(2)
    backward = [trial("uvit", 2), trial("ddpm_unet_small", 1)]
    assert forward == backward[::-1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_trains_on_the_same_chances(
    images: Tensor, labels: Tensor, settings: TrainingSettings, schedule: NoiseSchedule
) -> None:
    curves = [
        train(SmallDenoiser(1).to(device), images, labels, settings, seed=0, schedule=schedule, last_step=30).loss_curve
        for device in ("cpu", "cuda")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
