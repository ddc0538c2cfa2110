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
        "paused_at_first": dag.is_paused_upon_creation,
    }
print(json.dumps({"dags": described, "modules": modules}))
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything that the DAG files define, and the modules that reading them imports."""
    names = sorted(file.stem for file in (PROJECT / "dags").glob("*.py"))
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
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
    assert [name for name, task in tasks.items() if task["mapped"]] == ["train_proxy", "evaluate", "start_next"]


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
