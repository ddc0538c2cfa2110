"""Learning curves, and who is stopped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evodiff.errors import TrialFailure
from evodiff.training.curve import check_progress, check_steps, loss_curve


def test_a_curve_has_the_mean_of_every_twentieth() -> None:
    losses = [float(step // 6) for step in range(120)]
    assert loss_curve(losses) == [float(point) for point in range(20)]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200))
def test_a_curve_of_any_length_keeps_within_the_losses(losses: list[float]) -> None:
    curve = loss_curve(losses)
    assert len(curve) == min(20, len(losses))
    assert min(losses) - 1e-4 <= min(curve)
    assert max(curve) <= max(losses) + 1e-4


def test_no_losses_make_no_curve() -> None:
    assert loss_curve([]) == []


def test_checks_are_at_the_quarters() -> None:
    assert check_steps(120) == (30, 60, 90)
    assert check_steps(1) == (1,)


def test_who_is_within_the_factor_goes_on() -> None:
    reference = [1.0] * 20
    check_progress([1.4] * 30, steps=120, reference=reference, factor=1.5)


def test_who_is_far_behind_is_stopped_with_the_numbers() -> None:
    with pytest.raises(TrialFailure) as caught:
        check_progress([1.6] * 30, steps=120, reference=[1.0] * 20, factor=1.5)
    assert caught.value.cause == "stopped_early"
    assert caught.value.detail == "after 30 of 120 steps the loss was 1.6, allowed was 1.5"


def test_only_the_latest_losses_and_the_same_share_of_the_reference_count() -> None:
    reference = [9.0] * 4 + [1.0] + [0.1] * 15  # a quarter is the end of the fifth twentieth
    check_progress([50.0] * 24 + [1.0] * 6, steps=120, reference=reference, factor=1.1)
    with pytest.raises(TrialFailure):
        check_progress([0.1] * 24 + [2.0] * 6, steps=120, reference=reference, factor=1.1)


def test_a_shorter_reference_is_read_by_shares() -> None:
    check_progress([2.0] * 60, steps=120, reference=[3.0, 1.0], factor=1.1)
    with pytest.raises(TrialFailure):
        check_progress([2.0] * 61, steps=120, reference=[3.0, 1.0], factor=1.1)
