"""Generations in a real MLflow server: whole, once, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import ENVIRONMENT, MlflowServer
from tracked_runs import close_generation, told_run

from evodiff.data.expectations import true
from evodiff.data.gate_result import GateResult, conclude
from evodiff.data.judging import Check
from evodiff.errors import CandidateNotFound, GateFailed, SettingsError
from evodiff.pipeline.run import Run
from evodiff.reporting import view_from_ledger
from evodiff.reporting.hypervolume import final_hypervolumes
from evodiff.tracking import TrackingError, track_gate, track_run
from evodiff.tracking.reading import views_from_tracking
from evodiff.tracking.records import RunRecords

pytestmark = pytest.mark.e2e

# Tracks a run as soon as a file appears, so that several processes begin together.
TRACKER = """
import sys, time
from pathlib import Path
from evodiff.pipeline.run import Run
from evodiff.tracking import track_run
from evodiff.tracking.server import connected
with connected(sys.argv[2]):
    Path(sys.argv[3] + ".ready").touch()
while not Path(sys.argv[4]).exists():
    time.sleep(0.005)
print(track_run(Run.open(sys.argv[1]), sys.argv[2]))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server for tests that do not stop it; each names its experiment differently."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as started:
        yield started


@pytest.fixture
def trackers(tmp_path: Path) -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """Start processes that track the given runs, ready to begin together when ``go`` appears in ``tmp_path``."""
    started: list[subprocess.Popen[str]] = []

    def start(server: MlflowServer, *paths: Path) -> list[subprocess.Popen[str]]:
        for number, path in enumerate(paths):
            command = [sys.executable, "-c", TRACKER, path, server.uri, tmp_path / str(number), tmp_path / "go"]
            started.append(
                subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
        wait_until(lambda: all((tmp_path / f"{number}.ready").exists() for number in range(len(paths))))
        return started

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def client_of(server: MlflowServer) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(server.uri)


def runs_of(server: MlflowServer, name: str) -> list[Any]:
    """Return all runs of an experiment, but deleted ones."""
    client = client_of(server)
    found = client.get_experiment_by_name(name)
    return list(client.search_runs([found.experiment_id], max_results=1000)) if found else []


def assert_whole(server: MlflowServer, run: Run) -> None:
    """Check that MLflow holds each closed generation and its candidates once, with the ledger's values."""
    held = runs_of(server, run.name)
    keys = Counter(item.data.tags["evodiff.key"] for item in held)
    by_key = {item.data.tags["evodiff.key"]: item for item in held}
    records = RunRecords(run)
    expected = {}
    for generation in range(run.ledger.closed):
        parent = records.generation(generation)
        expected[parent.key] = parent
        for child in records.candidates(generation):
            expected[child.key] = child
            assert by_key[child.key].data.tags["mlflow.parentRunId"] == by_key[parent.key].info.run_id
    assert keys == Counter(expected.keys())
    for key, record in expected.items():
        assert by_key[key].info.status == ("FAILED" if record.failed else "FINISHED")
        found = by_key[key].data
        assert {name: found.metrics[name] for name in record.metrics} == dict(record.metrics)
        assert found.params == dict(record.params)
        assert {name: found.tags[name] for name in record.tags} == dict(record.tags)


def test_a_search_is_an_experiment_with_a_run_per_generation_and_one_in_it_per_candidate(
    server: MlflowServer, tmp_path: Path
) -> None:
    run = told_run(tmp_path / "search", generations=2)
    assert track_run(run, server.uri).generations == (0, 1)
    assert_whole(server, run)
    experiment = client_of(server).get_experiment_by_name("search")
    settings = json.loads(experiment.tags["evodiff.settings"])
    assert (settings["seed"], settings["strategy"]["name"], settings["dataset"]) == (0, "nsga2", "blank")
    (first,) = [item for item in runs_of(server, "search") if item.data.tags.get("evodiff.position") == "0"][-1:]
    history = client_of(server).get_metric_history(first.info.run_id, "loss")
    assert [(item.step, item.value) for item in history] == [(20, 0.4), (40, 0.2)]


def test_artifacts_come_back_through_the_server(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "artifacts", generations=1)
    track_run(run, server.uri)
    by_key = {item.data.tags["evodiff.key"]: item for item in runs_of(server, "artifacts")}
    row = run.ledger.plan(0)[0]
    folder = client_of(server).download_artifacts(by_key[f"g0000/{row['candidate']}"].info.run_id, "", str(tmp_path))
    assert json.loads((Path(folder) / "genome.json").read_text()) == row["genome"]
    assert (Path(folder) / "diagram.svg").read_text().startswith("<svg")
    decided = client_of(server).download_artifacts(by_key["g0000"].info.run_id, "innovations.json", str(tmp_path))
    assert json.loads(Path(decided).read_text())[0]["generation"] == 0


def test_tracking_again_changes_nothing_and_a_new_generation_is_added(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "again", generations=1)
    track_run(run, server.uri)
    before = {item.info.run_id: item.info.end_time for item in runs_of(server, "again")}
    assert track_run(run, server.uri).generations == ()
    assert {item.info.run_id: item.info.end_time for item in runs_of(server, "again")} == before
    close_generation(run)
    assert track_run(run, server.uri).generations == (1,)
    assert before.items() <= {item.info.run_id: item.info.end_time for item in runs_of(server, "again")}.items()
    assert_whole(server, run)


def test_only_members_of_the_front_have_samples(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "samples", generations=1, weights=True)
    track_run(run, server.uri)
    result = run.ledger.result(0)
    assert result is not None
    with_samples = {
        item.info.run_name
        for item in runs_of(server, "samples")
        if any(file.path == "samples.png" for file in client_of(server).list_artifacts(item.info.run_id))
    }
    assert with_samples == set(result["front"])


def test_what_a_server_missed_follows_once(tmp_path: Path) -> None:
    run = told_run(tmp_path / "missed", generations=1)
    with MlflowServer(tmp_path / "mlflow") as server:
        track_run(run, server.uri)
        server.stop()
        close_generation(run)
        down = track_run(run, server.uri)
        assert down.generations == ()
        assert "does not answer" in down.waiting
        assert "does not answer" in json.loads((run.path / "outbox" / "track.json").read_text())["reason"]
        close_generation(run)
        assert track_run(run, server.uri).waiting
        server.start()
        assert track_run(run, server.uri).generations == (1, 2)
        assert_whole(server, run)
        assert [path.name for path in (run.path / "outbox").iterdir()] == ["lock"]
        assert track_run(run, server.uri).generations == ()
        assert_whole(server, run)


def test_two_processes_on_one_run_double_nothing(
    server: MlflowServer, trackers: Callable[..., list[subprocess.Popen[str]]], tmp_path: Path
) -> None:
    run = told_run(tmp_path / "twins", generations=2)
    started = trackers(server, run.path, run.path)
    (tmp_path / "go").touch()
    assert [process.wait(300) for process in started] == [0, 0], [process.communicate() for process in started]
    assert_whole(server, run)


def test_copies_of_a_run_on_two_machines_double_nothing_in_the_end(
    server: MlflowServer, trackers: Callable[..., list[subprocess.Popen[str]]], tmp_path: Path
) -> None:
    run = told_run(tmp_path / "here" / "copied", generations=2)
    shutil.copytree(run.path, tmp_path / "there" / "copied")  # its own outbox, so its own lock
    started = trackers(server, run.path, tmp_path / "there" / "copied")
    (tmp_path / "go").touch()
    assert [process.wait(300) for process in started] == [0, 0], [process.communicate() for process in started]
    track_run(run, server.uri)
    assert_whole(server, run)


@pytest.mark.parametrize("held", [1, 7])
def test_a_tracker_killed_in_the_middle_is_completed_by_the_next(
    held: int,
    server: MlflowServer,
    trackers: Callable[..., list[subprocess.Popen[str]]],
    tmp_path: Path,
) -> None:
    run = told_run(tmp_path / f"killed{held}", generations=2)
    (process,) = trackers(server, run.path)
    (tmp_path / "go").touch()
    wait_until(lambda: len(runs_of(server, run.name)) >= held)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    track_run(run, server.uri)
    assert_whole(server, run)


def test_a_run_that_was_created_twice_keeps_the_older(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "doubled", generations=1)
    track_run(run, server.uri)
    client = client_of(server)
    (parent,) = [item for item in runs_of(server, "doubled") if item.data.tags["evodiff.key"] == "g0000"]
    # As a request leaves them whose answer was lost: the same tags, younger, never finished.
    tags = {**parent.data.tags, "evodiff.created": str(time.time_ns())}
    double = client.create_run(parent.info.experiment_id, tags=tags)
    client.update_run(parent.info.run_id, status="RUNNING")
    track_run(run, server.uri)
    assert client.get_run(double.info.run_id).info.lifecycle_stage == "deleted"
    assert client.get_run(parent.info.run_id).info.lifecycle_stage == "active"
    assert_whole(server, run)


def test_another_run_of_the_same_name_is_refused(server: MlflowServer, tmp_path: Path) -> None:
    track_run(told_run(tmp_path / "first" / "namesake", generations=1), server.uri)
    other = told_run(tmp_path / "second" / "namesake", generations=1, seed=1)
    with pytest.raises(TrackingError, match="Experiment namesake in MLflow is another run's"):
        track_run(other, server.uri)


def test_a_run_that_was_begun_anew_is_refused_and_one_from_before_that_says_no_results_goes_on(
    server: MlflowServer, tmp_path: Path
) -> None:
    run = told_run(tmp_path / "first" / "anew", generations=1)
    track_run(run, server.uri)
    other = told_run(tmp_path / "second" / "anew", generations=0)
    (other.path / "experiment.json").write_bytes((run.path / "experiment.json").read_bytes())
    for trial in other.evolution().ask(4):
        other.evolution().tell(trial.id, {"kid": 0.5})
    assert other.evolution().close_generation() is not None
    with pytest.raises(TrackingError, match="anew in MLflow is another run's: of generation 0"):
        track_run(other, server.uri)
    (held,) = [item for item in runs_of(server, "anew") if item.data.tags["evodiff.kind"] == "generation"]
    client_of(server).delete_tag(held.info.run_id, "evodiff.result")
    close_generation(run)
    assert track_run(run, server.uri).generations == (1,)


def test_a_deleted_experiment_is_named_with_what_restores_it(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "deleted", generations=1)
    track_run(run, server.uri)
    client_of(server).delete_experiment(client_of(server).get_experiment_by_name("deleted").experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        track_run(run, server.uri)


@pytest.mark.parametrize("address", ["sqlite:///mlflow.db", "mlruns", "127.0.0.1:5000", ""])
def test_what_is_no_address_of_a_server_is_refused(address: str, tmp_path: Path) -> None:
    run = told_run(tmp_path / "blank", generations=1)
    with pytest.raises(SettingsError, match="Not a tracking server"):
        track_run(run, address)


def test_a_server_that_refuses_is_named_without_the_password(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "refused", generations=1)
    # Only 127.0.0.1 is among its --allowed-hosts.
    with pytest.raises(TrackingError, match="refuses") as caught:
        track_run(run, f"http://somebody:secret@localhost:{server.port}")
    assert "secret" not in str(caught.value)


def test_the_environment_of_the_caller_stays_as_it_was(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    before = dict(os.environ)
    track_run(told_run(tmp_path / "environment", generations=1), server.uri)
    assert dict(os.environ) == before


def test_the_command_line_says_what_it_did_and_what_waits(
    server: MlflowServer, tmp_path: Path, environment: dict[str, str]
) -> None:
    run = told_run(tmp_path / "verb", generations=1)
    command = [str(Path(sys.executable).with_name("evodiff")), "track", str(run.path)]
    named = {**environment, **ENVIRONMENT, "EVODIFF_TRACKING_URI": server.uri}
    done = subprocess.run(command, env=named, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "generations tracked: 0")
    nobody = subprocess.run(
        [*command, "--tracking-uri", "http://127.0.0.1:1"], env=named, capture_output=True, text=True
    )
    assert (nobody.returncode, "waits" in nobody.stdout) == (2, True)
    unnamed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (unnamed.returncode, "EVODIFF_TRACKING_URI" in unnamed.stderr) == (2, True)


def test_mlflow_alone_tells_of_a_search_what_its_ledger_does(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "read", generations=2)
    track_run(run, server.uri)
    (found,) = views_from_tracking(server.uri, ["read"])
    expected = view_from_ledger(run.path)
    shown = ("id", "generation", "operator", "parents", "objectives", "standard_errors", "failure", "parameters")
    for name in (*shown, "flops", "training_flops", "on_front", "feasible"):
        assert [getattr(item, name) for item in found.candidates] == [
            getattr(item, name) for item in expected.candidates
        ], name
    assert (found.objectives, found.champion, found.digests) == (
        expected.objectives,
        expected.champion,
        expected.digests,
    )
    with pytest.raises(CandidateNotFound, match="No experiment nowhere in MLflow"):
        views_from_tracking(server.uri, ["nowhere"])


def test_mlflow_alone_tells_the_errors_of_what_was_tried_again(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "ties", generations=4, population=8, replicate_ties=True)
    track_run(run, server.uri)
    (found,) = views_from_tracking(server.uri, ["ties"])
    expected = view_from_ledger(run.path)
    assert any(item.replicates > 1 for item in expected.candidates)
    for name in ("replicates", "objectives", "violations", "standard_errors"):
        assert [getattr(item, name) for item in found.candidates] == [
            getattr(item, name) for item in expected.candidates
        ], name


def test_mlflow_alone_tells_short_trainings_from_whole_ones(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "rungs", generations=4, population=8, rungs=2)
    track_run(run, server.uri)
    (found,) = views_from_tracking(server.uri, ["rungs"])
    expected = view_from_ledger(run.path)
    assert {len(item.trials) for item in expected.candidates} == {1, 2}  # some were promoted
    for name in ("id", "rung", "trials", "objectives"):
        assert [getattr(item, name) for item in found.candidates] == [
            getattr(item, name) for item in expected.candidates
        ], name
    assert final_hypervolumes([found]) == final_hypervolumes([expected])


def test_strategies_compare_alike_from_ledgers_and_from_mlflow(
    server: MlflowServer, tmp_path: Path, environment: dict[str, str]
) -> None:
    names = [f"{strategy}-{seed}" for strategy in ("nsga2", "random") for seed in range(2)]
    for name in names:
        strategy, _, seed = name.partition("-")
        track_run(told_run(tmp_path / name, generations=2, strategy=strategy, seed=int(seed)), server.uri)
    command = [str(Path(sys.executable).with_name("evodiff")), "compare"]
    from_ledger = subprocess.run(
        [*command, *(str(tmp_path / name) for name in names), "--out", str(tmp_path / "ledger.html")],
        env=environment,
        capture_output=True,
        text=True,
    )
    from_mlflow = subprocess.run(
        [*command, *names, "--tracking-uri", server.uri, "--out", str(tmp_path / "mlflow.html")],
        env={**environment, **ENVIRONMENT},
        capture_output=True,
        text=True,
    )
    assert (from_ledger.returncode, from_mlflow.returncode) == (0, 0), from_ledger.stderr + from_mlflow.stderr
    assert "nsga2 over random" in from_ledger.stdout
    assert from_ledger.stdout.splitlines()[:-1] == from_mlflow.stdout.splitlines()[:-1]


def check(name: str, *, passed: bool) -> Check:
    expectation = true(name, "images", "finite", meaning="All pixels are finite.", remedy="Leave it out.")
    return Check(expectation, passed, 7, () if passed else (3,), () if passed else ({"image": 3},))


def test_what_a_gate_found_is_a_run_with_its_page(server: MlflowServer, tmp_path: Path) -> None:
    whole = GateResult(
        "dataset", "blank", "1" * 64, (check("finite", passed=True),), {"images": 24}, tmp_path / "whole"
    )
    failed = GateResult("dataset", "torn", "2" * 64, (check("finite", passed=False),), {"images": 7}, tmp_path / "torn")
    conclude(whole, [])
    with pytest.raises(GateFailed):
        conclude(failed, [])
    for result in (whole, failed, whole):
        result.page.write_text("<!doctype html>")
        assert track_gate(GateResult.load(result.folder), server.uri)
    held = {item.data.tags["evodiff.subject"]: item for item in runs_of(server, "evodiff gates")}
    assert {name: item.info.status for name, item in held.items()} == {"blank": "FINISHED", "torn": "FAILED"}
    assert held["torn"].data.metrics == {"images": 7, "checks": 1, "failed_checks": 1, "warnings": 0}
    assert held["torn"].data.tags["evodiff.failed"] == "finite"
    files = [file.path for file in client_of(server).list_artifacts(held["torn"].info.run_id)]
    assert files == ["index.html", "result.json"]
    track_run(told_run(tmp_path / "gates", generations=1), server.uri)  # a run may be called so
    with pytest.warns(UserWarning, match="dataset torn is not tracked"):
        assert track_gate(failed, "http://127.0.0.1:1") is False
