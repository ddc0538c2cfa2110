"""Retention on a real MLflow server: what left the front long ago loses its large artifacts, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import MlflowServer
from tracked_runs import close_generation, told_run

from evodiff.pipeline.run import Run
from evodiff.tracking import Expired, TrackingUnreachable, expire_artifacts, project_aliases, register_front, track_run

pytestmark = pytest.mark.e2e

LATER = datetime.now(UTC) + timedelta(days=100)
LONG_AGO: dict[str, Any] = {"now": LATER, "days": 30, "generations": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as started:
        yield started


def registered_run(path: Path, server: MlflowServer) -> tuple[Run, list[str]]:
    """A run of three generations, registered; and who has left its front, oldest first."""
    run = told_run(path, generations=0, weights=True, population=3)
    for generation in range(3):
        close_generation(run, weights=True)
        register_front(run, generation, server.uri)
    fronts = [(run.ledger.result(generation) or {})["front"] for generation in range(3)]
    left = [item for front in fronts[:2] for item in front if item not in fronts[2]]
    assert left, "the seed of this test makes nobody leave the front"
    return run, list(dict.fromkeys(left))


def held(server: MlflowServer, run: Run) -> dict[str, set[str]]:
    """What artifacts the runs of each candidate have."""
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(run.name).experiment_id
    found: dict[str, set[str]] = {}  # a model is named for its weights, which no test here needs
    for item in client.search_runs([experiment], "tags.evodiff.kind = 'candidate'", max_results=1000):
        names = {file.path.partition("-")[0] for file in client.list_artifacts(item.info.run_id)}
        found.setdefault(item.data.tags["evodiff.candidate"], set()).update(names)
    return found


def versions(server: MlflowServer, run: Run) -> dict[str, Any]:
    from mlflow import MlflowClient

    found = MlflowClient(server.uri).search_model_versions(f"name = '{run.name}'")
    return {item.tags["evodiff.candidate"]: item for item in found}


def test_models_and_grids_of_who_left_the_front_go_and_the_rest_stays(server: MlflowServer, tmp_path: Path) -> None:
    run, left = registered_run(tmp_path / "leaving", server)
    before = held(server, run)
    assert all("model" in before[candidate] for candidate in left)

    said = expire_artifacts(run, server.uri, **LONG_AGO, dry_run=True)
    assert held(server, run) == before
    removed = expire_artifacts(run, server.uri, **LONG_AGO)
    assert removed == said
    assert removed.candidates == tuple(sorted(left))
    assert removed.size > 10_000

    after = held(server, run)
    for candidate, names in before.items():
        gone = {"model", "samples.png"} if candidate in left else set()
        assert after[candidate] == names - gone
    for candidate, version in versions(server, run).items():
        assert ("evodiff.artifacts_removed" in version.tags) == (candidate in left)
    assert expire_artifacts(run, server.uri, **LONG_AGO) == Expired()


def test_who_has_an_alias_or_is_to_be_kept_keeps_everything(server: MlflowServer, tmp_path: Path) -> None:
    run, left = registered_run(tmp_path / "kept", server)
    before = held(server, run)
    release = {"champion": {"run": run.name, "candidate": left[0]}, "challenger": None, "previous": None}
    project_aliases(release, server.uri)
    named = versions(server, run)[left[1]].version if left[1:] else "0"
    expire_artifacts(run, server.uri, **LONG_AGO, keep=left[2:], keep_versions=[str(named)])
    assert held(server, run) == before


def test_what_is_young_or_left_a_moment_ago_stays(server: MlflowServer, tmp_path: Path) -> None:
    run, _ = registered_run(tmp_path / "young", server)
    before = held(server, run)
    assert expire_artifacts(run, server.uri, now=datetime.now(UTC), days=30, generations=1) == Expired()
    assert expire_artifacts(run, server.uri, now=LATER, days=30, generations=3) == Expired()
    assert held(server, run) == before


def test_a_version_without_its_model_is_not_released_again(server: MlflowServer, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run, left = registered_run(tmp_path / "gone", server)
    expire_artifacts(run, server.uri, **LONG_AGO)
    release = {"champion": {"run": run.name, "candidate": left[0]}, "challenger": None, "previous": None}
    project_aliases(release, server.uri)
    assert MlflowClient(server.uri).get_registered_model(run.name).aliases == {}


def test_a_run_that_mlflow_never_heard_of_is_left_alone(server: MlflowServer, tmp_path: Path) -> None:
    run = told_run(tmp_path / "unheard", generations=3, population=3)
    assert expire_artifacts(run, server.uri, **LONG_AGO) == Expired()
    track_run(run, server.uri)
    assert expire_artifacts(run, server.uri, **LONG_AGO, dry_run=True).size == 0


def test_a_server_that_is_down_is_said(tmp_path: Path) -> None:
    run = told_run(tmp_path / "alone", generations=3, population=3)
    with pytest.raises(TrackingUnreachable):
        expire_artifacts(run, "http://127.0.0.1:9", **LONG_AGO)
