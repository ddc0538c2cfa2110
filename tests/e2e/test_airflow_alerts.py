"""An alert on a real scheduler: the triggerer hears it, a DAG answers it once, a page tells whether it listens."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from airflow_site import EVOLVE, PROJECT, wait_for

from evodiff.local.scheduler import USER, password
from evodiff.local.stack import Stack
from evodiff.monitoring.watch import HEARTBEAT_FILE
from evodiff.pipeline.control import State, set_state
from evodiff.pipeline.evolve import evolve_generation
from evodiff.pipeline.final import champion
from evodiff.pipeline.release import EMPTY
from evodiff.pipeline.requests import requests, submit
from evodiff.pipeline.run import Run

sys.path.insert(0, str(PROJECT / "tests" / "pipeline"))
from told_runs import TellingPool, new_run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

DAG = "reoptimize_on_alert"


class Alerts:
    """Tells a real Alertmanager of alerts, as a Prometheus does, and counts how often it was asked for them."""

    def __init__(self, stack: Stack) -> None:
        self._url = stack.site.alertmanager_url
        self._heartbeat = stack.place("EVODIFF_RUNS_DIR") / HEARTBEAT_FILE
        self._told: list[dict[str, Any]] = []

    def fire(self, name: str, degraded: str) -> None:
        labels = {"alertname": name, "arm": "stable", "degraded": degraded}
        self._told.append({"labels": labels, "startsAt": datetime.now(UTC).isoformat()})
        self.repeat()

    def repeat(self) -> None:
        """Tell all of them again: they go on firing."""
        until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        alerts = [{**alert, "endsAt": until} for alert in self._told]
        httpx.post(f"{self._url}/api/v2/alerts", json=alerts, timeout=60).raise_for_status()

    def end(self) -> None:
        """None of them fires any more."""
        now = datetime.now(UTC).isoformat()
        alerts = [{**alert, "endsAt": now} for alert in self._told]
        httpx.post(f"{self._url}/api/v2/alerts", json=alerts, timeout=60).raise_for_status()

    def heard(self) -> int:
        """Return how many alerts fired when the watcher asked last, and forget it; 0 where it has not asked since."""
        if not self._heartbeat.exists():
            return 0
        found = json.loads(self._heartbeat.read_text())["firing"]
        self._heartbeat.unlink(missing_ok=True)
        return int(found)


@pytest.fixture
def alerts(whole_stack: Stack) -> Iterator[Alerts]:
    alerts = Alerts(whole_stack)
    yield alerts
    alerts.end()


@pytest.fixture
def run(whole_stack: Stack, release: Callable[[Mapping[str, Any]], None]) -> Iterator[Run]:
    """A run at rest whose champion serves, as the release file says; the watcher listens."""
    run = new_run(whole_stack.place("EVODIFF_RUNS_DIR") / "alarmed", strategy="random")
    submit(run, {"form": "alarmed"}, {"policy": "on alert", "generations": 1}, datetime.now(UTC))
    evolve_generation(run, TellingPool(lambda trial: {"kid": int(trial["candidate"], 16) / 2**64}), "alarmed-form")
    best = champion(run)
    assert best is not None
    release({**EMPTY, "champion": {"run": run.name, "candidate": best.id, "generation": 0}})
    pause(whole_stack, False)
    yield run
    set_state(run, State.STOPPED)
    pause(whole_stack, True)


def pause(stack: Stack, wanted: bool) -> None:
    stack.api.ask("PATCH", f"/api/v2/dags/{DAG}", {"is_paused": wanted})


def test_alerts_are_heard_answered_once_each_and_the_page_tells(whole_stack: Stack, run: Run, alerts: Alerts) -> None:
    site = whole_stack
    wait_for("the watcher asks", lambda: (alerts.heard(), _page(site)["headline"].startswith("It listens"))[1])
    before = set(site.api.runs(DAG))

    alerts.fire("SlowCalls", "latency")
    wait_for("the alert has a request", lambda: len(requests(run)) == 2)
    wait_for("the generation is asked for", lambda: "alarmed-g0001" in site.api.runs(EVOLVE))
    wait_for("the answer is over", lambda: _answers(site, before) == {"success"})

    # It goes on firing, is told fifty times more, and asks for nothing more.
    answered, heard = len(site.api.runs(DAG)), 0
    while heard < 50:
        alerts.repeat()
        heard += wait_for("it is heard again", alerts.heard, every=0.1)
    assert (len(requests(run)), len(site.api.runs(DAG))) == (2, answered)

    alerts.fire("WorseRatings", "rating")
    wait_for("a different alert has its own", lambda: len(requests(run)) == 3)
    causes = {request.cause.get("alert") for request in requests(run)}
    assert causes == {None, "SlowCalls", "WorseRatings"}

    _check_page_is_behind_the_login(site)
    pause(site, True)
    assert "paused" in _page(site)["headline"]


def _answers(site: Stack, before: set[str]) -> set[str]:
    """Return the states of the runs that answer alerts since."""
    return {state for name, state in site.api.runs(DAG).items() if name not in before}


def _page(site: Stack) -> dict[str, Any]:
    login = {"username": USER, "password": password(site.site)}
    token = httpx.post(f"{site.site.airflow_url}/auth/token", json=login, timeout=60).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.get(f"{site.site.airflow_url}/evodiff/watcher.json", headers=headers, timeout=60)
    answer.raise_for_status()
    shown = httpx.get(f"{site.site.airflow_url}/evodiff/watcher", headers=headers, timeout=60)
    found: dict[str, Any] = answer.json()
    assert found["headline"] in shown.text
    return found


def _check_page_is_behind_the_login(site: Stack) -> None:
    for path in ("/evodiff/watcher", "/evodiff/watcher.json"):
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            answer = httpx.get(site.site.airflow_url + path, headers=headers, timeout=60)
            assert answer.status_code in (401, 403), path
            assert "polled" not in answer.text
