"""The chances of a training step."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from evodiff.training.draws import StepDraw, StepDraws

SHAPE = (2, 3, 3)


def draws(seed: int = 0, *, count: int = 20, batch_size: int = 8, label_dropout: float = 0.1) -> StepDraws:
    return StepDraws(seed, count=count, shape=SHAPE, batch_size=batch_size, timesteps=1000, label_dropout=label_dropout)


def equal(first: StepDraw, second: StepDraw) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in vars(first))


@given(seed=st.integers(0, 2**64), steps=st.lists(st.integers(0, 200), min_size=1, max_size=5))
def test_a_step_depends_on_seed_and_step_alone_not_on_what_was_drawn_before(seed: int, steps: list[int]) -> None:
    together = draws(seed)
    assert all(equal(together.step(k), draws(seed).step(k)) for k in steps)


def test_steps_and_seeds_differ() -> None:
    drawn = [draws(seed).step(k) for seed in range(3) for k in range(3)]
    assert len({draw.noise.numpy().tobytes() for draw in drawn}) == 9
    assert len({draw.timesteps.numpy().tobytes() for draw in drawn}) == 9


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_every_epoch_shows_every_image_once(count: int, batch_size: int) -> None:
    source = draws(count=count, batch_size=batch_size)
    steps = -(-3 * count // batch_size)
    shown = torch.cat([source.step(k).images for k in range(steps)])
    for epoch in range(3):
        assert sorted(shown[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))


def test_epochs_are_shuffled_differently() -> None:
    source = draws(count=20, batch_size=20)
    assert source.step(0).images.tolist() != source.step(1).images.tolist()


@given(k=st.integers(0, 10**6), batch_size=st.sampled_from([1, 4, 10, 64]))
def test_timesteps_are_one_per_equal_stretch(k: int, batch_size: int) -> None:
    timesteps = draws(batch_size=batch_size).step(k).timesteps
    strata = ((timesteps.double() + 0.5) / 1000 * batch_size).long()
    assert timesteps.min() >= 0
    assert timesteps.max() <= 999
    assert (strata - torch.arange(batch_size)).abs().max() <= (0 if 1000 % batch_size == 0 else 1)


def test_every_timestep_comes_about_equally_often() -> None:
    source = draws(batch_size=64)
    timesteps = torch.cat([source.step(k).timesteps for k in range(1000)])
    counts = np.histogram(timesteps.numpy(), bins=10, range=(0, 1000))[0]
    assert counts.min() > 6300
    assert counts.max() < 6500


def test_noise_is_standard_normal_and_labels_are_dropped_as_often_as_asked() -> None:
    source = draws(batch_size=64, label_dropout=0.25)
    drawn = [source.step(k) for k in range(200)]
    noise = torch.stack([draw.noise for draw in drawn])
    assert noise.dtype == torch.float32
    assert noise.shape == (200, 64, *SHAPE)
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 1) < 0.01
    share = torch.stack([draw.dropped for draw in drawn]).float().mean()
    assert abs(float(share) - 0.25) < 0.02
