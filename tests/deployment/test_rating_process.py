"""Ratings are compared by rater, fairly whatever the scale is used like."""

from __future__ import annotations

import json
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evodiff.deployment.analysis.rating_process import RatingProcess
from evodiff.deployment.observation import Arm

arms = st.lists(st.sampled_from([Arm.CANARY, Arm.STABLE]), min_size=1, max_size=6)


def rated(row: list[tuple[Arm, str, float]], margin: float = 0.25) -> RatingProcess:
    seen = RatingProcess(margin, alternative=margin + 0.25)
    for arm, rater, rating in row:
        seen.observe(arm, rater, rating)
    return seen


@given(arms, st.sampled_from([(1.0, 5.0), (2.0, 3.0)]), st.sampled_from([0.0, 0.25]))
def test_capital_is_one_on_average_where_ratings_are_alike(
    row: list[Arm], levels: tuple[float, ...], margin: float
) -> None:
    """Exactly, over all ratings that raters may give with equal chances; less where a margin is tolerated."""
    drawn = []
    for given_ratings in product(levels, repeat=len(row)):
        seen = rated([(arm, str(index), given_ratings[index]) for index, arm in enumerate(row)], margin)
        drawn.append(math.exp(seen.capital.log_value))
    if margin:
        assert np.mean(drawn) <= 1.0 + 1e-12
    else:
        assert np.mean(drawn) == pytest.approx(1.0)


def pairs(canary: float, stable: float, count: int) -> RatingProcess:
    row = [(arm, f"{arm} {index}", rating) for index in range(count) for arm, rating in
           ((Arm.CANARY, canary), (Arm.STABLE, stable))]  # fmt: skip
    return rated(row)


def test_a_drop_is_found_and_a_rise_is_not() -> None:
    assert pairs(2.0, 4.0, 60).capital.log_value > math.log(60)
    assert pairs(4.0, 4.0, 60).capital.log_value < 0
    assert pairs(4.0, 2.0, 60).capital.log_value < 0


@given(st.lists(st.tuples(st.sampled_from([Arm.CANARY, Arm.STABLE]), st.sampled_from([1.0, 3.0, 5.0])), max_size=50))
def test_a_flood_from_one_rater_moves_nothing(flood: list[tuple[Arm, float]]) -> None:
    calm = pairs(3.0, 4.0, 5)
    flooded = pairs(3.0, 4.0, 5)
    flooded.observe(Arm.CANARY, "flooder", 3.0)
    calm.observe(Arm.CANARY, "flooder", 3.0)
    for arm, rating in flood:
        flooded.observe(arm, "flooder", rating)
    assert flooded == calm


@pytest.mark.parametrize("rating", [0.0, 6.0, float("nan"), float("inf")])
def test_what_is_no_rating_does_not_count(rating: float) -> None:
    seen = rated([(Arm.CANARY, "a", rating), (Arm.STABLE, "b", 5.0)])
    assert seen.pairs == 0
    assert seen.counted == {Arm.CANARY: 0, Arm.STABLE: 1}


def test_raters_of_different_steps_are_not_compared() -> None:
    seen = rated([(Arm.CANARY, "a", 1.0)])
    seen.begin_step()
    seen.observe(Arm.STABLE, "b", 5.0)
    assert seen.pairs == 0


def test_it_survives_a_round_trip() -> None:
    seen, restored = pairs(3.0, 4.0, 5), RatingProcess(0.25, 0.5)
    seen.observe(Arm.CANARY, "waiting", 2.0)
    restored.restore(json.loads(json.dumps(seen.to_json())))
    assert restored == seen
