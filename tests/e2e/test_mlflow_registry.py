"""The registry of a real MLflow server: the front's new members once, loadable anywhere, without a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import ENVIRONMENT, MlflowServer
from tracked_runs import close_generation, told_run

from evodiff.deployment.router.fetch import fetch
from evodiff.deployment.worker.model_checks import ModelRefused, check_model_folder
from evodiff.errors import CandidateNotFound, LedgerError
from evodiff.pipeline.export import export_candidate, load_pipeline, sample_folder
from evodiff.pipeline.run import Run
from evodiff.tracking import TrackingError, project_aliases, register_front, track_run
from evodiff.tracking.records import RunRecords
from evodiff.training import load_weights, save_weights, weights_digest

pytestmark = pytest.mark.e2e

REQUEST = '{"count": 3, "seed": 5, "steps": 3}'
REGISTER = """
import sys
from evodiff.pipeline.run import Run
from evodiff.tracking import register_front
print(*register_front(Run.open(sys.argv[1]), 0, sys.argv[2]), sep="\\n")
"""

# What somebody else does with a registered model, knowing its address alone.
LOAD = """
import hashlib, json, sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
images = model.predict(json.loads(sys.argv[3]))
folder = mlflow.artifacts.download_artifacts(sys.argv[2])
import evodiff
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained(folder + "/artifacts/pipeline")
weights = hashlib.sha256()
for name, tensor in sorted(pipeline.unet.network.state_dict().items()):
    weights.update(name.encode() + tensor.numpy().tobytes())
print(json.dumps({
    "shape": images.shape, "dtype": str(images.dtype), "images": hashlib.sha256(images.tobytes()).hexdigest(),
    "class": type(pipeline.unet).__name__, "weights": weights.hexdigest(),
}))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server for tests that do not stop it; each names its experiment differently."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as started:
        yield started


@pytest.fixture(scope="module")
def registered(server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two generations whose fronts are registered; tests must not change it."""
    run = told_run(tmp_path_factory.mktemp("registered") / "registered", generations=1, weights=True)
    register_front(run, 0, server.uri)
    close_generation(run, weights=True)
    register_front(run, 1, server.uri)
    return run


def client_of(server: MlflowServer) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(server.uri)


def versions_of(server: MlflowServer, model: str) -> list[Any]:
    return list(client_of(server).search_model_versions(f"name = '{model}'"))


def expected_candidates(run: Run) -> Counter[str]:
    """Return who should be registered: at most three a generation, those of largest fitness."""
    records = RunRecords(run)
    return Counter(
        candidate for generation in range(run.ledger.closed) for candidate in records.new_members(generation)[:3]
    )


def registered_candidates(server: MlflowServer, run: Run) -> Counter[str]:
    return Counter(version.tags["evodiff.candidate"] for version in versions_of(server, run.name))


def test_new_members_of_each_front_are_versions_with_their_origin(server: MlflowServer, registered: Run) -> None:
    assert registered_candidates(server, registered) == expected_candidates(registered)
    rows = {row["candidate"]: row for generation in range(2) for row in registered.ledger.plan(generation)}
    for version in versions_of(server, "registered"):
        row = rows[version.tags["evodiff.candidate"]]
        evaluation = registered.ledger.evaluations(row["generation"])[row["id"]]
        assert version.tags["evodiff.generation"] == str(row["generation"])
        assert version.tags["evodiff.parents"] == ", ".join(row["parents"])
        assert version.tags["evodiff.operator"] == row["operator"]
        assert version.tags["evodiff.weights"] == version.tags["evodiff.evaluated_weights"] == evaluation.weights
        assert (version.tags["evodiff.target"], version.tags["evodiff.training_steps"]) == ("m1", "40")
        assert json.loads(version.tags["evodiff.objectives"]) == dict(evaluation.objectives)
        assert version.tags["evodiff.experiment"] == registered.identity
        assert json.loads(version.tags["evodiff.digests"]) == registered.settings["digests"]
        assert client_of(server).get_run(version.run_id).data.tags["evodiff.candidate"] == row["candidate"]


def test_registering_again_returns_the_same_versions_and_adds_none(server: MlflowServer, registered: Run) -> None:
    before = {version.version for version in versions_of(server, "registered")}
    again = register_front(registered, 1, server.uri)
    assert [item.candidate for item in again] == RunRecords(registered).new_members(1)[:3]
    assert not any(item.new for item in again)
    assert {version.version for version in versions_of(server, "registered")} == before


def test_a_longer_training_is_a_version_beside_the_shorter_which_stays_what_it_was(
    server: MlflowServer, tmp_path: Path
) -> None:
    run = told_run(tmp_path / "longer", generations=1, weights=True)
    best = register_front(run, 0, server.uri)[0].candidate
    row = next(row for row in run.ledger.plan(0) if row["candidate"] == best)
    tensors, config = load_weights(run.ledger.weights_folder(row))
    longer = {name: tensor + 1 for name, tensor in tensors.items()}
    digest = save_weights(run.path / "final" / best, longer, {**config, "steps": 400})
    again = register_front(run, 0, server.uri)
    assert [item.weights for item in again if item.new] == [digest]
    ours = [item for item in versions_of(server, "longer") if item.tags["evodiff.candidate"] == best]
    assert {item.tags["evodiff.training_steps"] for item in ours} == {"40", "400"}
    for version in ours:
        expected = longer if version.tags["evodiff.weights"] == digest else tensors
        folder = Path(client_of(server).download_artifacts(version.run_id, Path(version.source).name, str(tmp_path)))
        held = load_pipeline(folder / "artifacts" / "pipeline").unet.network.state_dict()
        assert all(held[name].equal(tensor) for name, tensor in expected.items())


def test_what_is_registered_stays_so_when_its_weights_are_gone_and_others_are_named(
    server: MlflowServer, tmp_path: Path
) -> None:
    run = told_run(tmp_path / "gone", generations=1, weights=True)
    best, *others = RunRecords(run).new_members(0)
    shutil.rmtree(run.ledger.weights_folder(next(row for row in run.ledger.plan(0) if row["candidate"] == best)))
    with pytest.warns(UserWarning, match=f"{best} is not registered: its weights are gone"):
        found = register_front(run, 0, server.uri)
    assert [item.candidate for item in found] == others[:2]
    shutil.rmtree(run.path / "generations" / "0000" / "weights")
    with pytest.warns(UserWarning, match=best):
        again = register_front(run, 0, server.uri)
    assert [(item.candidate, item.version) for item in again] == [(item.candidate, item.version) for item in found]


def test_nothing_that_is_stored_is_a_pickle(server: MlflowServer, registered: Run) -> None:
    kept = [path for path in server.artifacts.rglob("*") if path.is_file()]
    harmless = {".json", ".safetensors", ".yaml", ".txt", ".py", ".svg", ".png", ""}
    assert {path.suffix for path in kept} == harmless
    assert {path.name for path in kept if path.suffix == ""} == {"MLmodel"}
    pickled = (
        b"\x80\x02",
        b"\x80\x03",
        b"\x80\x04",
        b"\x80\x05",
        b"PK\x03\x04",
    )  # pickles, and torch's archives of them
    assert [path.name for path in kept if path.read_bytes().startswith(pickled)] == []


def test_a_fresh_process_loads_a_version_by_mlflow_and_by_diffusers_bit_for_bit(
    server: MlflowServer, registered: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    version = versions_of(server, "registered")[0]
    candidate = version.tags["evodiff.candidate"]
    command = [sys.executable, "-c", LOAD, server.uri, f"models:/registered/{version.version}", REQUEST]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, **ENVIRONMENT}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    export_candidate(registered, candidate, tmp_path / "pipeline")
    images = sample_folder(tmp_path / "pipeline", 3, seed=5, steps=3)
    assert (found["shape"], found["dtype"]) == ([3, 8, 8, 1], "uint8")
    assert found["images"] == hashlib.sha256(images.tobytes()).hexdigest()

    row = next(
        row for generation in range(2) for row in registered.ledger.plan(generation) if row["candidate"] == candidate
    )
    tensors, _ = load_weights(registered.ledger.weights_folder(row))
    weights = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        weights.update(name.encode() + tensor.numpy().tobytes())
    assert (found["class"], found["weights"]) == ("EvolvedUNet2DModel", weights.hexdigest())
    assert weights_digest(registered.ledger.weights_folder(row)) == version.tags["evodiff.weights"]


def test_requests_choose_labels_and_bad_ones_say_what_is_wrong(
    server: MlflowServer, registered: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    model = mlflow.pyfunc.load_model("models:/registered/1")
    one = model.predict({"label": 1, "steps": 2})
    assert (one.shape, one.dtype.name) == ((1, 8, 8, 1), "uint8")
    several = model.predict({"count": 2, "seed": 0, "label": 1, "steps": 2})
    assert (several[0] == one[0]).all()
    guided = model.predict({"label": 1, "steps": 2, "guidance": 3.0})
    assert (guided != one).any()
    for bad, says in (({"count": 0}, "1 to 1024 images"), ({"label": 9}, "knows 0 to 2"), ({"steps": 1}, "2 steps")):
        with pytest.raises(Exception, match=says):
            model.predict(bad)


def test_processes_that_register_at_once_register_once(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "twins", generations=1, weights=True)
    command = [sys.executable, "-c", REGISTER, str(run.path), server.uri]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.wait(400) for process in started] == [0, 0], [process.communicate() for process in started]
    assert registered_candidates(server, run) == expected_candidates(run)


def test_a_registration_killed_in_the_middle_is_completed_once(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "killed", generations=1, weights=True)
    process = subprocess.Popen([sys.executable, "-c", REGISTER, str(run.path), server.uri])
    deadline = time.monotonic() + 300
    while process.poll() is None and not versions_of(server, "killed"):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    register_front(run, 0, server.uri)
    assert registered_candidates(server, run) == expected_candidates(run)


def test_a_registration_that_found_no_server_follows_with_the_next_tracking(tmp_path: Path) -> None:
    run = told_run(tmp_path / "late", generations=1, weights=True)
    server = MlflowServer(tmp_path / "mlflow")
    with pytest.warns(UserWarning, match="not registered yet"):
        assert register_front(run, 0, server.uri) == []
    assert (run.path / "outbox" / "register-0000.json").exists()
    with server:
        result = track_run(run, server.uri)
        assert [item.candidate for item in result.registered] == RunRecords(run).new_members(0)[:3]
        assert all(item.new for item in result.registered)
        assert track_run(run, server.uri).registered == ()
        assert registered_candidates(server, run) == expected_candidates(run)


def test_a_generation_that_is_open_cannot_be_registered(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "open", generations=1)
    with pytest.raises(LedgerError, match="Generation 1 of open is not closed"):
        register_front(run, 1, server.uri)
    assert not (run.path / "outbox").exists()


def release(**entries: Any) -> dict[str, Any]:
    nobody = {"champion": None, "challenger": None, "previous": None, "pending": None}
    return {"format": 1, "revision": 3, **nobody, **entries}


def aliases_of(server: MlflowServer, model: str) -> dict[str, str]:
    return {alias: str(version) for alias, version in client_of(server).get_registered_model(model).aliases.items()}


def test_aliases_follow_the_release_between_versions_and_models(
    server: MlflowServer, registered: Run, tmp_path: Path
) -> None:
    other = told_run(tmp_path / "other", generations=1, weights=True)
    register_front(other, 0, server.uri)
    client_of(server).set_registered_model_alias("other", "favourite", "1")

    here = [{"model": "registered", "version": number} for number in ("1", "2")]
    there = {"model": "other", "version": "1"}
    assert project_aliases(release(champion=here[0], challenger=here[1]), server.uri)
    assert aliases_of(server, "registered") == {"champion": "1", "challenger": "2"}
    for _ in range(2):
        project_aliases(release(champion=here[1], previous=here[0]), server.uri)
        assert aliases_of(server, "registered") == {"champion": "2", "previous": "1"}
    project_aliases(release(champion=there, previous=here[1]), server.uri)
    assert aliases_of(server, "registered") == {"previous": "2"}
    assert aliases_of(server, "other") == {"champion": "1", "favourite": "1"}
    project_aliases(release(), server.uri)
    assert aliases_of(server, "registered") == {}
    assert aliases_of(server, "other") == {"favourite": "1"}


def test_an_entry_may_name_a_candidate_and_one_that_is_not_registered_has_no_alias(
    server: MlflowServer, registered: Run
) -> None:
    version = versions_of(server, "registered")[0]
    candidate = {"run": "registered", "candidate": version.tags["evodiff.candidate"]}
    project_aliases(release(challenger=candidate), server.uri)
    assert aliases_of(server, "registered") == {"challenger": str(version.version)}
    project_aliases(release(challenger={"run": "registered", "candidate": "f" * 16}), server.uri)
    assert aliases_of(server, "registered") == {}
    project_aliases(release(challenger={"run": "nowhere", "candidate": "f" * 16}), server.uri)


def test_a_release_of_a_version_that_is_none_changes_nothing(server: MlflowServer, registered: Run) -> None:
    project_aliases(release(champion={"model": "registered", "version": "1"}), server.uri)
    with pytest.raises(TrackingError, match="status 404"):
        project_aliases(release(previous={"model": "registered", "version": "99"}), server.uri)
    assert aliases_of(server, "registered") == {"champion": "1"}


def test_models_of_others_keep_their_aliases(server: MlflowServer, registered: Run) -> None:
    client = client_of(server)
    ours = versions_of(server, "registered")[0]
    client.create_registered_model("theirs")
    client.create_model_version("theirs", ours.source, run_id=ours.run_id, await_creation_for=0)
    client.set_registered_model_alias("theirs", "champion", "1")
    project_aliases(release(), server.uri)
    assert aliases_of(server, "theirs") == {"champion": "1"}


def test_aliases_wait_where_there_is_no_server() -> None:
    with pytest.warns(UserWarning, match="aliases in the registry are as they were"):
        assert project_aliases(release(), "http://127.0.0.1:1") is False


def test_what_is_served_comes_from_the_registry_where_the_run_is_elsewhere(
    server: MlflowServer, registered: Run, tmp_path: Path
) -> None:
    version = versions_of(server, "registered")[0]
    client_of(server).set_registered_model_alias("registered", "served", version.version)
    candidate = version.tags["evodiff.candidate"]
    generation = int(version.tags["evodiff.entered_front"])
    expected = {"run": "registered", "candidate": candidate, "generation": generation}
    expected["experiment"] = registered.identity
    digests = set()
    for number, entry in enumerate(
        (
            {"run": "registered", "candidate": candidate},
            {"model": "registered", "version": version.version},
            {"model": "registered", "alias": "served"},
            {"model": "registered", "version": version.version, "run": "registered", "candidate": "of long ago"},
        )
    ):
        out = tmp_path / str(number)
        found = fetch(entry, out, runs_dir=tmp_path, tracking_uri=server.uri, max_bytes=10**8)
        assert found == {"entry": expected}
        digests.add(check_model_folder(out, max_bytes=10**8).digest)
    entry = {"model": "registered", "version": version.version}
    found = fetch(entry, tmp_path / "h", runs_dir=registered.path.parent, tracking_uri=server.uri, max_bytes=10**8)
    assert found["entry"] == expected
    assert found["run_folder"] == str(registered.path.resolve())  # whose images its smoke test is judged by
    assert found["recorded"][0] == json.loads(version.tags["evodiff.objectives"])["kid"]
    pruned = tmp_path / "runs" / "registered"
    shutil.copytree(registered.path, pruned)
    for folder in [*pruned.glob("generations/*/weights"), *pruned.glob("final/*")]:
        shutil.rmtree(folder)
    entry = {"run": "registered", "candidate": candidate}
    found = fetch(entry, tmp_path / "p", runs_dir=pruned.parent, tracking_uri=server.uri, max_bytes=10**8)
    assert found["entry"] == expected
    digests.add(check_model_folder(tmp_path / "p", max_bytes=10**8).digest)
    assert len(digests) == 1
    with pytest.raises(ModelRefused, match="at most 10 bytes"):
        fetch(
            {"model": "registered", "alias": "served"},
            tmp_path / "x",
            runs_dir=tmp_path,
            tracking_uri=server.uri,
            max_bytes=10,
        )
    entry = {"run": "registered", "candidate": "0123456789abcdef"}
    with pytest.raises(CandidateNotFound, match="not registered"):
        fetch(entry, tmp_path / "y", runs_dir=tmp_path, tracking_uri=server.uri, max_bytes=10**8)
    client_of(server).delete_registered_model_alias("registered", "served")
