"""`evodiff audit` and `evodiff prepare` tell the tracking server that is set what their gates found."""

from __future__ import annotations

from pathlib import Path

import pytest
from told_runs import TellingPool, inputs, new_run
from typer.testing import CliRunner

from evodiff.cli import app
from evodiff.data.gate_result import GateResult
from evodiff.errors import GateFailed
from evodiff.pipeline.inputs import Inputs, Inspect
from evodiff.settings import Settings
from evodiff.tracking.server import TrackingError

SERVER = "http://127.0.0.1:9"


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool, str]]:
    """Gate, verdict and server of what is tracked."""
    found: list[tuple[str, bool, str]] = []
    monkeypatch.setenv("EVODIFF_TRACKING_URI", SERVER)
    monkeypatch.setattr(
        "evodiff.tracking.gates.track_gate", lambda result, uri: found.append((result.gate, result.passed, uri))
    )
    return found


def spoiled_run(folder: Path) -> Path:
    run = new_run(folder)
    (run.inputs / "feature_net.safetensors").write_bytes(b"another net")
    return run.path


def test_an_audit_is_tracked_whether_it_passes_or_fails(tracked: list[tuple[str, bool, str]], tmp_path: Path) -> None:
    passed = CliRunner().invoke(app, ["audit", str(new_run(tmp_path / "good").path)])
    assert passed.exit_code == 0, passed.output
    failed = CliRunner().invoke(app, ["audit", str(spoiled_run(tmp_path / "bad"))])
    assert isinstance(failed.exception, GateFailed)
    assert tracked == [("run", True, SERVER), ("run", False, SERVER)]


def test_nothing_is_tracked_where_no_server_is_set(
    tracked: list[tuple[str, bool, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVODIFF_TRACKING_URI")
    assert CliRunner().invoke(app, ["audit", str(new_run(tmp_path / "run").path)]).exit_code == 0
    assert tracked == []


def test_a_server_that_refuses_hides_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(result: GateResult, uri: str) -> None:
        raise TrackingError("MLflow refuses.", remedy="Look at its log.")

    monkeypatch.setenv("EVODIFF_TRACKING_URI", SERVER)
    monkeypatch.setattr("evodiff.tracking.gates.track_gate", refuse)
    failed = CliRunner().invoke(app, ["audit", str(spoiled_run(tmp_path / "bad"))])
    assert isinstance(failed.exception, GateFailed)
    assert "The run bad is not tracked: MLflow refuses." in failed.output
    passed = CliRunner().invoke(app, ["audit", str(new_run(tmp_path / "good").path)])
    assert passed.exit_code == 0
    assert "The run good is not tracked: MLflow refuses." in passed.output


def test_a_dataset_that_is_bad_is_tracked_where_it_is_prepared(
    tracked: list[tuple[str, bool, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gather(settings: Settings, pool: object, announce: object, *, inspect: Inspect) -> Inputs:
        found = inputs(tmp_path / "inputs")  # twenty equal images
        inspect(found.dataset)
        return found

    monkeypatch.setattr("evodiff.pipeline.prepare.gather_inputs", gather)
    monkeypatch.setattr("evodiff.pipeline.session.WorkerPool", lambda *given, **more: TellingPool(lambda trial: {}))
    monkeypatch.setenv("EVODIFF_CACHE_DIR", str(tmp_path / "cache"))
    assert isinstance(CliRunner().invoke(app, ["prepare"]).exception, GateFailed)
    assert tracked == [("dataset", False, SERVER)]
