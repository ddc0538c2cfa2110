"""E-values have mean 1 at the edge of their null, and capital is never made from nothing."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evodiff.deployment.analysis.evalues import Capital, log_bounded_mean, log_mixture, log_symmetry, share_of_events

finite = st.floats(-50.0, 50.0)


@given(finite, st.floats(0.0, 50.0))
def test_the_symmetry_bet_is_fair_where_both_signs_are_as_likely(x: float, bet: float) -> None:
    assert (math.exp(log_symmetry(x, bet)) + math.exp(log_symmetry(-x, bet))) / 2 == pytest.approx(1.0)


@given(finite, finite, st.floats(0.0, 50.0))
def test_the_symmetry_bet_grows_with_its_argument_and_at_most_doubles(x: float, y: float, bet: float) -> None:
    low, high = sorted((x, y))
    assert log_symmetry(low, bet) <= log_symmetry(high, bet) <= math.log(2.0)


def test_the_symmetry_bet_is_the_likelihood_ratio_to_the_symmetrised_normal() -> None:
    x, mean, variance = 0.7, 0.4, 1.3
    density = [math.exp(-((x - centre) ** 2) / (2 * variance)) for centre in (mean, -mean)]
    assert math.exp(log_symmetry(x, mean / variance)) == pytest.approx(2 * density[0] / sum(density))


def test_an_enormous_loss_stays_finite() -> None:
    assert log_symmetry(-1e6, 10.0) == pytest.approx(math.log(2.0) - 2e7)


def test_a_bounded_bet_that_may_lose_everything_is_refused() -> None:
    assert log_bounded_mean(-1.0, 0.5) == pytest.approx(math.log(0.5))
    with pytest.raises(ValueError, match="bet"):
        log_bounded_mean(-2.0, 0.5)


def test_an_arm_with_twice_the_rate_has_two_thirds_of_the_events_at_equal_shares() -> None:
    assert share_of_events(0.5, 2.0) == pytest.approx(2 / 3)
    assert share_of_events(0.2, 1.0) == pytest.approx(0.2)


@given(st.lists(st.floats(-800.0, 800.0), min_size=1, max_size=5))
def test_a_mixture_lies_between_its_parts(logs: list[float]) -> None:
    assert min(logs) - 1e-9 <= log_mixture(logs) <= max(logs) + 1e-9


@given(st.lists(st.sampled_from(["step", "bet"]), max_size=20))
def test_bets_that_change_nothing_leave_the_capital_at_one(course: list[str]) -> None:
    capital = Capital()
    for event in course:
        if event == "step":
            capital.begin_step()
        else:
            capital.multiply(0.0)
        assert capital.log_value == pytest.approx(0.0, abs=1e-12)


@given(st.lists(st.one_of(st.none(), st.floats(-3.0, 0.6)), max_size=12), st.floats(0.0, 0.999))
def test_a_fair_bet_leaves_the_mean_of_the_capital_unchanged(course: list[float | None], stake: float) -> None:
    up, down = Capital(), Capital()
    for event in course:  # None begins a step
        for capital in (up, down):
            if event is None:
                capital.begin_step()
            else:
                capital.multiply(event)
    before = math.exp(up.log_value)
    up.multiply(math.log1p(stake))
    down.multiply(math.log1p(-stake))
    assert (math.exp(up.log_value) + math.exp(down.log_value)) / 2 == pytest.approx(before)


def test_a_long_good_record_does_not_silence_a_later_step() -> None:
    capital = Capital()
    for _ in range(1000):
        capital.multiply(-1.0)
    capital.begin_step()
    for _ in range(10):
        capital.multiply(math.log(2.0))
    assert capital.log_value > math.log(60.0)


@given(st.lists(st.one_of(st.none(), st.floats(-3.0, 0.6)), max_size=12))
def test_capital_survives_a_round_trip(course: list[float | None]) -> None:
    capital = Capital()
    for event in course:
        if event is None:
            capital.begin_step()
        else:
            capital.multiply(event)
    assert Capital.from_json(json.loads(json.dumps(capital.to_json()))) == capital
