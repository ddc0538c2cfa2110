"""Errors are fair evidence by chance's assignment of clients alone."""

from __future__ import annotations

import json
import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evodiff.deployment.analysis.error_process import ErrorProcess
from evodiff.deployment.observation import Arm

# A client's share of the key space: on the canary from 20 percent on, from 50 on, or never.
SLICES = ((0.2, (Arm.CANARY, Arm.CANARY)), (0.3, (Arm.STABLE, Arm.CANARY)), (0.5, (Arm.STABLE, Arm.STABLE)))
WEIGHTS = (0.2, 0.5)
CLIENTS = 4

requests = st.lists(
    st.tuples(st.integers(0, CLIENTS - 1), st.booleans(), st.booleans()),  # client, fails, a new block before it
    max_size=8,
)


def capital(steps: tuple[list[tuple[int, bool, bool]], ...], arms: tuple[tuple[Arm, Arm], ...], margin: float) -> float:
    seen, at = ErrorProcess(margin, block_seconds=10.0), 0.0
    for step, row in enumerate(steps):
        seen.begin_step()
        for client, failed, new_block in row:
            at += 10.0 * new_block
            seen.advance(at)
            seen.observe(arms[client][step], str(client), failed, WEIGHTS[step], at)
    seen.close()
    return math.exp(seen.log_value)


@settings(max_examples=40)  # each is 81 assignments
@given(requests, requests, st.sampled_from([0.0, 0.1]))
def test_capital_is_at_most_one_on_average_over_the_assignment_of_clients(
    first: list[tuple[int, bool, bool]], second: list[tuple[int, bool, bool]], margin: float
) -> None:
    """Exactly, whoever fails when and however often, over all assignments that the weights allow."""
    mean = math.fsum(
        math.prod(share for share, _ in slices) * capital((first, second), tuple(arms for _, arms in slices), margin)
        for slices in product(SLICES, repeat=CLIENTS)
    )
    assert mean <= 1.0 + 1e-9


def observed(arm: Arm, clients: int, weight: float = 0.5) -> ErrorProcess:
    """A process that has seen many clients without errors, and then errors of one arm's, a block each."""
    seen = ErrorProcess(0.1, block_seconds=10.0)
    for client in range(200):
        seen.observe(Arm.CANARY if client < 200 * weight else Arm.STABLE, f"calm {client}", False, weight, 0.0)
    for client in range(clients):
        seen.advance(10.0 * client)
        seen.observe(arm, f"{arm} {client}", True, weight, 10.0 * client)
    seen.close()
    return seen


def test_errors_of_the_canarys_clients_alone_are_found_and_the_stable_ones_are_not() -> None:
    assert observed(Arm.CANARY, 20).log_value > math.log(60)
    assert observed(Arm.STABLE, 20).log_value < 0


def test_an_error_tells_more_the_smaller_the_canarys_share() -> None:
    assert observed(Arm.CANARY, 5, 0.2).log_value > observed(Arm.CANARY, 5, 0.5).log_value


def test_a_client_counts_once_however_often_it_fails() -> None:
    seen = observed(Arm.CANARY, 1)
    before = seen.to_json()
    for number in range(1000):
        seen.advance(10.0 * number)
        seen.observe(Arm.CANARY, "canary 0", True, 0.5, 10.0 * number)
    assert seen.to_json() == before


def test_errors_at_once_count_as_one_event() -> None:
    spread, at_once = observed(Arm.CANARY, 8), ErrorProcess(0.1, block_seconds=10.0)
    for client in range(200):
        at_once.observe(Arm.CANARY if client < 100 else Arm.STABLE, f"calm {client}", False, 0.5, 0.0)
    for client in range(8):
        at_once.observe(Arm.CANARY, f"{client}", True, 0.5, 1.0)
    at_once.close()
    assert at_once.log_value == pytest.approx(observed(Arm.CANARY, 1).log_value, abs=0.05)
    assert spread.log_value > 4 * at_once.log_value


def test_where_the_stable_versions_clients_are_used_up_the_canarys_errors_tell_nothing() -> None:
    seen = ErrorProcess(0.0, block_seconds=10.0)
    for client in range(10):
        seen.observe(Arm.CANARY, f"canary {client}", False, 0.5, 0.0)
    for client in range(10):
        seen.observe(Arm.CANARY, f"canary {client}", True, 0.5, 0.0)
    seen.close()
    assert seen.log_value == pytest.approx(0.0)


def test_an_open_block_survives_a_round_trip() -> None:
    seen, restored = observed(Arm.CANARY, 3), ErrorProcess(0.1, block_seconds=10.0)
    seen.observe(Arm.STABLE, "late", True, 0.5, 99.0)
    restored.restore(json.loads(json.dumps(seen.to_json())))
    assert restored == seen
    restored.close()
    seen.close()
    assert restored.log_value == seen.log_value
