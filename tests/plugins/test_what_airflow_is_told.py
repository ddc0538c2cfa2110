"""What Airflow does with a failure: which are tried again, and who is told what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]

ASK = """
import asyncio, json, logging, os, sys
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import uuid4
import structlog
from airflow.callbacks.callback_requests import DagCallbackRequest, DagRunContext
from airflow.dag_processing.dagbag import DagBag
from airflow.dag_processing.processor import _execute_dag_callbacks
from airflow.sdk import BaseHook
from airflow.sdk.api.datamodels import _generated as models
import evodiff.errors, evodiff_notifications, scheduling
from evodiff.pipeline.opening import AlreadyLooping, NothingToDo

asked = json.loads(sys.argv[1])
answers = {"retried": {}, "addresses": {}}

for error in (*vars(evodiff.errors).values(), AlreadyLooping, NothingToDo, TimeoutError, OSError):
    if isinstance(error, type) and issubclass(error, BaseException):
        decision = scheduling.RETRY_BY_CAUSE.evaluate(error.__new__(error), 1, 3)
        answers["retried"][error.__name__] = decision.action.value

for uri in asked["uris"]:
    os.environ["AIRFLOW_CONN_ASKED"] = uri
    answers["addresses"][uri] = evodiff_notifications.address(BaseHook.get_connection("asked"))
for fields in asked["fields"]:
    found = evodiff_notifications.address(SimpleNamespace(**fields))
    answers["addresses"][json.dumps(fields)] = found

os.environ["AIRFLOW_CONN_EVODIFF_ALERTS"] = asked["receiver"]
now = datetime.now(UTC)
run = models.DagRun.model_construct(
    dag_id="evolve_architecture", run_id="left-g0003", run_after=now, conf={"experiment": "left", "chain": True},
    logical_date=None, data_interval_start=None, data_interval_end=None, start_date=now, end_date=None,
    run_type="manual", state="failed", consumed_asset_events=[], partition_key=None,
)
task = models.TaskInstance(
    id=uuid4(), task_id="train_proxy", dag_id=run.dag_id, run_id=run.run_id, try_number=2, map_index=1,
    dag_version_id=uuid4(), queue="default",
)
bag = DagBag(asked["dags"])
listed = lambda found: found if isinstance(found, list) else [found] if found else []
answers["dags"] = {
    dag.dag_id: {
        "fields": {name: dag.params.get_param(name).description for name in dag.params},
        "tells": [callback.__name__ for callback in listed(dag.on_failure_callback)],
        "deadlines": [item.callback.path for item in listed(dag.deadline)],
        "before": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
        "policies": {task.task_id: task.retry_policy is scheduling.RETRY_BY_CAUSE for task in dag.tasks},
        "shown": {
            task.task_id: task.partial_kwargs.get("map_index_template") for task in dag.tasks if task.is_mapped
        },
    }
    for dag in bag.dags.values()
}
for context in (DagRunContext(dag_run=run, last_ti=task), None):
    request = DagCallbackRequest(
        filepath="evolve_architecture.py", dag_id=run.dag_id, run_id=run.run_id, bundle_name="dags-folder",
        bundle_version=None, context_from_server=context, is_failure_callback=True, msg="task_failure",
    )
    _execute_dag_callbacks(bag, request, structlog.get_logger())

lost = evodiff.errors.PoolError("A worker was lost.", remedy="Free memory.")
shown = SimpleNamespace(task_id="report", map_index=-1, log_url="http://airflow/report")
dag = SimpleNamespace(dag_id="evolve_architecture")
evodiff_notifications.generation_failed(
    {"dag": dag, "run_id": "left-g0004", "dag_run": run, "ti": shown, "exception": lost, "reason": "unused"}
)
late = {"dag_id": run.dag_id, "dag_run_id": run.run_id, "conf": run.conf}
deadline = {"id": "1", "deadline_time": "2026-01-01T00:00:00Z"}
asyncio.run(evodiff_notifications.generation_hangs(context={"dag_run": late, "deadline": deadline}))

os.environ["AIRFLOW_CONN_EVODIFF_ALERTS"] = asked["deaf"]
evodiff_notifications.tell({"event": "nobody listens"})
del os.environ["AIRFLOW_CONN_EVODIFF_ALERTS"]
evodiff_notifications.tell({"event": "nobody is named"})
print(json.dumps(answers))
"""

SLACK = "https://hooks.slack.com/services/T/B/X"
URIS = {
    SLACK: SLACK,
    "https://:token@alerts.example:8443/a/b": "https://alerts.example:8443/a/b",
    "http://127.0.0.1:9000": "http://127.0.0.1:9000/",
    "http://https://alerts.example/hook": "https://alerts.example/hook",
    "generic://alerts.example/hook": "https://alerts.example/hook",
}
FORM = {"conn_type": "http", "host": "alerts.example", "schema": None, "port": None}
FIELDS = [
    (FORM, "http://alerts.example/"),
    ({**FORM, "schema": "https", "port": 8443}, "https://alerts.example:8443/"),
    ({**FORM, "host": "https://alerts.example/hook"}, "https://alerts.example/hook"),
    ({**FORM, "conn_type": "generic"}, "https://alerts.example/"),
    ({**FORM, "conn_type": "generic", "schema": "http", "host": "alerts.example/hook"}, "http://alerts.example/hook"),
]
BASE = "http://127.0.0.1:18080"


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted to it, as (path, token, content)."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, str | None, dict[str, Any]]] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    """Receives for :class:`Receiver`."""

    server: Receiver

    def do_POST(self) -> None:
        """Keep what came."""
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posted.append((self.path, self.headers.get("Authorization"), content))
        self.send_response(204)
        self.end_headers()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """The address that messages are posted to."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def answers(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow decided; what it told is with the receiver."""
    port = receiver.server_address[1]
    asked = {
        "uris": list(URIS),
        "fields": [fields for fields, _ in FIELDS],
        "dags": str(PROJECT / "dags"),
        "receiver": f"http://:secret-token@127.0.0.1:{port}/services/T/B/X",
        "deaf": f"http://127.0.0.1:{port}/no%0Aaddress",
    }
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__API__BASE_URL": f"{BASE}/",
        "PYTHONPATH": os.pathsep.join(map(str, [PROJECT / "dags", PROJECT / "plugins"])),
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(asked)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return content


def test_what_the_surroundings_did_is_tried_again_and_bad_input_is_not(answers: dict[str, Any]) -> None:
    again = {"Interrupted", "PoolError"}
    chance = {"TimeoutError", "OSError"}  # by Airflow's own count of retries
    assert {name for name, action in answers["retried"].items() if action == "retry"} == again
    assert {name for name, action in answers["retried"].items() if action == "fail"} >= {
        *("EvodiffError", "SettingsError", "InvalidGenome", "DatasetError", "GateFailed", "LedgerError"),
        *("AlreadyLooping", "NothingToDo"),
    }
    assert {name for name, action in answers["retried"].items() if action == "default"} == chance


def test_every_field_of_every_form_says_what_it_is(answers: dict[str, Any]) -> None:
    fields = {(dag, name): text for dag, found in answers["dags"].items() for name, text in found["fields"].items()}
    assert {dag for dag, _ in fields} >= {"evolve_architecture", "prepare_data"}
    assert [field for field, text in fields.items() if not text] == []


def test_a_generation_that_fails_or_hangs_is_told_of(answers: dict[str, Any]) -> None:
    evolve = answers["dags"]["evolve_architecture"]
    assert evolve["tells"] == ["generation_failed"]
    assert evolve["deadlines"] == ["evodiff_notifications.generation_hangs"]
    assert (evolve["shown"]["train_proxy"], evolve["shown"]["evaluate"]) == ("{{ shard_name }}", "{{ shard_name }}")


def test_the_front_is_timed_when_nothing_else_of_its_run_is_at_work(answers: dict[str, Any]) -> None:
    before = answers["dags"]["evolve_architecture"]["before"]
    assert {"archive", "request_next"} <= set(before["report"])
    assert "register" in before["canary_deploy"]


def test_every_task_tries_again_by_the_cause_of_its_failure(answers: dict[str, Any]) -> None:
    for dag in answers["dags"].values():
        assert [task for task, by_cause in dag["policies"].items() if not by_cause] == []


def test_connections_name_addresses_in_all_the_ways_of_airflow(answers: dict[str, Any]) -> None:
    assert answers["addresses"] == {**URIS, **{json.dumps(fields): expected for fields, expected in FIELDS}}


def test_a_failed_run_is_told_with_its_experiment_task_cause_and_link(
    answers: dict[str, Any], receiver: Receiver
) -> None:
    path, token, message = receiver.posted[0]
    assert path == "/services/T/B/X"
    assert token == "Bearer secret-token"
    assert message == {
        "event": "generation_failed",
        "dag": "evolve_architecture",
        "run": "left-g0003",
        "experiment": "left",
        "task": "train_proxy[1]",
        "cause": "task_failure",
        "link": f"{BASE}/dags/evolve_architecture/runs/left-g0003/tasks/train_proxy/mapped/1?try_number=2",
    }


def test_a_failed_run_of_which_airflow_knows_no_task_is_told_as_well(
    answers: dict[str, Any], receiver: Receiver
) -> None:
    message = receiver.posted[1][2]
    assert message["task"] is None
    assert message["cause"] == "task_failure"
    assert message["link"] == f"{BASE}/dags/evolve_architecture/runs/left-g0003"


def test_the_error_of_a_task_is_the_cause(answers: dict[str, Any], receiver: Receiver) -> None:
    message = receiver.posted[2][2]
    assert message["cause"] == "PoolError: A worker was lost. Free memory."
    assert (message["task"], message["link"]) == ("report", "http://airflow/report")


def test_a_generation_that_takes_too_long_is_told(answers: dict[str, Any], receiver: Receiver) -> None:
    assert receiver.posted[3][2] == {
        "event": "generation_hangs",
        "dag": "evolve_architecture",
        "run": "left-g0003",
        "experiment": "left",
        "task": None,
        "cause": "it has not ended by 2026-01-01T00:00:00Z",
        "link": f"{BASE}/dags/evolve_architecture/runs/left-g0003",
    }


def test_telling_nobody_or_a_broken_address_breaks_nothing(answers: dict[str, Any], receiver: Receiver) -> None:
    assert len(receiver.posted) == 4
