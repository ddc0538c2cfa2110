"""Each guard trips just over its evidence and not just under it; what others cause trips none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollout_samples import request, worker

from evodiff.deployment.analysis.guards import Guards
from evodiff.deployment.analysis.options import GuardLimits
from evodiff.deployment.observation import Outcome, RequestObservation

LIMITS = GuardLimits(error_ratio=0.02, p99_seconds=1.0, rss_factor=1.5)


def guards(limits: GuardLimits = LIMITS) -> Guards:
    return Guards(limits, smoke_peak_bytes=1000)


def tripped(seen: Guards) -> str | None:
    return seen.tripped.name if seen.tripped else None


def outcomes(seen: Guards, *row: tuple[Outcome, int]) -> None:
    for outcome, count in row:
        for _ in range(count):
            seen.observe_request(request(outcome=outcome))


def spread(failures: int, requests: int) -> list[tuple[Outcome, int]]:
    """Failures that are never in a row, the last request being one of them."""
    row: list[tuple[Outcome, int]] = [(Outcome.OK, requests - 2 * failures)]
    return row + [(Outcome.OK, 1), (Outcome.FAILED, 1)] * failures


@pytest.mark.parametrize(
    ("failures", "requests", "expected"),
    [
        (3, 99, None),  # too few requests
        (3, 100, "errors"),
        (2, 100, None),  # too few errors
        (3, 150, None),  # exactly the limit
        (4, 199, "errors"),
    ],
)
def test_the_error_ratio_counts_from_three_errors_and_a_hundred_requests_on(
    failures: int, requests: int, expected: str | None
) -> None:
    seen = guards()
    outcomes(seen, *spread(failures, requests))
    assert tripped(seen) == expected


def test_two_errors_never_trip_the_ratio_however_low_its_limit() -> None:
    seen = guards(GuardLimits(error_ratio=0.0))
    outcomes(seen, *spread(2, 100))
    assert tripped(seen) is None
    outcomes(seen, (Outcome.OK, 1), (Outcome.FAILED, 1))
    assert tripped(seen) == "errors"


def test_old_errors_leave_the_ratio() -> None:
    seen = guards()
    outcomes(seen, (Outcome.OK, 990), *[(Outcome.FAILED, 1), (Outcome.OK, 1)] * 20)
    assert tripped(seen) is None  # 2 % of a thousand
    outcomes(seen, (Outcome.OK, 1000), *[(Outcome.FAILED, 1), (Outcome.OK, 1)] * 20)
    assert tripped(seen) is None
    outcomes(seen, (Outcome.FAILED, 1))
    assert tripped(seen) == "errors"


def test_three_failures_in_a_row_trip_and_two_do_not() -> None:
    seen = guards()
    outcomes(seen, (Outcome.FAILED, 2), (Outcome.OK, 1), (Outcome.FAILED, 2), (Outcome.REFUSED, 5))
    assert tripped(seen) is None
    outcomes(seen, (Outcome.FAILED, 1))
    assert tripped(seen) == "failures_in_a_row"


@pytest.mark.parametrize(("slow", "expected"), [(7, None), (8, "latency")])
def test_eight_slow_of_the_last_hundred_trip(slow: int, expected: str | None) -> None:
    seen = guards()
    for number in range(200):
        seen.observe_request(request(total_seconds=1.1 if number % 100 >= 100 - slow else 1.0))
    assert tripped(seen) == expected


def test_seven_slow_requests_long_ago_do_not_count() -> None:
    seen = guards()
    for number in range(108):
        seen.observe_request(request(total_seconds=9.0 if number < 7 or number == 107 else 0.1))
    assert tripped(seen) is None


@pytest.mark.parametrize(("ages", "expected"), [((1.1,) * 7 + (1.0,), None), ((1.1,) * 8, "latency")])
def test_requests_in_flight_count_by_their_age(ages: tuple[float, ...], expected: str | None) -> None:
    seen = guards()
    seen.observe_worker(worker(at=5.0, in_flight_judged_seconds=ages))
    assert tripped(seen) == expected


def test_who_allows_more_than_is_usual_may_be_answered_late() -> None:
    seen = guards()
    for _ in range(50):
        seen.observe_request(request(total_seconds=9.0, patient=True))
    seen.observe_worker(worker(at=5.0, in_flight_seconds=(9.0,) * 20, in_flight_judged_seconds=(9.0,) * 7))
    seen.observe_request(request(at=5.5, total_seconds=9.0, patient=True))
    assert tripped(seen) is None
    seen.observe_worker(worker(at=6.0, in_flight_seconds=(9.0,) * 20, in_flight_judged_seconds=(9.0,) * 8))
    assert tripped(seen) == "latency"


def test_slow_requests_in_flight_count_with_those_that_ended() -> None:
    seen = guards()
    for _ in range(6):
        seen.observe_request(request(at=4.0, total_seconds=2.0))
    seen.observe_worker(worker(at=5.0, in_flight_judged_seconds=(1.5,)))
    assert tripped(seen) is None
    seen.observe_worker(worker(at=6.0, in_flight_judged_seconds=(2.5, 1.5)))
    assert tripped(seen) == "latency"


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.REFUSED])
def test_a_request_that_was_in_flight_and_ended_counts_once(outcome: Outcome) -> None:
    seen = guards()
    for _ in range(3):
        seen.observe_request(request(at=4.0, total_seconds=2.0))
    seen.observe_worker(worker(at=5.0, in_flight_judged_seconds=(1.5, 1.5, 1.5, 1.5)))
    for _ in range(4):
        seen.observe_request(request(at=5.5, total_seconds=2.0, outcome=outcome))
    assert tripped(seen) is None  # 7 at most, not 11


def test_one_image_that_is_not_finite_trips() -> None:
    seen = guards()
    outcomes(seen, (Outcome.OK, 3), (Outcome.NOT_FINITE, 1))
    assert tripped(seen) == "not_finite"


def test_blank_images_trip_in_two_distinct_requests() -> None:
    seen = guards()
    for name in ("a", "a", "b"):
        assert tripped(seen) is None
        seen.observe_request(request(outcome=Outcome.BLANK, request=name))
        seen.observe_request(request())
    assert tripped(seen) == "blank"


@pytest.mark.parametrize(("rss", "expected"), [(1500, None), (1501, "memory")])
def test_memory_trips_over_the_smoke_tests_peak_times_the_factor(rss: int, expected: str | None) -> None:
    seen = guards()
    seen.observe_worker(worker(rss_bytes=rss))
    assert tripped(seen) == expected


@pytest.mark.parametrize("dead", [{"alive": False}, {"deaths": 1}])
def test_a_death_trips(dead: dict[str, int]) -> None:
    seen = guards()
    seen.observe_worker(worker(**dead))
    assert tripped(seen) == "death"


def test_a_limit_of_none_switches_its_guard_off_and_the_others_stay() -> None:
    seen = guards(GuardLimits(error_ratio=None, p99_seconds=None, rss_factor=None))
    for _ in range(200):
        seen.observe_request(request(total_seconds=1e9))
        seen.observe_request(request(outcome=Outcome.FAILED))
    seen.observe_worker(worker(rss_bytes=10**15, in_flight_judged_seconds=(1e9,) * 50))
    assert tripped(seen) is None
    outcomes(seen, (Outcome.NOT_FINITE, 1))
    assert tripped(seen) == "not_finite"


def test_a_latency_limit_of_zero_is_a_limit() -> None:
    seen = guards(GuardLimits(p99_seconds=0.0))
    outcomes(seen, (Outcome.OK, 8))
    assert tripped(seen) == "latency"


requests = st.lists(
    st.builds(
        request,
        outcome=st.sampled_from([*Outcome, Outcome.OK, Outcome.OK]),
        request=st.sampled_from("abcdef"),
        total_seconds=st.sampled_from([0.1, 1.0, 3.0]),
        at=st.floats(0.0, 10.0),
    ),
    max_size=60,
)


@given(requests)
def test_what_clients_cause_never_counts(row: list[RequestObservation]) -> None:
    with_refused, without = guards(), guards()
    for seen in row:
        with_refused.observe_request(seen)
        if seen.outcome is not Outcome.REFUSED:
            without.observe_request(seen)
        assert with_refused.tripped == without.tripped


@given(st.integers(1, 400), st.floats(0.0, 1e6))
def test_any_number_of_refused_requests_trips_nothing(count: int, seconds: float) -> None:
    seen = guards()
    for _ in range(count):
        seen.observe_request(request(outcome=Outcome.REFUSED, total_seconds=seconds))
    assert tripped(seen) is None


@given(requests, st.integers(0, 60))
def test_guards_go_on_after_a_restart(row: list[RequestObservation], at: int) -> None:
    whole, restarted = guards(), guards()
    for number, seen in enumerate(row):
        if number == at:
            restarted.observe_worker(worker(at=5.0, in_flight_judged_seconds=(2.0, 0.5)))
            whole.observe_worker(worker(at=5.0, in_flight_judged_seconds=(2.0, 0.5)))
            restarted = Guards.from_json(json.loads(json.dumps(restarted.to_json())), LIMITS, 1000)
        whole.observe_request(seen)
        restarted.observe_request(seen)
    assert whole == restarted
