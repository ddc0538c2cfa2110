"""An alert on a real scheduler: the triggerer hears it, a DAG answers it once, a page tells whether it listens."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow_site import EVOLVE, PROJECT, Services, wait_for

from evodiff.local.scheduler import USER, password
from evodiff.local.services import make_pools, migrate
from evodiff.pipeline.evolve import evolve_generation
from evodiff.pipeline.final import champion
from evodiff.pipeline.release import EMPTY
from evodiff.pipeline.requests import requests, submit
from evodiff.pipeline.run import Run

sys.path.insert(0, str(PROJECT / "tests" / "pipeline"))
from told_runs import TellingPool, new_run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

DAG = "reoptimize_on_alert"


class Alerts(ThreadingHTTPServer):
    """Stands where an Alertmanager does; ``firing`` is what it tells."""

    def __init__(self) -> None:
        self.firing: list[dict[str, Any]] = []
        self.asked = 0
        super().__init__(("127.0.0.1", 0), Handler)

    def fire(self, fingerprint: str, degraded: str) -> None:
        labels = {"alertname": fingerprint, "arm": "stable", "degraded": degraded}
        begun = datetime.now(UTC).isoformat()
        self.firing = [*self.firing, {"fingerprint": fingerprint, "startsAt": begun, "labels": labels}]


class Handler(BaseHTTPRequestHandler):
    """Answers for :class:`Alerts`."""

    server: Alerts

    def do_GET(self) -> None:
        """Tell what fires."""
        self.server.asked += 1
        content = json.dumps(self.server.firing).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def alerts() -> Iterator[Alerts]:
    server = Alerts()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def site(tmp_path: Path, environment: dict[str, str], alerts: Alerts) -> Iterator[Services]:
    """Airflow alone, with a run at rest whose champion serves."""
    connection = f"http://127.0.0.1:{alerts.server_port}"
    own = {"AIRFLOW_CONN_EVODIFF_ALERTMANAGER": connection, "EVODIFF_ALERT_POLL_SECONDS": "2"}
    site = Services(tmp_path, {**environment, **own})
    run = new_run(site.runs / "digits", strategy="random")
    submit(run, {"form": "digits"}, {"policy": "on alert", "generations": 1}, datetime.now(UTC))
    evolve_generation(run, TellingPool(lambda trial: {"kid": int(trial["candidate"], 16) / 2**64}), "digits-form")
    best = champion(run)
    assert best is not None
    entry = {"run": run.name, "candidate": best.id, "generation": 0}
    (tmp_path / "release.json").write_text(json.dumps({**EMPTY, "champion": entry}))
    try:
        migrate(site.site, site.environment)
        for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
            site.start(name)
        wait_for("Airflow is healthy", site.api.healthy)
        wait_for("the DAGs are known", lambda: {EVOLVE, DAG} <= set(site.api.dags()))
        make_pools(site.api)
        yield site
    except AssertionError as failed:
        raise AssertionError(f"{failed}\n{site.logs()}") from failed
    finally:
        site.end_all()


def test_alerts_are_heard_answered_once_each_and_the_page_tells(site: Services, alerts: Alerts) -> None:
    run = Run.open(site.runs / "digits")
    wait_for("the watcher asks", lambda: alerts.asked >= 2)
    assert site.api.runs(DAG) == {}

    alerts.fire("SlowCalls", "latency")
    wait_for("the alert has a request", lambda: len(requests(run)) == 2)
    wait_for("the generation is asked for", lambda: "digits-g0001" in site.states("digits"))
    wait_for("the answer is over", lambda: set(site.api.runs(DAG).values()) == {"success"})
    page = _page(site)
    assert page["headline"].startswith("It listens")

    # It goes on firing, for as long as fifty polls would take, and asks for nothing more.
    asked, answered = alerts.asked, len(site.api.runs(DAG))
    wait_for("fifty more polls", lambda: alerts.asked >= asked + 50)
    assert (len(requests(run)), len(site.api.runs(DAG))) == (2, answered)

    alerts.fire("WorseRatings", "rating")
    wait_for("a different alert has its own", lambda: len(requests(run)) == 3)
    causes = {request.cause.get("alert") for request in requests(run)}
    assert causes == {None, "SlowCalls", "WorseRatings"}

    _check_page_is_behind_the_login(site)
    site.api.ask("PATCH", f"/api/v2/dags/{DAG}", {"is_paused": True})
    assert "paused" in _page(site)["headline"]


def _page(site: Services) -> dict[str, Any]:
    login = {"username": USER, "password": password(site.site)}
    token = httpx.post(f"{site.site.airflow_url}/auth/token", json=login, timeout=60).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.get(f"{site.site.airflow_url}/evodiff/watcher.json", headers=headers, timeout=60)
    answer.raise_for_status()
    shown = httpx.get(f"{site.site.airflow_url}/evodiff/watcher", headers=headers, timeout=60)
    found: dict[str, Any] = answer.json()
    assert found["headline"] in shown.text
    return found


def _check_page_is_behind_the_login(site: Services) -> None:
    for path in ("/evodiff/watcher", "/evodiff/watcher.json"):
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            answer = httpx.get(site.site.airflow_url + path, headers=headers, timeout=60)
            assert answer.status_code in (401, 403), path
            assert "polled" not in answer.text
