"""A new run that starts from the front of another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from told_runs import TellingPool, inputs, new_run
from typer.testing import CliRunner

from evodiff.cli import app
from evodiff.errors import CandidateNotFound, LedgerError
from evodiff.pipeline.evolve import evolve
from evodiff.pipeline.generation import plan
from evodiff.pipeline.inputs import Inputs, Inspect
from evodiff.pipeline.run import Run
from evodiff.pipeline.warm_start import open_source
from evodiff.settings import Settings

TRADE_OFF = ("kid", "denoising_loss")


def everyone_on_the_front(trial: Mapping[str, Any]) -> Mapping[str, float]:
    """No candidate is better than another; the one in the middle dominates the largest box."""
    share = int(trial["candidate"], 16) / 2**64
    return {"kid": share, "denoising_loss": 1 - share}


@pytest.fixture
def source(tmp_path: Path) -> Run:
    run = new_run(tmp_path / "source", population=6, objectives=TRADE_OFF)
    evolve(run, TellingPool(everyone_on_the_front), generations=1, holder="me")
    return run


def start(out: Path, *options: str, monkeypatch: pytest.MonkeyPatch, size: int = 8) -> Result:
    """Run ``evodiff evolve`` for one generation, with inputs and values that cost nothing."""
    monkeypatch.setattr("evodiff.pipeline.session.WorkerPool", lambda *a, **b: TellingPool(everyone_on_the_front))

    def gather(settings: Settings, pool: object, announce: object, *, inspect: Inspect) -> Inputs:
        found = inputs(out.with_name("cache"), size=size)
        inspect(found.dataset)
        return found

    monkeypatch.setattr("evodiff.search.gather_inputs", gather)
    monkeypatch.setattr("evodiff.search.check_before_search", lambda *given: None)  # blank images do not pass
    given = ("--generations", "1", "--population", "4", "--target", "m1", "--objectives", ",".join(TRADE_OFF))
    return CliRunner().invoke(app, ["evolve", "--out", str(out), *given, *options])


def test_the_first_generation_tries_the_front_the_fittest_first_and_so_does_the_random_arm(
    source: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = start(tmp_path / "new", "--warm-start", str(source.path), "--baseline", monkeypatch=monkeypatch)
    assert done.exit_code == 0, done.output
    fittest = sorted(source.evolution().front(), key=lambda item: -(item.fitness_score or 0))
    assert len(fittest) == 6
    for name in ("new", "new-random"):
        first = Run.open(tmp_path / name).ledger.plan(0)
        assert [row["candidate"] for row in first] == [item.id for item in fittest[:4]]
        assert [row["parents"] for row in first] == [[f"source/{item.id}"] for item in fittest[:4]]


def test_a_front_that_leaves_room_is_followed_by_the_usual_start(
    source: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = start(tmp_path / "new", "--warm-start", str(source.path), "--population", "8", monkeypatch=monkeypatch)
    assert done.exit_code == 0, done.output
    operators = [row["operator"] for row in Run.open(tmp_path / "new").ledger.plan(0)]
    assert operators[:6] == ["warm_start"] * 6
    assert "warm_start" not in operators[6:]


def test_images_of_another_shape_are_refused_with_both_shapes_and_no_run_is_left(
    source: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = start(tmp_path / "new", "--warm-start", str(source.path), monkeypatch=monkeypatch, size=16)
    assert "1 x 16 x 16" in str(done.exception)
    assert "1 x 8 x 8" in str(done.exception)
    assert not (tmp_path / "new").exists()


def test_what_has_no_front_is_refused_before_any_work(source: Run, tmp_path: Path) -> None:
    with pytest.raises(CandidateNotFound, match=r"experiment\.json"):
        open_source(tmp_path)
    unborn = new_run(tmp_path / "unborn")
    plan(unborn, 0)
    with pytest.raises(LedgerError, match="no closed generation"):
        open_source(unborn.path)
    evolution = unborn.evolution()
    for trial in evolution.pending():
        evolution.tell_failure(trial.id, "non-finite loss")
    with pytest.raises(LedgerError, match="feasible"):
        open_source(unborn.path)
    experiment = source.path / "experiment.json"
    frozen = json.loads(experiment.read_text()) | {"settings": {}, "space": {"name": "digits", "description": {}}}
    experiment.write_text(json.dumps(frozen))
    with pytest.raises(LedgerError, match="'digits'"):
        open_source(source.path)


def test_a_warm_start_goes_with_a_new_run_only(source: Run) -> None:
    done = CliRunner().invoke(app, ["evolve", "--resume", str(source.path), "--warm-start", str(source.path)])
    assert "--warm-start goes with a new run" in str(done.exception)
