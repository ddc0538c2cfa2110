"""The gate of a new experiment's dataset, in the form that begins it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pretended_scheduler import NOBODY
from told_runs import TellingPool, inputs

from evodiff.data.expectations import Expectation
from evodiff.data.gate_result import GateResult
from evodiff.data.judging import Check
from evodiff.errors import GateFailed
from evodiff.pipeline import driver
from evodiff.pipeline.opening import Form
from evodiff.pipeline.prepare import Prepared
from evodiff.tracking.server import TrackingError

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
FORM = Form.of({"experiment": "new", "dataset": "blank", "population": 4, "objectives": ["kid"], "target": "m1"})


@pytest.fixture
def tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[GateResult]:
    """Gates that reached MLflow; a form finds too few images."""
    found: list[GateResult] = []

    def judge(tables: object, expectations: Sequence[Expectation]) -> list[Check]:
        return [Check(item, item.name != "enough images", 1) for item in expectations]

    def gather(settings: object, pool: object, announce: object, *, inspect: Any) -> Any:
        gathered = inputs(tmp_path / "inputs")
        inspect(gathered.dataset)
        return gathered

    monkeypatch.setenv("EVODIFF_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("EVODIFF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("EVODIFF_ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setenv("EVODIFF_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr("evodiff.data.gates.judge", judge)
    monkeypatch.setattr("evodiff.pipeline.prepare.gather_inputs", gather)
    monkeypatch.setattr("evodiff.pipeline.session.WorkerPool", lambda *given, **more: TellingPool(lambda trial: {}))
    monkeypatch.setattr("evodiff.tracking.gates.track_gate", lambda result, uri: found.append(result))
    return found


def refuse(result: GateResult, uri: str) -> None:
    raise TrackingError("MLflow refuses (status 403).")


def passed(tmp_path: Path) -> Prepared:
    gate = GateResult("dataset", "blank", "0" * 64, (), {}, tmp_path / "gate")
    return Prepared(inputs(tmp_path / "inputs"), gate)


def open_form(said: list[str]) -> None:
    driver.open_form(FORM, "manual-1", now=NOW, scheduler=NOBODY, say=said.append)


def test_a_bad_dataset_has_a_page_and_a_record(
    tmp_path: Path, tracked: list[GateResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GateFailed, match="enough images") as failure:
        open_form([])
    assert (failure.value.folder / "index.html").exists()
    assert [result.folder for result in tracked] == [failure.value.folder]
    assert not (tmp_path / "runs" / "new").exists()

    monkeypatch.setattr("evodiff.tracking.gates.track_gate", refuse)  # the gate is what has to be heard of
    said: list[str] = []
    with pytest.raises(GateFailed, match="enough images"):
        open_form(said)
    assert "403" in said[-1]


def test_a_good_dataset_has_a_record_and_a_server_that_refuses_stops_no_search(
    tmp_path: Path, tracked: list[GateResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = passed(tmp_path)
    monkeypatch.setattr("evodiff.gates.prepare", lambda *given: good)
    open_form([])
    assert tracked == [good.gate]
    monkeypatch.setattr("evodiff.tracking.gates.track_gate", refuse)
    monkeypatch.setenv("EVODIFF_RUNS_DIR", str(tmp_path / "others"))
    said: list[str] = []
    open_form(said)
    assert "403" in said[-1]
    assert (tmp_path / "others" / "new" / "leases" / "0000.json").exists()


def test_a_dataset_that_passed_is_archived_before_a_server_refuses(
    tmp_path: Path, tracked: list[GateResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    archived: list[Path] = []
    good = passed(tmp_path)
    monkeypatch.setattr("evodiff.gates.prepare", lambda *given: good)
    monkeypatch.setattr("evodiff.tracking.gates.track_gate", refuse)
    monkeypatch.setattr("evodiff.pipeline.archive.archive_dataset", lambda file, archive: archived.append(file))
    with pytest.raises(TrackingError, match="403"):
        driver.prepare({"dataset": f"folder:{tmp_path}"}, lambda line: None)
    assert archived == [good.inputs.files["dataset.safetensors"]]
