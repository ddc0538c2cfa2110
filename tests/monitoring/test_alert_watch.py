"""What the watcher of alerts remembers, and what it says of its own health."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from evodiff.monitoring.alerts import Alert
from evodiff.monitoring.health import watcher_health
from evodiff.monitoring.watch import FORGET_SECONDS, MOST_REMEMBERED, MOST_TELLS, AlertWatch


def alert(fingerprint: str = "f1", starts_at: str = "2026-03-02T12:00:00.000+00:00") -> Alert:
    return Alert(fingerprint, starts_at, {"alertname": "Slow", "arm": "stable"}, {})


def test_an_alert_is_told_when_it_begins_and_not_while_it_goes_on() -> None:
    watch = AlertWatch()
    assert watch.news([alert()], 0.0) == [alert()]
    for poll in range(1, 1000):
        assert watch.news([alert()], 15.0 * poll) == []


def test_one_that_ended_and_begins_again_is_another() -> None:
    watch = AlertWatch()
    watch.news([alert()], 0.0)
    assert watch.news([], 15.0) == []
    again = alert(starts_at="2026-03-02T13:00:00.000+00:00")
    assert watch.news([again], 30.0) == [again]


def test_a_different_alert_is_told_beside_one_that_goes_on() -> None:
    watch = AlertWatch()
    watch.news([alert()], 0.0)
    assert watch.news([alert(), alert("f2")], 15.0) == [alert("f2")]


def test_what_was_told_is_known_after_a_restart() -> None:
    watch = AlertWatch()
    watch.news([alert()], 0.0)
    kept = json.loads(json.dumps(watch.to_json()))
    assert AlertWatch.from_json(kept).news([alert(), alert("f2")], 15.0) == [alert("f2")]


def test_what_cannot_be_read_again_is_told_again_rather_than_lost() -> None:
    watch = AlertWatch()
    watch.news([alert()], 0.0)
    damaged: dict[str, Any] = {key: {**item, "alert": {"labels": 3}} for key, item in watch.to_json().items()}
    assert AlertWatch.from_json(damaged).news([alert()], 15.0) == [alert()]


def test_what_the_listener_has_not_seen_to_is_told_again_later_each_time_even_when_it_has_ended() -> None:
    watch = AlertWatch()
    told = [second for second in range(0, 100_000, 15) if watch.news([alert()] if second < 30 else [], second, ())]
    assert len(told) == MOST_TELLS
    gaps = [later - earlier for earlier, later in itertools.pairwise(told)]
    assert gaps[0] == 60
    assert all(later == 2 * earlier for earlier, later in itertools.pairwise(gaps))


def test_what_the_listener_has_seen_to_is_told_no_more() -> None:
    watch = AlertWatch()
    watch.news([alert()], 0.0, ())
    assert all(not watch.news([alert()], 15.0 * poll, [alert().identity]) for poll in range(1, 500))


def test_memory_is_bounded_and_what_still_fires_is_never_forgotten_for_its_age() -> None:
    watch = AlertWatch()
    for index in range(2 * MOST_REMEMBERED):
        watch.news([alert(f"f{index}")], float(index))
    assert len(watch.told) == MOST_REMEMBERED
    assert watch.news([alert(f"f{2 * MOST_REMEMBERED - 1}")], FORGET_SECONDS) == []
    assert watch.news([], 3 * FORGET_SECONDS) == []
    assert watch.told == {}


HEARTBEAT = {"at": 1000.0, "firing": 1, "every": 15.0, "trouble": None}


@pytest.mark.parametrize(
    ("heartbeat", "paused", "now", "said"),
    [
        (HEARTBEAT, False, 1010.0, "It listens"),
        (HEARTBEAT, True, 1010.0, "paused"),
        (HEARTBEAT, None, 1010.0, "not known"),
        (HEARTBEAT, False, 1100.0, "not polled lately"),
        (None, False, 1010.0, "not polled lately"),
        ({**HEARTBEAT, "trouble": "refused"}, False, 1010.0, "cannot ask"),
        ({**HEARTBEAT, "every": 300.0}, False, 2000.0, "It listens"),
    ],
)
def test_the_page_says_whether_an_alert_would_be_heard(
    heartbeat: dict[str, Any] | None, paused: bool | None, now: float, said: str
) -> None:
    health = watcher_health(heartbeat, paused=paused, now=now)
    assert said in health.headline
    assert health.well is (said == "It listens")
    assert health.lines
