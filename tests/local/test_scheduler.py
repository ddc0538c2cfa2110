"""Airflow's REST API, asked of a server that pretends: what an answer of 5xx leaves open."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evodiff.local.environment import Site
from evodiff.local.scheduler import Scheduler, SchedulerError


class Airflow(ThreadingHTTPServer):
    """Answers with the statuses that a test gives, in order, and keeps the ids of runs that were asked for."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    """Answers for :class:`Airflow`."""

    server: Airflow

    def do_POST(self) -> None:
        """Log in, or take the next status."""
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 201 if self.path == "/auth/token" else self.server.statuses.pop(0)
        if "dag_run_id" in content:
            self.server.asked.append(content["dag_run_id"])
        answer = json.dumps({"access_token": "of no worth"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@pytest.fixture
def airflow() -> Iterator[Airflow]:
    """A server that pretends to be Airflow."""
    with Airflow() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def scheduler(airflow: Airflow, tmp_path: Path) -> Scheduler:
    """A login to it."""
    site = Site(tmp_path, tmp_path, int(airflow.server_address[1]), 1)
    site.passwords.parent.mkdir()
    site.passwords.write_text(json.dumps({"admin": "secret"}))
    return Scheduler(site)


def test_a_run_that_was_made_in_spite_of_an_error_counts_as_started(airflow: Airflow, scheduler: Scheduler) -> None:
    airflow.statuses = [500, 409]
    assert scheduler.trigger("evolve_architecture", {}, "mine") == "mine"
    assert airflow.asked == ["mine", "mine"]


def test_a_run_of_an_id_that_was_there_before_is_refused(airflow: Airflow, scheduler: Scheduler) -> None:
    airflow.statuses = [409]
    with pytest.raises(SchedulerError, match="409"):
        scheduler.trigger("evolve_architecture", {}, "mine")
