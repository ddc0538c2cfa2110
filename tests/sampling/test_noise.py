from __future__ import annotations

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from evodiff.errors import SettingsError
from evodiff.sampling import NoiseSchedule
from evodiff.sampling.noise import SCHEDULES

DIFFUSERS_NAMES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
TIMESTEPS = torch.tensor([0, 1, 250, 500, 900, 999])


def images(seed: int) -> torch.Tensor:
    return torch.randn((len(TIMESTEPS), 3, 4, 4), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SCHEDULES)
def test_betas_are_those_of_diffusers(name):
    schedule = NoiseSchedule.named(name)
    theirs = DDPMScheduler(beta_schedule=DIFFUSERS_NAMES[name])
    assert torch.equal(schedule.betas.float(), theirs.betas)
    torch.testing.assert_close(schedule.alphas_cumprod.float(), theirs.alphas_cumprod, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_noise_and_velocity_are_those_of_diffusers(name):
    schedule = NoiseSchedule.named(name)
    theirs = DDPMScheduler(beta_schedule=DIFFUSERS_NAMES[name])
    x0, noise = images(0), images(1)
    # Theirs is float32 throughout, which loses 3e-4 of the smallest noise level, ours is not.
    torch.testing.assert_close(
        schedule.add_noise(x0, noise, TIMESTEPS), theirs.add_noise(x0, noise, TIMESTEPS), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        schedule.velocity(x0, noise, TIMESTEPS), theirs.get_velocity(x0, noise, TIMESTEPS), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_the_target_of_a_prediction_type_converts_back_to_the_image(name, prediction):
    schedule = NoiseSchedule.named(name)
    t = TIMESTEPS[:-1] if prediction == "epsilon" else TIMESTEPS  # at the last step nothing of the image is left
    x0, noise = images(0)[: len(t)], images(1)[: len(t)]
    x_t = schedule.add_noise(x0, noise, t)
    target = schedule.target(prediction, x0, noise, t)
    torch.testing.assert_close(schedule.to_x0(prediction, target, x_t, t), x0, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_signal_to_noise_ratio_is_that_of_the_squared_factors_and_falls(name):
    schedule = NoiseSchedule.named(name)
    expected = schedule.signal.square() / schedule.noise.square()
    torch.testing.assert_close(schedule.snr.float(), expected, rtol=1e-6, atol=0)
    assert (schedule.snr.diff() < 0).all()


def test_an_unknown_schedule_is_refused_with_the_names_there_are():
    with pytest.raises(SettingsError, match="expected one of linear, scaled_linear, cosine, found 'sigmoid'"):
        NoiseSchedule.named("sigmoid")
