"""Which alerts fire, asked of an Alertmanager: what is asked, what is read, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from evodiff.errors import SettingsError
from evodiff.monitoring.alerts import Alert, Alertmanager, AlertmanagerError

FIRING = {
    "fingerprint": "0123456789abcdef",
    "startsAt": "2026-03-02T14:00:00.123+02:00",
    "endsAt": "2026-03-02T14:10:00+02:00",
    "labels": {"alertname": "LatencyOverLimit", "arm": "stable"},
    "annotations": {"summary": "slow"},
    "status": {"state": "active", "silencedBy": [], "inhibitedBy": []},
    "receivers": [{"name": "pages"}],
    "generatorURL": "http://prometheus/graph",
    "updatedAt": "2026-03-02T14:00:00Z",
}


def client(answer: Any, seen: list[httpx.Request] | None = None, **options: Any) -> Alertmanager:
    def respond(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return (
            httpx.Response(answer[0], text=answer[1]) if isinstance(answer, tuple) else httpx.Response(200, json=answer)
        )

    return Alertmanager("http://alerts.example:9093/", transport=httpx.MockTransport(respond), **options)


def test_what_is_silenced_or_inhibited_is_not_asked_for() -> None:
    seen: list[httpx.Request] = []
    client([], seen, token="secret").firing(['arm="stable"', 'degraded=~".+"'])
    assert str(seen[0].url.copy_with(query=None)) == "http://alerts.example:9093/api/v2/alerts"
    asked = seen[0].url.params
    assert (asked["active"], asked["silenced"], asked["inhibited"]) == ("true", "false", "false")
    assert asked.get_list("filter") == ['arm="stable"', 'degraded=~".+"']
    assert seen[0].headers["Authorization"] == "Bearer secret"


def test_an_alert_is_known_by_fingerprint_and_start_whatever_the_clock_it_is_told_in() -> None:
    (alert,) = client([FIRING]).firing()
    (same,) = client(
        [{**FIRING, "startsAt": "2026-03-02T12:00:00.123Z", "annotations": {"summary": "slower"}}]
    ).firing()
    (later,) = client([{**FIRING, "startsAt": "2026-03-02T13:00:00Z"}]).firing()
    assert alert.identity == same.identity == "0123456789abcdef@2026-03-02T12:00:00.123+00:00"
    assert later.identity != alert.identity
    assert alert.name == "LatencyOverLimit"


def test_both_ways_of_asking_bring_the_same_oldest_first() -> None:
    older = {**FIRING, "fingerprint": "f0", "startsAt": "2026-03-01T00:00:00Z"}
    answering = client([FIRING, older])
    assert [alert.fingerprint for alert in answering.firing()] == ["f0", "0123456789abcdef"]
    assert asyncio.run(answering.firing_async()) == answering.firing()


def test_an_alert_survives_json() -> None:
    (alert,) = client([FIRING]).firing()
    assert Alert.from_json(alert.to_json()) == alert


@pytest.mark.parametrize(
    "matcher", ["arm", "arm=stable", 'arm="stable" ', "", '{arm="stable"}', 'arm="a", b="c"', 'arm=="x"', '1a="x"']
)
def test_what_is_no_matcher_is_refused_before_anything_is_asked(matcher: str) -> None:
    seen: list[httpx.Request] = []
    with pytest.raises(SettingsError, match="Not a matcher"):
        client([], seen).firing([matcher])
    assert seen == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, "who?"), "expected status 200, found 401"),
        ((400, "bad matcher"), "bad matcher"),
        ((200, "<html>"), "found no JSON"),
        ({"status": "success"}, "found a dict"),
        ([{"labels": {}}], "Not an alert"),
        ([{**FIRING, "startsAt": "yesterday"}], "Not an alert"),
        ([{**FIRING, "labels": ["arm"]}], "Not an alert"),
        ([{**FIRING, "labels": {"arm": 3}}], "Not an alert"),
        (["alert"], "Not an alert"),
        (httpx.ConnectError("refused"), "does not answer: ConnectError refused"),
        (httpx.ReadTimeout("slow"), "does not answer: ReadTimeout slow"),
    ],
)
def test_an_answer_that_cannot_be_used_says_so(answer: Any, said: str) -> None:
    with pytest.raises(AlertmanagerError) as refused:
        client(answer).firing()
    assert said in refused.value.headline
    assert refused.value.remedy
    with pytest.raises(AlertmanagerError):
        asyncio.run(client(answer).firing_async())
