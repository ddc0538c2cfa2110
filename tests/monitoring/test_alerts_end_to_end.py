"""A real Prometheus and a real Alertmanager: a rule fires, Alertmanager tells, silencing hides it, mending ends it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from evodiff.local.environment import Site, free_ports, service_environment
from evodiff.local.impatience import hurry_prometheus
from evodiff.local.monitoring import monitoring_programs, write_prometheus_config
from evodiff.monitoring.alerts import Alert, Alertmanager

PROJECT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not monitoring_programs() and os.environ.get("EVODIFF_REQUIRE_SERVERS") != "1",
        reason="Prometheus and Alertmanager are not installed",
    ),
]


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Return the first true value of ``condition``."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.2)
    return found


@contextmanager
def running(command: list[str], log: Path) -> Iterator[None]:
    """Have a program running."""
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


class Watched:
    """A gauge that a test sets, the Prometheus that scrapes it, and the client of its Alertmanager."""

    def __init__(self, folder: Path) -> None:
        registry = CollectorRegistry()
        self.up = Gauge("evodiff_worker_up", "Whether the worker of an arm lives.", ["arm"], registry=registry)
        self.up.labels("stable").set(1)
        self.up.labels("canary").set(1)
        self._server, self._thread = start_http_server(0, addr="127.0.0.1", registry=registry)
        prometheus, alertmanager = free_ports(2)
        target = self._server.server_port
        self.site = Site(folder, PROJECT, 1, 2, target, target, prometheus, alertmanager)
        self.client = Alertmanager(self.site.alertmanager_url)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def ready(self) -> bool:
        try:
            for url in (self.site.prometheus_url, self.site.alertmanager_url):
                urllib.request.urlopen(f"{url}/-/ready", timeout=5).close()
        except OSError:
            return False
        return True

    def firing(self, *matchers: str) -> list[Alert]:
        return self.client.firing(['alertname="WorkerDown"', *matchers])


def write_impatient_config(site: Site) -> Path:
    """Write the site's own configuration, rules included, with seconds for minutes."""
    write_prometheus_config(site, service_environment(site, {}))
    hurry_prometheus(site, 120)
    return site.home / "prometheus" / "prometheus.yml"


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Everything running, and nothing left afterwards."""
    assert monitoring_programs(), "Prometheus and Alertmanager are required and not installed"
    programs = monitoring_programs()
    site_of = Watched(tmp_path)
    site = site_of.site
    config = write_impatient_config(site)
    prometheus = [
        programs["EVODIFF_PROMETHEUS"],
        *(f"--config.file={config}", f"--web.listen-address=127.0.0.1:{site.prometheus_port}"),
        *(f"--storage.tsdb.path={tmp_path / 'data'}", "--rules.alert.resend-delay=1s", "--log.level=warn"),
    ]
    alertmanager = [
        programs["EVODIFF_ALERTMANAGER"],
        *(f"--config.file={PROJECT / 'deploy/alertmanager/alertmanager.yml'}", "--cluster.listen-address="),
        *(f"--web.listen-address=127.0.0.1:{site.alertmanager_port}", f"--storage.path={tmp_path / 'alerts'}"),
    ]
    try:
        with running(alertmanager, tmp_path / "a.log"), running(prometheus, tmp_path / "p.log"):
            wait_for("both are ready", site_of.ready)
            yield site_of
    finally:
        site_of.close()


def silence(watched: Watched) -> str:
    """Silence the alert; return the id of the silence."""
    now = datetime.now(UTC)
    answer = httpx.post(
        f"{watched.site.alertmanager_url}/api/v2/silences",
        json={
            "matchers": [{"name": "alertname", "value": "WorkerDown", "isRegex": False, "isEqual": True}],
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
            "createdBy": "test",
            "comment": "known",
        },
        timeout=10,
    )
    answer.raise_for_status()
    return str(answer.json()["silenceID"])


def test_an_alert_goes_from_a_metric_through_rule_and_alertmanager_to_the_client(watched: Watched) -> None:
    assert watched.firing() == []
    watched.up.labels("stable").set(0)
    (alert,) = wait_for("the alert fires", watched.firing)
    assert (alert.labels["arm"], alert.labels["severity"]) == ("stable", "page")
    assert "not alive" in alert.annotations["summary"]
    assert watched.firing('arm="canary"') == []
    assert watched.firing('arm=~"stab.*"') == [alert]

    identifier = silence(watched)
    wait_for("the silence hides it", lambda: not watched.firing())
    httpx.delete(f"{watched.site.alertmanager_url}/api/v2/silence/{identifier}", timeout=10).raise_for_status()
    (shown,) = wait_for("it is shown again", watched.firing)
    assert shown.identity == alert.identity

    watched.up.labels("stable").set(1)
    wait_for("it has ended", lambda: not watched.firing())
    watched.up.labels("stable").set(0)
    (again,) = wait_for("it fires again", watched.firing)
    assert (again.fingerprint, again.identity == alert.identity) == (alert.fingerprint, False)


def test_prometheus_finds_no_fault_with_what_is_written_for_it(tmp_path: Path) -> None:
    site = Site(tmp_path, PROJECT, 1, 2, 8090, 9108, 9090, 9093)
    write_prometheus_config(site, service_environment(site, {}))
    file = tmp_path / "prometheus" / "prometheus.yml"
    done = subprocess.run([str(shutil.which("promtool")), "check", "config", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 rule files" in done.stdout
    config = yaml.safe_load(file.read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets == {"evodiff-router": ["127.0.0.1:8090"], "evodiff-runs": ["127.0.0.1:9108"]}
    assert json.dumps(config["alerting"]).count("127.0.0.1:9093") == 1
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0
