"""The trigger that hears of alerts, the sensor that waits for one, and the operators that follow a rollout.

They run in a process that has Airflow to itself, with an Alertmanager and a router that are told what to say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]

ASK = """
import asyncio, json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
import os

says = {"/api/v2/alerts": [], "/v1/release": {"revision": 1, "rollout": None}}
asked = []

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append((self.path, self.headers.get("Authorization")))
        content = says[self.path.partition("?")[0]]
        body = json.dumps(content).encode()
        self.send_response(500 if content == "broken" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"127.0.0.1:{server.server_port}"
os.environ["AIRFLOW_CONN_EVODIFF_ALERTMANAGER"] = f"http://:token@{address}"
os.environ["AIRFLOW_CONN_EVODIFF_ROUTER"] = f"http://:token@{address}"

from airflow.sdk.exceptions import TaskDeferred
from evodiff_airflow.alerts import ACKNOWLEDGED, HEARTBEAT, TOLD, AlertStateTrigger, PrometheusAlertSensor
from evodiff_airflow.alerts import PrometheusAlertTrigger, acknowledge
from evodiff_airflow.rollouts import AskToPromote, FollowRollout, RolloutTrigger
import evodiff.monitoring.watch as watching

answers = {}

def alert(fingerprint, starts_at="2026-03-02T12:00:00Z"):
    return {"fingerprint": fingerprint, "startsAt": starts_at, "labels": {"alertname": fingerprint}, "annotations": {}}

class Store:
    def __init__(self):
        self.kept = {}
    async def aget(self, key, default=None):
        return self.get(key, default)
    async def aset(self, key, value):
        self.set(key, value)
    def get(self, key, default=None):
        return json.loads(self.kept[key]) if key in self.kept else default
    def set(self, key, value):
        self.kept[key] = json.dumps(value)

def trigger(store, **options):
    made = PrometheusAlertTrigger(['arm="stable"'], poll_interval=0.02, **options)
    path, arguments = made.serialize()
    assert path == "evodiff_airflow.alerts.PrometheusAlertTrigger"
    again = PrometheusAlertTrigger(**json.loads(json.dumps(arguments)))
    again.asset_state_store = store
    return again

async def polled(times):
    # Wait until the servers have been asked so many times more.
    enough = len(asked) + times
    while len(asked) < enough:
        await asyncio.sleep(0.01)

async def events(watch, polls=4):
    found = []
    async def listen():
        async for event in watch:
            found.append(event.payload["fingerprint"])
    listening = asyncio.create_task(listen())
    await asyncio.wait_for(polled(polls), 60)
    listening.cancel()
    await asyncio.wait([listening])
    return found

async def scenario():
    store = Store()
    says["/api/v2/alerts"] = [alert("one")]
    answers["begins"] = await events(trigger(store).run())
    answers["token"] = asked[0][1]
    answers["asked"] = asked[0][0]
    answers["heartbeat"] = store.get(HEARTBEAT)
    answers["file"] = json.loads((Path(os.environ["EVODIFF_RUNS_DIR"]) / watching.HEARTBEAT_FILE).read_text())
    answers["restarted"] = await events(trigger(store).run())
    says["/api/v2/alerts"] = [alert("one"), alert("two")]
    answers["another"] = await events(trigger(store).run())
    says["/api/v2/alerts"] = [alert("one", "2026-03-02T13:00:00Z")]
    answers["begins again"] = await events(trigger(store).run())

    # It is told again by a triggerer that died before the next poll, for nobody knows whether it was heard.
    store = Store()
    says["/api/v2/alerts"] = [alert("one")]
    dying = trigger(store).run()
    answers["before dying"] = (await anext(dying)).payload["fingerprint"]
    await dying.aclose()
    answers["after dying"] = await events(trigger(store).run())

    store = Store()
    says["/api/v2/alerts"] = "broken"
    watch = trigger(store)
    answers["broken"] = await events(watch.run())
    answers["trouble"] = store.get(HEARTBEAT)
    says["/api/v2/alerts"] = [alert("one")]
    answers["mended"] = await events(watch.run())
    answers["no trouble"] = store.get(HEARTBEAT)

    watching.RETELL_SECONDS = 0.05
    store = Store()
    answers["unheard"] = len(await events(trigger(store, acknowledged=True).run(), polls=20))
    store = Store()
    acknowledge(store, ["one@2026-03-02T12:00:00.000+00:00"])
    answers["heard"] = len(await events(trigger(store, acknowledged=True).run(), polls=20))
    acknowledge(store, [f"x{index}" for index in range(1000)])
    answers["acknowledgements"] = len(store.get(ACKNOWLEDGED))

    watch = AlertStateTrigger(['arm="stable"'], "resolved", "evodiff_alertmanager", 0.02)
    waiting = asyncio.create_task(anext(watch.run()))
    await polled(3)
    answers["fires still"] = waiting.done()
    says["/api/v2/alerts"] = "broken"
    await polled(3)
    answers["unknown is not resolved"] = waiting.done()
    says["/api/v2/alerts"] = []
    answers["resolved"] = (await asyncio.wait_for(waiting, 60)).payload

    rollout = {"id": "r1", "waits_for": None, "weight": 0.05}
    says["/v1/release"] = {"revision": 4, "rollout": rollout, "challenger": {"run": "a", "candidate": "c"}}
    waiting = asyncio.create_task(anext(RolloutTrigger("r1", "evodiff_router", 0.02).run()))
    await polled(3)
    answers["goes on"] = waiting.done()
    says["/v1/release"] = {"revision": 5, "rollout": {**rollout, "waits_for": "approval"}}
    answers["waits"] = (await asyncio.wait_for(waiting, 60)).payload
    waiting = asyncio.create_task(anext(RolloutTrigger("r1", "evodiff_router", 0.02, revision=5).run()))
    await polled(3)
    answers["still a question"] = waiting.done()
    says["/v1/release"] = {"revision": 6, "rollout": {**rollout, "weight": 1.0}}
    answers["promoted by the API"] = (await asyncio.wait_for(waiting, 60)).payload
    says["/v1/release"] = {"revision": 7, "rollout": None}
    answers["over"] = (await asyncio.wait_for(anext(RolloutTrigger("r1", "evodiff_router", 0.02).run()), 60)).payload
    says["/v1/release"] = {"revision": 5, "rollout": {**rollout, "waits_for": "approval"}}
    late = RolloutTrigger("r1", "evodiff_router", 0.02, revision=5, until=1.0)
    answers["late"] = (await asyncio.wait_for(anext(late.run()), 60)).payload

asyncio.run(scenario())
answers["imported"] = [name for name in ("numpy", "torch", "sklearn", "moocore", "mlflow") if name in sys.modules]

says["/api/v2/alerts"] = [alert("one")]
sensor = PrometheusAlertSensor(task_id="wait", matchers=['arm="stable"'], timeout=60, poll_interval=0.1)
answers["sensor fires"] = [item["fingerprint"] for item in sensor.execute({})]
sensor = PrometheusAlertSensor(task_id="wait2", matchers=['arm="stable"'], state="resolved", timeout=60)
try:
    sensor.execute({})
except TaskDeferred as deferred:
    answers["deferred"] = [deferred.method_name, deferred.timeout.total_seconds(), deferred.trigger.serialize()[1]]
try:
    PrometheusAlertSensor(task_id="wait3", matchers=[], state="quiet")
except ValueError as error:
    answers["refused"] = str(error)

ask = AskToPromote(task_id="ask", subject="?", rollout="r1", revision=5)
answers["asks"] = [ask.options, ask.defaults]
answers["nobody"] = ask.execute_complete({}, {"stage": "timed out"})
answers["moved"] = ask.execute_complete({}, {"stage": "moved"})
from datetime import datetime
said = {"chosen_options": ["Promote"], "params_input": {}, "responded_at": datetime.now(), "timedout": False}
answers["person"] = ask.execute_complete({}, {**said, "responded_by_user": {"id": "1", "name": "Ada"}})
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of everything above."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "EVODIFF_"))},
        "AIRFLOW_HOME": str(home),
        "EVODIFF_RUNS_DIR": str(home),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join(map(str, [PROJECT, PROJECT / "dags", PROJECT / "plugins"])),
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, cwd=home, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return content


def test_an_alert_is_told_when_it_begins_and_once(answers: dict[str, Any]) -> None:
    assert answers["begins"] == ["one"]
    assert answers["restarted"] == []
    assert answers["another"] == ["two"]
    assert answers["begins again"] == ["one"]


def test_alertmanager_is_asked_with_matchers_and_token(answers: dict[str, Any]) -> None:
    assert answers["token"] == "Bearer token"
    assert "silenced=false" in answers["asked"]
    assert "filter=arm%3D%22stable%22" in answers["asked"]


def test_a_triggerer_that_dies_tells_again_rather_than_never(answers: dict[str, Any]) -> None:
    assert answers["before dying"] == "one"
    assert answers["after dying"] == ["one"]


def test_the_watcher_says_when_it_polled_and_what_is_wrong(answers: dict[str, Any]) -> None:
    assert answers["heartbeat"]["firing"] == 1
    assert answers["heartbeat"]["trouble"] is None
    assert answers["file"]["at"] > 1.7e9
    assert answers["broken"] == []
    assert answers["trouble"]["at"] is None
    assert "found 500" in answers["trouble"]["trouble"]
    assert answers["mended"] == ["one"]
    assert answers["no trouble"]["trouble"] is None


def test_what_no_task_has_acknowledged_is_told_again_and_what_one_has_is_not(answers: dict[str, Any]) -> None:
    assert answers["unheard"] >= 2
    assert answers["heard"] == 1
    assert answers["acknowledgements"] == 200


def test_the_sensor_goes_by_the_state_and_an_alertmanager_that_is_away_has_none(answers: dict[str, Any]) -> None:
    assert answers["sensor fires"] == ["one"]
    assert (answers["fires still"], answers["unknown is not resolved"]) == (False, False)
    assert answers["resolved"] == {"alerts": []}
    method, seconds, arguments = answers["deferred"]
    assert (method, seconds) == ("execute_complete", 60.0)
    assert arguments["state"] == "resolved"
    assert "quiet" in answers["refused"]


def test_a_rollout_is_followed_until_it_waits_or_is_over(answers: dict[str, Any]) -> None:
    assert answers["goes on"] is False
    assert answers["waits"] == {"stage": "waiting", "revision": 5}
    assert answers["over"] == {"stage": "over", "revision": 7}


def test_a_command_to_the_router_ends_the_question(answers: dict[str, Any]) -> None:
    assert answers["still a question"] is False
    assert answers["promoted by the API"] == {"stage": "moved", "revision": 6}
    assert answers["moved"] == {"answer": "moved", "by": "the release"}


def test_who_says_nothing_in_time_rejects(answers: dict[str, Any]) -> None:
    assert answers["asks"] == [["Promote", "Reject"], ["Reject"]]
    assert answers["late"]["stage"] == "timed out"
    assert answers["nobody"]["answer"] == "Reject"
    assert answers["person"] == {"answer": "Promote", "by": "Ada"}


def test_a_triggerer_that_listens_imports_none_of_the_engine(answers: dict[str, Any]) -> None:
    assert answers["imported"] == []
