"""What the DAG files say, read in a process of its own that has a home of its own."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evodiff.pipeline.housekeeping import CHORES
from evodiff.pipeline.steering import Steering
from evodiff.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]
HEAVY = ["torch", "mlflow", "sklearn", "diffusers", "great_expectations", "dvc"]

READ = """
import json, sys
import airflow.sdk
from importlib import import_module
for name in json.loads(sys.argv[1]):
    import_module(name)
modules = sorted(sys.modules)
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[2])
assert not bag.import_errors, bag.import_errors
from airflow.serialization.encoders import encode_asset_like

def assets(dag):
    condition = getattr(dag.timetable, "asset_condition", None)
    return [] if condition is None else encode_asset_like(condition).get("objects", [])

described = {}
for dag in bag.dags.values():
    described[dag.dag_id] = {
        "tasks": {
            task.task_id: {
                "pool": task.pool,
                "downstream": sorted(task.downstream_task_ids),
                "retries": task.retries,
                "mapped": task.is_mapped,
                "rule": str(task.trigger_rule.value),
            }
            for task in dag.tasks
        },
        "params": {key: dag.params.get_param(key).schema for key in dag.params},
        "doc": dag.doc_md,
        "watchers": [item["trigger"] for asset in assets(dag) for item in asset.get("watchers", [])],
        "assets": [asset["name"] for asset in assets(dag)],
        "paused_at_first": dag.is_paused_upon_creation,
    }
before = set(sys.modules)
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
print(json.dumps({
    "dags": described,
    "modules": modules,
    "plugins": [plugin.name for plugin in plugins if str(plugin.source).startswith("$PLUGINS")],
    "plugin_errors": errors,
    "loaded_by_plugins": sorted(set(sys.modules) - before),
}))
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything that the DAG files define, and the modules that reading them imports."""
    names = sorted(file.stem for file in (PROJECT / "dags").glob("*.py"))
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": os.pathsep.join(map(str, [PROJECT / "dags", PROJECT / "plugins"])),
    }
    done = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(names), PROJECT / "dags"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return content


def test_reading_the_dags_imports_nothing_heavy(read: dict[str, Any]) -> None:
    assert [name for name in HEAVY if name in read["modules"]] == []
    assert "airflow.sdk" in read["modules"]


def test_one_run_is_one_generation_in_order(read: dict[str, Any]) -> None:
    tasks = read["dags"]["evolve_architecture"]["tasks"]
    order = ["open", "plan", "train_proxy", "evaluate", "select"]
    for before, after in itertools.pairwise(order):
        assert after in tasks[before]["downstream"]
    assert {"archive", "register", "request_next"} <= set(tasks["select"]["downstream"])
    assert tasks["register"]["downstream"] == ["canary_deploy"]
    assert "start_next" in tasks["request_next"]["downstream"]
    assert [name for name, task in tasks.items() if task["mapped"]] == [
        "train_proxy",
        "evaluate",
        "train_heir",
        "start_next",
    ]
    # An heir trains where trainings do, and holds up what times the front; where there is none, its task is skipped.
    assert set(tasks["train_heir"]["downstream"]) == {"canary_deploy", "report"}
    assert tasks["train_heir"]["pool"] == "training"
    assert tasks["canary_deploy"]["rule"] == "none_failed_min_one_success"


def test_a_search_with_nothing_left_to_try_still_gets_its_report(read: dict[str, Any]) -> None:
    tasks = read["dags"]["evolve_architecture"]["tasks"]
    assert "report" in tasks["open"]["downstream"]
    assert tasks["report"]["rule"] == "none_failed"


def test_a_damaged_experiment_fails_a_task_that_holds_up_nobody(read: dict[str, Any]) -> None:
    tasks = read["dags"]["keep_evolving"]["tasks"]
    assert tasks["survey"]["downstream"] == ["name_damage", "start"]
    assert tasks["name_damage"]["downstream"] == []


def test_only_pools_that_the_bootstrap_makes_are_named(read: dict[str, Any]) -> None:
    pools = {task["pool"] for dag in read["dags"].values() for task in dag["tasks"].values()}
    assert pools <= {"default_pool", "training", "mps", "dvc"}
    tasks = read["dags"]["evolve_architecture"]["tasks"]
    assert {name for name, task in tasks.items() if task["pool"] == "dvc"} == {"archive", "register", "canary_deploy"}


def test_every_field_of_the_form_is_one_that_opening_knows(read: dict[str, Any]) -> None:
    fields = set(read["dags"]["evolve_architecture"]["params"]) - {"experiment", "transfer_from"}
    known = set(Settings.model_fields) | {"steps"} | set(Steering.__dataclass_fields__)
    assert fields <= known
    assert {"dataset", "population", "steps", "objectives", "target", "seed", "policy", "generations"} <= fields


def test_the_form_says_what_each_field_is_and_bounds_it(read: dict[str, Any]) -> None:
    params = read["dags"]["evolve_architecture"]["params"]
    assert params["experiment"]["pattern"]
    assert params["population"]["minimum"] == 2
    assert params["policy"]["enum"] == [None, "continuous", "cron", "on alert"]
    assert params["policy"]["section"]


def test_pausing_and_backfills_are_explained(read: dict[str, Any]) -> None:
    doc = read["dags"]["evolve_architecture"]["doc"]
    for word in ("freezes", "backfill", "evodiff pause", "evodiff stop"):
        assert word in doc
    assert all(dag["doc"] for dag in read["dags"].values())


def test_every_chore_of_housekeeping_is_a_task_and_the_archive_has_its_pool(read: dict[str, Any]) -> None:
    tasks = read["dags"]["housekeeping"]["tasks"]
    assert set(tasks) == set(CHORES)
    assert [name for name, task in tasks.items() if task["pool"] == "dvc"] == ["archive"]
    assert all(task["downstream"] == ["database"] for name, task in tasks.items() if name != "database")


def test_every_run_is_audited_in_a_task_of_its_own(read: dict[str, Any]) -> None:
    tasks = read["dags"]["audit"]["tasks"]
    assert tasks["find_runs"]["downstream"] == ["audit_run"]
    assert tasks["audit_run"]["mapped"]


def test_alerts_become_requests_then_runs_and_what_failed_is_named(read: dict[str, Any]) -> None:
    dag = read["dags"]["reoptimize_on_alert"]
    assert dag["tasks"]["answer"]["downstream"] == ["name_trouble", "start"]
    assert dag["tasks"]["start"]["mapped"]
    assert "Pausing this DAG ends the watch" in dag["doc"]
    (watcher,) = dag["watchers"]
    assert watcher["classpath"] == "evodiff_airflow.alerts.PrometheusAlertTrigger"
    assert watcher["kwargs"]["matchers"] == ['arm="stable"', 'degraded=~".+"']
    assert watcher["kwargs"]["acknowledged"] is True


def test_a_rollout_is_followed_asked_about_and_kept_whatever_the_answer(read: dict[str, Any]) -> None:
    tasks = read["dags"]["release_canary"]["tasks"]
    assert "follow" in tasks["find"]["downstream"]
    assert {"is_to_ask", "keep"} <= set(tasks["follow"]["downstream"])
    assert tasks["is_to_ask"]["downstream"] == ["ask"]
    assert "tell" in tasks["ask"]["downstream"]
    assert tasks["keep"]["rule"] == "none_failed_min_one_success"
    assert read["dags"]["release_canary"]["params"]["approval"]["type"] == "boolean"


def test_the_page_of_the_watcher_names_dag_and_asset_as_they_are(read: dict[str, Any]) -> None:
    health = (PROJECT / "plugins" / "evodiff_airflow" / "health.py").read_text()
    assert 'DAG = "reoptimize_on_alert"' in health
    (asset,) = read["dags"]["reoptimize_on_alert"]["assets"]
    assert f'ASSET = "{asset}"' in health


def test_airflow_loads_one_plugin_and_makes_no_modules_of_the_package(read: dict[str, Any]) -> None:
    assert read["plugins"] == ["evodiff"]
    assert read["plugin_errors"] == {}
    assert {"alerts", "connections", "health", "rollouts", "__init__"} & set(read["loaded_by_plugins"]) == set()
    assert "fastapi" not in read["loaded_by_plugins"]
