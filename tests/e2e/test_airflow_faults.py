"""What goes wrong on a real scheduler goes right again by itself: nothing torn, nothing twice, no request lost.

The measure is the same in each test: after the fault the run holds the bytes that an undisturbed command line finds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from airflow_site import Services, kill, services, wait_for
from quick_search import CommandLine
from test_airflow_generations import generation_files

from evodiff.pipeline.lease import leases
from evodiff.pipeline.requests import pending, requests
from evodiff.pipeline.run import Run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]

# Long enough trainings to be hit in the middle.
HITTABLE = {"dataset": "digits", "population": 4, "steps": 60}


def undisturbed(evodiff: CommandLine, path: Path, generations: int) -> Path:
    """Return a run of the same settings that the command line made."""
    options = [
        text for name, value in {**HITTABLE, "generations": generations}.items() for text in (f"--{name}", value)
    ]
    evodiff("evolve", *options, "--workers", 2, "--champion-steps", 60, "--out", path)
    return path


def assert_whole(run: Run, generations: int) -> None:
    """Nothing is missing, nothing is there twice, and every request was consumed once."""
    assert run.ledger.closed == generations
    consumed = [request for lease in leases(run) for request in lease.requests]
    assert len(consumed) == len(set(consumed))
    assert {request.id for request in requests(run)} <= set(consumed)
    assert pending(run) == []
    for generation in range(generations):
        plan = [row["id"] for row in run.ledger.plan(generation)]
        assert len(plan) == len(set(plan)) == HITTABLE["population"]
        assert set(run.ledger.evaluations(generation)) == set(plan)


def test_killed_tasks_and_a_killed_scheduler_leave_the_same_run(
    tmp_path: Path, environment: dict[str, str], evodiff: CommandLine
) -> None:
    with services(tmp_path, environment) as site:
        site.trigger("hurt-form", experiment="hurt", generations=3, **HITTABLE)
        _kill_a_task_in_the_middle_of_its_training(site, "hurt")
        wait_for("generation 0 is closed", lambda: site.closed("hurt") >= 1)
        assert site.tries("hurt-form", "train_proxy") >= 2
        _kill_the_parent_of_a_task(site, "hurt")
        wait_for("generation 1 is closed", lambda: site.closed("hurt") >= 2)
        assert site.tries("hurt-g0001", "train_proxy") >= 2
        site.wait_until_training("hurt", 2)
        site.end("scheduler")
        assert site.closed("hurt") == 2
        site.start("scheduler")
        run = site.wait_until_closed("hurt", 3)
        assert_whole(run, 3)
    alone = undisturbed(evodiff, tmp_path / "alone" / "hurt", 3)
    assert generation_files(run.path) == generation_files(alone)


@pytest.mark.slow
def test_a_failed_generation_a_paused_dag_and_a_dead_registry_do_not_break_the_chain(
    tmp_path: Path, environment: dict[str, str], evodiff: CommandLine
) -> None:
    with services(tmp_path, environment) as site:
        site.end("mlflow")  # for the whole of generation 0
        site.trigger("chain-form", experiment="chain", generations=3, **HITTABLE)
        wait_for("generation 0 is closed", lambda: site.closed("chain") >= 1)
        wait_for("its records wait", lambda: any((site.runs / "chain" / "outbox").glob("*.json")))
        site.wait_until_training("chain", 1)
        _mark_failed(site, "chain-g0001")
        wait_for("its workers are gone", lambda: not site.task_processes())
        assert site.closed("chain") == 1
        site.start("mlflow")
        wait_for("the generation was begun again", lambda: "chain-g0001-attempt2" in site.states("chain"))
        _pause_during_the_last_task(site, "chain-g0001-attempt2")
        run = site.wait_until_closed("chain", 3)
        assert_whole(run, 3)
        assert _tracked_candidates(site, "chain") == sorted(
            row["candidate"] for generation in range(3) for row in run.ledger.plan(generation)
        )
        assert list((run.path / "outbox").glob("*.json")) == []
    alone = undisturbed(evodiff, tmp_path / "alone" / "chain", 3)
    assert generation_files(run.path) == generation_files(alone)


@pytest.mark.slow
def test_a_command_line_and_the_scheduler_work_on_one_generation(
    tmp_path: Path, environment: dict[str, str], evodiff: CommandLine
) -> None:
    with services(tmp_path, environment) as site:
        for form in ("both-form", "both-twin"):  # two triggers at once: one is answered, one does the work
            site.trigger(form, experiment="both", generations=1, **HITTABLE)
        wait_for("the plan is written", lambda: (site.runs / "both" / "generations" / "0000" / "plan.jsonl").exists())
        twin = subprocess.Popen(
            [Path(sys.executable).with_name("evodiff"), "evolve", "--resume", site.runs / "both", "--generations", "1"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output, _ = twin.communicate(timeout=600)
        assert twin.returncode == 0, output
        run = site.wait_until_closed("both", 1)
        assert_whole(run, 1)
        assert sorted(site.states("both").values()) == ["failed", "success"]
        refused = next(run_id for run_id, state in site.states("both").items() if state == "failed")
        assert "AlreadyLooping" in site.api.log("evolve_architecture", refused, "open")
    alone = undisturbed(evodiff, tmp_path / "alone" / "both", 1)
    assert generation_files(run.path) == generation_files(alone)


def _kill_a_task_in_the_middle_of_its_training(site: Services, experiment: str) -> None:
    worker = site.wait_until_training(experiment, 0)[0]
    task = worker.parent()
    assert task is not None
    kill(task.pid)
    psutil.wait_procs([worker], timeout=60)
    assert not worker.is_running(), "a worker outlived the task that it worked for"


def _kill_the_parent_of_a_task(site: Services, experiment: str) -> None:
    """The task lives on as an orphan; the scheduler misses its heartbeat and starts the task again beside it."""
    worker = site.wait_until_training(experiment, 1)[0]
    scheduler = site.process_id("scheduler")
    ancestors = [process.pid for process in worker.parents()]
    supervisor = ancestors[ancestors.index(scheduler) - 1]
    assert supervisor not in (worker.pid, scheduler)
    kill(supervisor)


def _mark_failed(site: Services, run_id: str) -> None:
    site.api.ask("PATCH", f"/api/v2/dags/evolve_architecture/dagRuns/{run_id}", {"state": "failed"})


def _pause_during_the_last_task(site: Services, run_id: str) -> None:
    """Freeze the DAG while the run asks for its successor, and let it go on."""
    wait_for("the last tasks are reached", lambda: site.task_states(run_id).get("select") == "success")
    site.api.ask("PATCH", "/api/v2/dags/evolve_architecture", {"is_paused": True})
    assert site.states("chain")[run_id] == "running", "the run had ended before the pause"
    wait_for("nothing is running", lambda: "running" not in site.task_states(run_id).values())
    site.api.ask("PATCH", "/api/v2/dags/evolve_architecture", {"is_paused": False})


def _tracked_candidates(site: Services, experiment: str) -> list[str]:
    """Return the candidates that MLflow holds a child run of, each as often as it is there."""
    code = (
        "import json, sys, mlflow; client = mlflow.MlflowClient(sys.argv[1]); "
        "found = client.get_experiment_by_name(sys.argv[2]); "
        "runs = client.search_runs([found.experiment_id], max_results=1000); "
        "tags = [run.data.tags for run in runs]; "
        "print(json.dumps(sorted(tag['evodiff.candidate'] for tag in tags if tag['evodiff.kind'] == 'candidate')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, site.site.mlflow_url, experiment],
        env=site.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.mark.slow
def test_ending_the_services_leaves_no_process(tmp_path: Path, environment: dict[str, str]) -> None:
    with services(tmp_path, environment) as site:
        site.trigger("gone-form", experiment="gone", generations=1, **HITTABLE)
        site.wait_until_training("gone", 0)
        family = [
            process
            for name in ("api-server", "scheduler", "dag-processor", "triggerer", "mlflow")
            for process in [
                psutil.Process(site.process_id(name)),
                *psutil.Process(site.process_id(name)).children(recursive=True),
            ]
        ]
        site.end_all()
        psutil.wait_procs(family, timeout=30)
        assert [process.pid for process in family if process.is_running()] == []
