from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evodiff.errors import SettingsError
from evodiff.sampling import SPACINGS, NoiseSchedule, scoring_timesteps, spaced_timesteps
from evodiff.sampling.noise import SCHEDULES

LEVELS = {name: NoiseSchedule.named(name) for name in SCHEDULES}


def log_sigma(name):
    return -0.5 * LEVELS[name].snr.log()


@given(
    name=st.sampled_from(SCHEDULES),
    spacing=st.sampled_from(SPACINGS),
    steps=st.integers(2, 300),
    sigma_min=st.floats(0.001, 0.1),
    sigma_max=st.floats(10, 1000),
)
def test_timesteps_are_distinct_falling_and_between_the_noise_levels(name, spacing, steps, sigma_min, sigma_max):
    timesteps = spaced_timesteps(LEVELS[name], steps, spacing, sigma_min=sigma_min, sigma_max=sigma_max)
    assert len(timesteps) == steps
    assert all(first > second for first, second in pairwise(timesteps))
    ends = [int((log_sigma(name) - torch.tensor(sigma).log()).abs().argmin()) for sigma in (sigma_max, sigma_min)]
    assert timesteps[0] <= ends[0] + 1
    assert timesteps[-1] >= ends[1] - 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedules_own_spacing_is_even_in_its_timesteps(name):
    gaps = torch.tensor(spaced_timesteps(LEVELS[name], 20, name)).diff()
    assert gaps.max() - gaps.min() <= 1


def test_another_schedules_spacing_visits_its_noise_levels():
    ours = spaced_timesteps(LEVELS["linear"], 12, "cosine")
    theirs = spaced_timesteps(LEVELS["cosine"], 12, "cosine")
    assert torch.allclose(log_sigma("linear")[ours], log_sigma("cosine")[theirs], atol=0.1)  # whole timesteps
    assert ours != spaced_timesteps(LEVELS["linear"], 12, "linear")


def test_karras_levels_are_even_in_the_seventh_root_of_sigma():
    timesteps = spaced_timesteps(LEVELS["cosine"], 8, "karras", sigma_min=0.05, sigma_max=20)
    roots = (log_sigma("cosine")[timesteps] / 7).exp().tolist()
    assert roots == pytest.approx(np.linspace(20 ** (1 / 7), 0.05 ** (1 / 7), 8), rel=0.01)


@pytest.mark.parametrize("name", SCHEDULES)
def test_scores_rest_on_even_log_noise(name):
    assert scoring_timesteps(LEVELS[name], 10) == spaced_timesteps(LEVELS[name], 10, "log_snr")


def test_an_unknown_spacing_is_refused_by_name():
    with pytest.raises(SettingsError, match=r"expected one of log_snr, karras, .* found 'even'"):
        spaced_timesteps(LEVELS["linear"], 10, "even")
