"""How often a source may ask: its share in the long run, a burst at first, and so many of all at once."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evodiff.deployment.web.pace import Pace, TooFast


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(pace: Pace, source: str, times: int) -> int:
    """Return how many of the requests of a source came in, one after another."""
    entered = 0
    for _ in range(times):
        try:
            with pace.entered(source):
                entered += 1
        except TooFast:
            continue
    return entered


def test_a_source_has_its_burst_and_then_its_share() -> None:
    clock = Clock()
    pace = Pace(per_second=2, burst=5, clock=clock)
    assert asked(pace, "one", 50) == 5
    assert asked(pace, "other", 50) == 5
    clock.now += 1
    assert asked(pace, "one", 50) == 2
    clock.now += 1000
    assert asked(pace, "one", 50) == 5


@given(st.lists(st.floats(0, 3), max_size=60), st.floats(0.5, 10), st.integers(1, 20))
def test_nobody_has_more_than_the_burst_and_the_share_of_the_time(
    pauses: list[float], per_second: float, burst: int
) -> None:
    clock = Clock()
    pace = Pace(per_second=per_second, burst=burst, clock=clock)
    entered = 0
    for pause in pauses:
        clock.now += pause
        entered += asked(pace, "one", 3)
    assert entered <= burst + per_second * (clock.now - 100) + 1e-3


def test_so_many_are_inside_at_once_whoever_they_are() -> None:
    pace = Pace(at_once=3)
    with ExitStack() as inside:
        for number in range(3):
            inside.enter_context(pace.entered(f"source {number}"))
        with pytest.raises(TooFast, match="at most 3 requests at once"), pace.entered("source 3"):
            pass
    assert asked(pace, "source 3", 1) == 1


def test_the_latest_sources_are_kept_and_no_more() -> None:
    pace = Pace(burst=1, sources=2, clock=Clock())
    assert [asked(pace, source, 1) for source in ("one", "two", "three")] == [1, 1, 1]
    assert asked(pace, "three", 1) == 0
    assert asked(pace, "one", 1) == 1  # forgotten, so its allowance is whole
