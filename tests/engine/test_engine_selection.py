"""Constrained non-dominated sorting, crowding, survivors, tournaments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from evodiff.engine.selection import (
    best_first,
    constrained_ranks,
    crowding_distances,
    elitist_survivors,
    nondominated,
    tournament,
)

POINTS = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.integers(-3, 3).map(float)
)


def dominates(first, second):
    return bool((first <= second).all() and (first < second).any())


@given(POINTS, st.data())
def test_the_front_is_what_no_feasible_candidate_dominates(values, data):
    violations = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(values), max_size=len(values))))
    feasible = violations == 0
    expected = [
        bool(feasible[i]) and not any(feasible[j] and dominates(values[j], values[i]) for j in range(len(values)))
        for i in range(len(values))
    ]
    assert nondominated(values, violations).tolist() == expected


@given(POINTS)
def test_a_rank_is_one_more_than_the_highest_rank_among_those_that_dominate(values):
    ranks = constrained_ranks(values, np.zeros(len(values)))
    for i, row in enumerate(values):
        above = [ranks[j] for j in range(len(values)) if dominates(values[j], row)]
        assert ranks[i] == (max(above) + 1 if above else 0)


def test_infeasible_candidates_rank_after_feasible_ones_by_their_violation():
    values = np.array([[1.0, 1.0], [2.0, 2.0], [0.0, 0.0], [0.0, 0.0], [np.nan, np.nan]])
    violations = np.array([0.0, 0.0, 3.0, 0.5, np.inf])
    assert constrained_ranks(values, violations).tolist() == [0, 1, 3, 2, 4]


def test_ranks_without_any_feasible_candidate_begin_at_0():
    assert constrained_ranks(np.zeros((3, 2)), np.array([2.0, 1.0, 1.0])).tolist() == [1, 0, 0]


def test_crowding_is_the_sum_of_the_gaps_between_neighbours_over_the_range():
    values = np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0], [3.0, 1.0]])
    found = crowding_distances(values, np.zeros(4, dtype=int))
    # [1, 2] lies between [0, 4] and [3, 1]: 3/4 + 3/4; [3, 1] between [1, 2] and [4, 0]: 3/4 + 2/4
    assert found.tolist() == [np.inf, 1.5, np.inf, 1.25]


def test_crowding_is_counted_within_a_rank_and_is_0_for_failed_candidates():
    values = np.array([[0.0], [1.0], [2.0], [9.0], [np.nan]])
    found = crowding_distances(values, np.array([0, 0, 0, 1, 2]))
    assert found.tolist() == [np.inf, 1.0, np.inf, 0.0, 0.0]


@given(POINTS, st.integers(1, 12))
def test_survivors_are_never_dominated_by_one_that_did_not_survive(values, size):
    kept = elitist_survivors(values, np.zeros(len(values)), size)
    assert len(kept) == min(size, len(values))
    left = set(range(len(values))) - set(kept.tolist())
    assert not any(dominates(values[i], values[j]) for i in left for j in kept)


def test_failed_candidates_do_not_survive_even_where_there_is_room():
    assert elitist_survivors(np.array([[1.0], [np.nan]]), np.array([0.0, np.inf]), 2).tolist() == [0]


def test_of_equal_candidates_the_earlier_comes_first():
    assert best_first(np.ones((3, 2)), np.zeros(3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_tournament_of_k_picks_the_best_of_n_as_often_as_it_is_drawn(size):
    rng = np.random.default_rng(0)
    wins = np.mean([tournament(10, size, rng) == 0 for _ in range(4000)])
    assert wins == pytest.approx(1 - 0.9**size, abs=0.03)
