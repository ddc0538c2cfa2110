from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st

from evodiff.errors import SettingsError
from evodiff.evaluation.kid import kid
from evodiff.sampling import NoiseSchedule, dpm_solver_pp_2m, initial_noise, scoring_timesteps
from evodiff.sampling.noise import SCHEDULES

DIFFUSERS_NAMES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
LEVELS = {name: NoiseSchedule.named(name) for name in SCHEDULES}


def solve(mixture, name, noise, steps):
    schedule = LEVELS[name]
    return dpm_solver_pp_2m(mixture.denoiser(schedule), noise, schedule, scoring_timesteps(schedule, steps))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 10, 20])
def test_the_solver_agrees_with_that_of_diffusers_at_every_step(name, steps, mixture):
    schedule = LEVELS[name]
    timesteps = scoring_timesteps(schedule, steps)
    noise = initial_noise(0, 16, mixture.shape)
    seen: list[torch.Tensor] = []

    def denoise(x_t, t):
        seen.append(x_t)
        return mixture.denoiser(schedule)(x_t, t)

    images = dpm_solver_pp_2m(denoise, noise, schedule, timesteps)
    scheduler = DPMSolverMultistepScheduler(
        beta_schedule=DIFFUSERS_NAMES[name], prediction_type="sample", algorithm_type="dpmsolver++"
    )
    scheduler.set_timesteps(timesteps=timesteps)
    assert scheduler.timesteps.tolist() == timesteps
    x = noise
    for timestep, ours in zip(scheduler.timesteps, seen, strict=True):
        torch.testing.assert_close(x, ours, rtol=1e-4, atol=5e-5)
        x = scheduler.step(mixture.denoiser(schedule)(x, timestep.expand(len(x))), timestep, x).prev_sample
    torch.testing.assert_close(x, images, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_ten_steps_reach_what_fifty_reach_on_every_schedule(name, mixture):
    noise = initial_noise(1, 600, mixture.shape)
    few, many = solve(mixture, name, noise, 10), solve(mixture, name, noise, 50)
    # The median, since a few images sit on a watershed between two components and fall to the other side.
    assert (few - many).square().mean(dim=(1, 2, 3)).sqrt().median() < 0.25 * mixture.spread
    truth = mixture.sample(1500, seed=3).flatten(1).numpy()
    distance, reference = kid(few.flatten(1).numpy(), truth), kid(many.flatten(1).numpy(), truth)
    assert abs(distance.value) < 4 * distance.standard_error
    assert abs(distance.value - reference.value) < reference.standard_error


def test_the_stock_lu_spacing_would_fail_this_on_cosine(mixture):
    noise, schedule = initial_noise(1, 600, mixture.shape), LEVELS["cosine"]
    stock = [999, 998, 997, 994, 974, 871, 476, 104, 14, 0]
    few = dpm_solver_pp_2m(mixture.denoiser(schedule), noise, schedule, stock)
    many = solve(mixture, "cosine", noise, 50)
    ours = solve(mixture, "cosine", noise, 10)
    error, our_error = ((images - many).square().mean(dim=(1, 2, 3)).sqrt().median() for images in (few, ours))
    assert error > 2 * our_error


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_error_falls_with_the_square_of_the_step(name, mixture):
    noise = initial_noise(2, 64, mixture.shape).double()
    exact = solve(mixture, name, noise, 250)
    coarse, fine = ((solve(mixture, name, noise, steps) - exact).abs().median() for steps in (15, 30))
    assert fine < coarse / 2.5


@given(
    name=st.sampled_from(SCHEDULES),
    steps=st.integers(2, 300),
    sigma_min=st.floats(0.001, 0.1),
    sigma_max=st.floats(10, 1000),
)
def test_scoring_timesteps_are_distinct_falling_and_inside_the_range(name, steps, sigma_min, sigma_max):
    timesteps = scoring_timesteps(LEVELS[name], steps, sigma_min=sigma_min, sigma_max=sigma_max)
    assert len(timesteps) == steps
    assert all(first > second for first, second in pairwise(timesteps))
    log_sigma = -0.5 * LEVELS[name].snr.log()
    for timestep, sigma in ((timesteps[0], sigma_max), (timesteps[-1], sigma_min)):
        assert abs(timestep - int((log_sigma - torch.tensor(sigma).log()).abs().argmin())) <= 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_ten_scoring_timesteps_are_spaced_evenly_in_log_noise(name):
    timesteps = torch.tensor(scoring_timesteps(LEVELS[name], 10))
    gaps = 0.5 * LEVELS[name].snr[timesteps].log().diff()
    assert gaps.max() < 1.25 * gaps.min()


@pytest.mark.parametrize("steps", [0, 1, 5000])
def test_a_number_of_steps_that_the_range_cannot_hold_is_refused(steps):
    with pytest.raises(SettingsError, match=rf"expected 2 to \d+ .* found {steps}"):
        scoring_timesteps(LEVELS["cosine"], steps)


def test_one_gaussian_is_solved_exactly_in_the_end(mixture):
    """A point mass has a constant denoiser: every solver lands on it."""
    target = torch.full((3, *mixture.shape), 0.25)
    schedule = LEVELS["linear"]
    images = dpm_solver_pp_2m(lambda x, t: target, initial_noise(0, 3, mixture.shape), schedule, [900, 500, 10])
    assert torch.equal(images, target)
