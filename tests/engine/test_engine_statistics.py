"""Statistics against scipy, brute force and closed forms."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from evodiff.engine.convergence import diagnose
from evodiff.engine.statistics import bootstrap_interval, holm, mann_whitney, median_band, vargha_delaney
from evodiff.errors import SettingsError

SAMPLES = st.lists(st.floats(-5, 5), min_size=1, max_size=7)
TIED = st.lists(st.integers(0, 3).map(float), min_size=1, max_size=5)


@given(SAMPLES, SAMPLES)
def test_the_rank_test_is_scipys_exact_one_where_nothing_is_tied(first: list[float], second: list[float]) -> None:
    assume(len({*first, *second}) == len(first) + len(second))
    found = mann_whitney(first, second)
    expected = stats.mannwhitneyu(first, second, method="exact")
    assert found.u == expected.statistic
    assert found.p_value == pytest.approx(expected.pvalue)


@given(TIED, TIED)
def test_with_ties_the_p_value_is_the_share_of_all_divisions_as_far_from_the_mean(
    first: list[float], second: list[float]
) -> None:
    pooled = [*first, *second]
    ranks = stats.rankdata(pooled)
    mean = len(first) * (len(pooled) + 1) / 2
    observed = abs(ranks[: len(first)].sum() - mean)
    divisions = [abs(ranks[list(chosen)].sum() - mean) for chosen in combinations(range(len(pooled)), len(first))]
    share = np.mean([distance >= observed - 1e-9 for distance in divisions])
    assert mann_whitney(first, second).p_value == pytest.approx(share)


def test_the_smallest_possible_p_value_is_that_of_two_separated_samples() -> None:
    assert mann_whitney(range(10), range(10, 20)).p_value == pytest.approx(2 / comb(20, 10))
    assert mann_whitney([1, 1, 1], [1, 1]).p_value == 1


@given(SAMPLES, SAMPLES)
def test_the_effect_size_is_the_share_of_pairs_that_the_first_sample_wins(
    first: list[float], second: list[float]
) -> None:
    wins = [1.0 if x > y else 0.5 if x == y else 0.0 for x in first for y in second]
    assert vargha_delaney(first, second) == pytest.approx(np.mean(wins))
    assert vargha_delaney(first, second) + vargha_delaney(second, first) == pytest.approx(1)


def test_the_bootstrap_of_a_median_of_three_has_its_closed_form() -> None:
    # The median of three draws out of three is the smallest with probability 7/27, the middle one with 13/27.
    rng = np.random.default_rng(0)
    wide = median_band([[1.0], [2.0], [4.0]], rng, level=0.95)
    assert wide[:, 0].tolist() == [2.0, 1.0, 4.0]
    narrow = median_band([[1.0], [2.0], [4.0]], rng, level=0.4)  # tails of 30 % are beyond 7/27
    assert narrow[:, 0].tolist() == [2.0, 2.0, 2.0]


def test_the_interval_of_a_mean_is_near_the_normal_one_and_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    sample = rng.normal(size=400)
    found = bootstrap_interval([sample.tolist()], np.mean, rng)
    error = sample.std() / 20
    assert [found.low, found.high] == pytest.approx(
        [sample.mean() - 1.96 * error, sample.mean() + 1.96 * error], abs=0.01
    )
    intervals = [median_band(rng.exponential(size=(15, 1)), rng, resamples=300) for _ in range(300)]
    covered = np.mean([low <= np.log(2) <= high for ((_,), (low,), (high,)) in intervals])
    assert 0.9 < covered < 0.99


def test_bands_follow_their_curves_and_do_not_depend_on_their_order() -> None:
    curves = np.arange(12.0).reshape(4, 3)
    band = median_band(curves, np.random.default_rng(2))
    assert band.shape == (3, 3)
    assert band[0].tolist() == np.median(curves, axis=0).tolist()
    assert (band[1] <= band[0]).all()
    assert (band[0] <= band[2]).all()
    assert median_band([[3.0, 5.0]], np.random.default_rng(3)).tolist() == [[3.0, 5.0]] * 3


def test_holm_is_the_published_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("sample", [[], [float("nan")], [1.0, float("inf")], [[1.0]]])
def test_samples_that_are_none_are_refused(sample: list[float]) -> None:
    rng = np.random.default_rng(0)
    for compare in (mann_whitney, vargha_delaney):
        for pair in ((sample, [1.0]), ([1.0], sample)):
            with pytest.raises(SettingsError, match="finite numbers"):
                compare(*pair)
    with pytest.raises(SettingsError, match="finite numbers"):
        bootstrap_interval([[1.0], sample], lambda first, second: 0.0, rng)
    with pytest.raises(SettingsError, match="curves"):
        median_band(np.empty((0, 3)), rng)
    with pytest.raises(SettingsError, match="finite"):
        diagnose([[0.1, 0.2, 0.3, 0.4, float("nan")]])


@pytest.mark.parametrize("p_values", [[float("nan"), 0.01, 0.04], [0.01, 1.2], [-0.1], [[0.5]]])
def test_p_values_that_are_none_are_refused(p_values: list[float]) -> None:
    with pytest.raises(SettingsError, match="Expected p-values, numbers from 0 to 1, found"):
        holm(p_values)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"level": 2}, "level between 0 and 1, found 2"), ({"level": 0.0}, "level"), ({"resamples": 0}, "resamples")],
)
def test_an_interval_of_no_level_or_of_no_resamples_is_refused(wrong: dict[str, float], said: str) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(SettingsError, match=said):
        bootstrap_interval([[1.0, 2.0]], np.mean, rng, **wrong)
    with pytest.raises(SettingsError, match=said):
        median_band([[1.0, 2.0]], rng, **wrong)
