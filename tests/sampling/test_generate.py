from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evodiff.errors import TrialFailure
from evodiff.sampling import NoiseSchedule, balanced_labels, denoiser, generate, initial_noise, scoring_timesteps

SCHEDULE = NoiseSchedule.named("linear")
SETTINGS = {"schedule": SCHEDULE, "prediction": "v_prediction", "timesteps": scoring_timesteps(SCHEDULE, 10)}


class Labelled(nn.Module):
    """A small network whose output depends on image, time and label."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 1, 3, padding=1)
        self.label = nn.Embedding(11, 16)

    def forward(self, x, t, labels):
        labels = torch.full((len(x),), 10) if labels is None else labels
        hidden = self.first(x) + (self.label(labels) + (t / 1000)[:, None])[:, :, None, None]
        return self.second(torch.tanh(hidden))


def test_an_image_has_the_same_noise_wherever_it_is_drawn():
    all_at_once = initial_noise(5, 20, (1, 8, 8))
    assert torch.equal(initial_noise(5, 3, (1, 8, 8)), all_at_once[:3])
    assert torch.equal(initial_noise(5, 6, (1, 8, 8), first=14), all_at_once[14:])
    assert not torch.equal(initial_noise(6, 20, (1, 8, 8)), all_at_once)
    assert len({row.numpy().tobytes() for row in all_at_once}) == 20


def test_initial_noise_is_standard_normal_and_independent_between_images_and_seeds():
    noise = initial_noise(0, 2000, (1, 8, 8)).flatten(1).numpy().astype(np.float64)
    count = noise.size
    assert abs(noise.mean()) < 4 / math.sqrt(count)
    assert abs(np.square(noise).mean() - 1) < 4 * math.sqrt(2 / count)
    assert abs((noise**4).mean() - 3) < 4 * math.sqrt(96 / count)
    pairs = noise[:-1] * noise[1:]
    assert abs(pairs.mean()) < 4 / math.sqrt(pairs.size)
    other = initial_noise(1, 2000, (1, 8, 8)).flatten(1).numpy()
    assert abs((noise * other).mean()) < 4 / math.sqrt(count)


def test_a_seed_may_be_any_whole_number_that_a_trial_has():
    assert not torch.equal(initial_noise(2**127 + 1, 2, (1, 4, 4)), initial_noise(2**127, 2, (1, 4, 4)))


@pytest.mark.parametrize("batch_size", [1, 7, 16, 40])
def test_an_image_does_not_depend_on_its_batch_beyond_rounding(batch_size):
    network, noise = Labelled(), initial_noise(0, 40, (1, 8, 8))
    labels = torch.arange(40) % 10
    together = generate(network, noise, labels, **SETTINGS, batch_size=40)
    apart = generate(network, noise, labels, **SETTINGS, batch_size=batch_size)
    torch.testing.assert_close(apart, together, rtol=0, atol=1e-5)
    assert torch.equal(generate(network, noise, labels, **SETTINGS, batch_size=batch_size), apart)


def test_images_lie_between_minus_one_and_one_and_labels_matter():
    network, noise = Labelled(), initial_noise(0, 8, (1, 8, 8))
    images = generate(network, noise, torch.zeros(8, dtype=torch.long), **SETTINGS)
    assert images.shape == noise.shape
    assert images.abs().max() <= 1
    assert not torch.equal(images, generate(network, noise, torch.ones(8, dtype=torch.long), **SETTINGS))


def test_guidance_moves_the_prediction_along_what_the_label_changes():
    network, x_t, t = Labelled(), initial_noise(0, 4, (1, 8, 8)), torch.full((4,), 500)
    labels = torch.arange(4)
    with torch.no_grad():
        plain, null = (denoiser(network, SCHEDULE, "v_prediction", which)(x_t, t) for which in (labels, None))
        guided = denoiser(network, SCHEDULE, "v_prediction", labels, guidance=3.0)(x_t, t)
    torch.testing.assert_close(guided, null + 3 * (plain - null))
    with torch.no_grad():
        unguided = denoiser(network, SCHEDULE, "v_prediction", labels, guidance=1.0)(x_t, t)
    assert torch.equal(unguided, plain)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_images_that_are_not_finite_fail_the_trial(value):
    def network(x, t, labels):
        return torch.where((torch.arange(len(x)) == 2)[:, None, None, None], value, 0.1 * x)

    with pytest.raises(TrialFailure, match="non-finite samples: 1 of 5"):
        generate(network, initial_noise(0, 5, (1, 4, 4)), None, **SETTINGS)


@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=12),
    count=st.integers(1, 700),
)
def test_labels_follow_the_class_balance_to_the_nearest_image_and_so_does_their_beginning(sizes, count):
    labels = torch.repeat_interleave(torch.arange(len(sizes)) + 3, torch.tensor(sizes))
    result = balanced_labels(labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))], count)
    assert result.dtype == torch.long
    assert len(result) == count
    share = np.array(sizes) / sum(sizes)
    for length in (count, count // 2):
        found = np.bincount(result[:length].numpy() - 3, minlength=len(sizes))
        assert np.abs(found - share * length).max() < (1 if length == count else 2)
