"""The average of the weights."""

from __future__ import annotations

import pytest
import torch

from evodiff.training.average import ramped_decay, update_average


def test_the_decay_rises_from_a_tenth_to_its_cap() -> None:
    decays = [ramped_decay(step, 0.99) for step in range(2000)]
    assert decays[0] == pytest.approx(0.1)
    assert decays == sorted(decays)
    assert decays[-1] == 0.99


def test_the_average_is_in_place_and_follows_its_recurrence() -> None:
    average, weights = [torch.tensor([1.0, -1.0])], [torch.tensor([3.0, 5.0])]
    storage, expected = average[0].data_ptr(), torch.tensor([1.0, -1.0])
    for step in range(20):
        weights[0] += 1
        update_average(average, weights, step=step, decay=0.5)
        share = min(0.5, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * weights[0]
    assert torch.allclose(average[0], expected)
    assert average[0].data_ptr() == storage


def test_little_of_the_first_weights_is_left_after_a_short_training() -> None:
    average = [torch.ones(1)]
    for step in range(60):
        update_average(average, [torch.zeros(1)], step=step, decay=0.9999)
    assert average[0].item() < 1e-6
