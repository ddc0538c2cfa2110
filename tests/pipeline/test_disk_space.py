"""A generation is planned only where the disk has room for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from told_runs import TellingPool, new_run

from evodiff.architecture.cost import parameter_count
from evodiff.architecture.graph import resolve
from evodiff.errors import LedgerError
from evodiff.pipeline.disk import generation_mb
from evodiff.pipeline.evolve import evolve
from evodiff.pipeline.generation import plan, planned_trials
from evodiff.pipeline.run import Run

TOO_MUCH = "1e12"


def contents(run: Run) -> list[Path]:
    return sorted(run.path.rglob("*"))


def test_a_full_disk_stops_a_plan_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path / "run")
    before = contents(run)
    monkeypatch.setenv("EVODIFF_MIN_FREE_MB", TOO_MUCH)
    with pytest.raises(LedgerError, match="generation 0 needs about") as caught:
        plan(run, 0)
    assert "housekeeping" in caught.value.remedy
    assert contents(run) == before
    monkeypatch.setenv("EVODIFF_MIN_FREE_MB", "0")
    assert len(plan(run, 0)) == 4


def test_a_plan_that_is_there_is_read_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path / "run")
    planned = plan(run, 0)
    monkeypatch.setenv("EVODIFF_MIN_FREE_MB", TOO_MUCH)
    assert plan(run, 0) == planned


def test_what_a_generation_takes_is_predicted_from_the_networks_before_it(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    assert generation_mb(run, 0) > 0
    evolve(run, TellingPool(lambda trial: {"kid": 0.1}), generations=1, holder="test")
    parameters = sum(parameter_count(resolve(trial.genome, run.shape)) for trial in planned_trials(run, 0))
    # Five float32 numbers a parameter, and a little for each trial.
    assert 20 * parameters < 1e6 * generation_mb(run, 1) < 20 * parameters + 1e6


def test_an_archive_on_the_same_disk_takes_its_part_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path / "run")
    archive = tmp_path / "archive"
    monkeypatch.setenv("EVODIFF_ARCHIVE", str(archive))
    alone, archived = generation_mb(run, 0), generation_mb(run, 0, archived=True)
    assert archived > 1.2 * alone

    def room(free_mb: float) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1e6 * free_mb))

    monkeypatch.setenv("EVODIFF_MIN_FREE_MB", "0")
    archive.mkdir()
    room((alone + archived) / 2)
    with pytest.raises(LedgerError, match="generation 0 needs about"):
        plan(run, 0)
    archive.rmdir()
    assert len(plan(run, 0)) == 4
