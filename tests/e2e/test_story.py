"""The whole loop by real processes, as `make story` tells it."""

from __future__ import annotations

import pytest

from evodiff.local.chronicle import Chronicle
from evodiff.local.stack import Stack
from evodiff.local.story import Story
from evodiff.local.story_settings import GENERATIONS, LATENCY_ALERT, RATING_ALERT, REPEATS, TIMES_SLOWER

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]


def test_what_serves_is_replaced_defended_and_evolved_again(stack: Stack) -> None:
    chronicle = Chronicle()
    told = Story(stack, chronicle).tell()

    assert told.problems() == [], told
    assert told.first.startswith("stock/")
    assert told.evolved.startswith("story/")
    assert told.times_slower >= TIMES_SLOWER
    assert told.guard_or_metric in ("the metric latency", "the guard latency")
    assert [item.name for item in told.alerts[:3]] == [LATENCY_ALERT, RATING_ALERT, LATENCY_ALERT]
    assert [item.generations[0] for item in told.alerts[:2]] == [GENERATIONS, GENERATIONS + 1]
    assert told.repeats >= REPEATS
    assert told.aliases["champion"].startswith("story/")
    assert told.counts.sent == told.counts.answered.total()
