from __future__ import annotations

import math

import numpy as np
import pytest

from evodiff.evaluation.over_seeds import paired_difference, spread


def test_three_values_spread_as_tables_of_student_and_chi_square_say() -> None:
    found = spread([1.0, 2.0, 3.0])
    assert (found.count, found.mean, found.smallest, found.largest) == (3, 2.0, 1.0, 3.0)
    assert found.standard_error == pytest.approx(1 / math.sqrt(3))
    # Quantiles of chi-square with 2 degrees of freedom are -2 log(1 - p).
    low, high = (math.sqrt(2 / (-2 * math.log(share))) for share in (0.025, 0.975))
    assert (found.deviation.value, found.deviation.low, found.deviation.high) == pytest.approx((1.0, low, high))


def test_differences_are_paired_by_seed() -> None:
    found = paired_difference([10.0, 20.0, 30.0], [9.0, 18.0, 27.0])
    half = 4.302652729911275 / math.sqrt(3)  # Student's t of 2 degrees of freedom at .975
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2.0 - half, 2.0 + half))


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        found = paired_difference(*rng.normal(size=(2, 4)))
        held.append(found.low < 0 < found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_one_seed_says_nothing_of_chance() -> None:
    assert paired_difference([3.0], [1.0]).low == -math.inf
    assert math.isnan(spread([3.0]).standard_error)


def test_seeds_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0], [1.0])
