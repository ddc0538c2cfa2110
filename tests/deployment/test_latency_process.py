"""The test of latency is fair at the margin whatever the times are like, and finds what is slower."""

from __future__ import annotations

import json
import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evodiff.deployment.analysis.latency_process import (
    BatchKind,
    LatencyProcess,
    expected_score,
    rank_information,
    rank_score,
)
from evodiff.deployment.observation import Arm

KIND = BatchKind(1, 20, False)
MARGIN = 0.1


def process() -> LatencyProcess:
    return LatencyProcess(margin=MARGIN, alternative=0.2, block_seconds=10.0)


def block(
    seen: LatencyProcess, canary: list[float], stable: list[float], kind: BatchKind = KIND, at: float = 0
) -> None:
    for arm, values in ((Arm.CANARY, canary), (Arm.STABLE, stable)):
        for value in values:
            seen.observe(arm, kind, value, at)


def test_ranks_score_from_minus_to_plus_a_half() -> None:
    assert rank_score([3.0, 4.0], [1.0, 2.0], 0.0) == 0.5
    assert rank_score([1.0], [2.0, 3.0], 0.0) == -0.5
    assert rank_score([2.0], [1.0, 2.0, 3.0], 0.0) == 0.0  # a tie is half
    assert rank_score([2.0], [1.0], 5.0) == -0.5  # the shift is taken off the canary's


def test_the_information_is_that_of_all_orders() -> None:
    values = [1.0, 2.5, 3.0, 7.0, 9.0]
    scores = []
    for chosen in combinations(range(5), 2):
        canary = [values[index] for index in chosen]
        scores.append(rank_score(canary, [value for value in values if value not in canary], 0.0))
    assert np.mean(scores) == pytest.approx(0.0)
    assert np.var(scores) == pytest.approx(1 / rank_information(2, 3))


def test_the_expected_score_is_that_of_log_normal_times() -> None:
    rng = np.random.default_rng(0)
    canary, stable = np.exp(rng.normal([[0.1], [0.0]], 0.3, (2, 2000)))
    assert expected_score(0.1, 0.3) == pytest.approx(rank_score(canary, stable, 0.0), abs=0.02)


@given(
    st.lists(st.integers(1, 1000), min_size=4, max_size=4, unique=True),  # ms: no ties by rounding
    st.lists(st.integers(1, 1000), min_size=3, max_size=3, unique=True),
)
def test_at_the_margin_capital_is_one_on_average_over_who_made_which_times(first: list[int], second: list[int]) -> None:
    """Exactly, over all assignments of two blocks' times to arms of any sizes, with bets that learn in between."""
    slower, within = [], []
    pairs = product(combinations(range(4), 1), combinations(range(3), 2))
    for chosen in pairs:
        seen = process()
        for values, mine in zip((first, second), chosen, strict=True):
            canary = [(1 + MARGIN) * values[index] for index in mine]
            block(seen, canary, [value for index, value in enumerate(values) if index not in mine])
            seen.close()
        slower.append(math.exp(seen.slower.log_value))
        within.append(math.exp(seen.log_within))
    assert np.mean(slower) == pytest.approx(1.0, abs=1e-9)
    assert np.mean(within) == pytest.approx(1.0, abs=1e-9)


@given(st.lists(st.floats(0.1, 10.0), min_size=2, max_size=20), st.floats(1.0, 3.0))
def test_a_slower_canary_never_has_less_against_it(times: list[float], factor: float) -> None:
    half = len(times) // 2
    as_fast, slower = process(), process()
    block(as_fast, times[:half], times[half:])
    block(slower, [factor * value for value in times[:half]], times[half:])
    for seen in (as_fast, slower):
        seen.close()
    if as_fast.compared == slower.compared:  # equal times of one batch stay equal, but for rounding
        assert slower.slower.log_value >= as_fast.slower.log_value
        assert slower.log_within <= as_fast.log_within


def test_requests_of_one_batch_count_once() -> None:
    seen = process()
    block(seen, [0.5, 0.5, 0.5, 0.7], [0.4, 0.4])
    seen.close()
    assert seen.compared == {Arm.CANARY: 2, Arm.STABLE: 1}


def test_only_equal_batches_are_compared() -> None:
    seen = process()
    block(seen, [9.0] * 3, [], BatchKind(8, 20, False))
    block(seen, [], [1.0] * 3, BatchKind(1, 20, False))
    block(seen, [], [1.0] * 3, BatchKind(8, 20, True))
    seen.close()
    assert seen.blocks == 0
    assert seen.slower.log_value == 0.0


def test_a_block_is_closed_by_the_clock_and_waits_for_a_pair_a_while() -> None:
    seen = process()
    block(seen, [], [1.0], at=0.0)
    assert not seen.advance(59.0)
    block(seen, [1.0], [], at=59.0)
    assert seen.advance(59.0)
    assert seen.blocks == 1
    block(seen, [], [1.0], at=100.0)
    assert seen.advance(160.0)  # dropped: the machine may be loaded otherwise by now
    block(seen, [1.0], [], at=161.0)
    seen.close()
    assert seen.blocks == 1


@given(st.permutations(list(range(8))))
def test_order_within_a_block_does_not_matter(order: list[int]) -> None:
    rows = [(Arm.CANARY if index % 3 == 0 else Arm.STABLE, BatchKind(1 + index % 2, 20, False)) for index in range(8)]
    straight, shuffled = process(), process()
    for seen, indices in ((straight, range(8)), (shuffled, order)):
        for index in indices:
            seen.observe(*rows[index], 0.1 + 0.01 * index, 0.0)
        seen.close()
    assert straight.slower.log_value == pytest.approx(shuffled.slower.log_value)
    assert straight.log_within == pytest.approx(shuffled.log_within)


def drawn(slowdown: float, blocks: int) -> LatencyProcess:
    rng, seen = np.random.default_rng(3), process()
    for _ in range(blocks):
        block(seen, (slowdown * rng.lognormal(0, 0.2, 20)).tolist(), rng.lognormal(0, 0.2, 20).tolist())
        seen.close()
    return seen


def test_a_canary_that_is_a_fifth_slower_is_found_and_one_as_fast_is_shown_to_be() -> None:
    assert drawn(1.2, 20).slower.log_value > math.log(60)
    assert drawn(1.2, 20).log_within < 0
    assert drawn(1.0, 20).log_within > math.log(20)
    assert drawn(1.0, 20).slower.log_value < 0


def test_being_within_the_margin_is_shown_anew_at_each_step() -> None:
    seen = drawn(1.0, 20)
    before = seen.slower.log_value
    seen.begin_step()
    assert seen.log_within == 0.0
    assert seen.slower.log_value == pytest.approx(before)


def test_the_open_block_survives_a_round_trip() -> None:
    seen, restored = drawn(1.1, 3), process()
    block(seen, [0.5], [0.4, 0.3])
    restored.restore(json.loads(json.dumps(seen.to_json())))
    assert restored == seen
