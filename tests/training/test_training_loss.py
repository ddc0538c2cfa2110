"""The denoising loss and its weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evodiff.sampling.noise import SCHEDULES, NoiseSchedule
from evodiff.training.loss import min_snr_weights, weighted_error


@pytest.mark.parametrize("name", SCHEDULES)
@given(seed=st.integers(0, 1000), gamma=st.floats(0.5, 20))
def test_both_predictions_weigh_the_error_of_the_clean_image_by_the_clipped_snr(
    name: str, seed: int, gamma: float
) -> None:
    schedule = NoiseSchedule.named(name)  # type: ignore[arg-type] # the names come from the schedule's own list
    generator = torch.Generator().manual_seed(seed)
    x0, noise, error = (torch.randn(4, 1, 3, 3, generator=generator) for _ in range(3))
    t = torch.randint(20, 950, (4,), generator=generator)
    x_t = schedule.add_noise(x0, noise, t)
    expected = None
    for prediction in ("v_prediction", "epsilon"):
        target = schedule.target(prediction, x0, noise, t)
        # An output whose implied clean image is off by `error`, whatever is predicted.
        scale = schedule.signal[t] if prediction == "epsilon" else torch.ones(4)
        output = target - (scale / schedule.noise[t]).view(-1, 1, 1, 1) * error
        assert torch.allclose(schedule.to_x0(prediction, output, x_t, t) - x0, error, rtol=1e-2, atol=1e-3)
        weights = min_snr_weights(schedule, prediction, gamma)[t]
        found = (weights * (output - target).square().mean(dim=(1, 2, 3))).double()
        expected = schedule.snr[t].clamp(max=gamma) * error.square().mean(dim=(1, 2, 3)).double()
        assert torch.allclose(found, expected, rtol=1e-2)


def test_noise_that_exceeds_the_bound_weighs_one_when_noise_is_predicted() -> None:
    schedule = NoiseSchedule.named("linear")
    snr = schedule.snr
    weights = min_snr_weights(schedule, "epsilon", 5.0)
    assert torch.equal(weights[snr <= 5.0], torch.ones(int((snr <= 5.0).sum())))
    assert torch.allclose(weights[snr > 5.0].double(), 5.0 / snr[snr > 5.0])


def test_the_loss_is_the_mean_of_the_images_weighted_mean_squares() -> None:
    output = torch.tensor([[[[1.0, 3.0]]], [[[2.0, 2.0]]]])
    target = torch.zeros(2, 1, 1, 2)
    assert weighted_error(output, target, torch.tensor([1.0, 0.5])).item() == pytest.approx((5.0 + 2.0) / 2)
