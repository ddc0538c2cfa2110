"""A search that is told to stop on a plateau opens no generation beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from told_runs import Tell, TellingPool, new_run
from typer.testing import CliRunner

from evodiff.cli import app
from evodiff.pipeline.evolve import evolve
from evodiff.pipeline.generation import plan

FLAT_FROM = 4  # the first generation whose three predecessors gained nothing


def flat(trial: Mapping[str, Any]) -> Mapping[str, float]:
    """Generation 0 holds the best candidate there will ever be."""
    return {"kid": 1.0 if trial["generation"] else int(trial["candidate"], 16) / 2**64}


def improving(trial: Mapping[str, Any]) -> Mapping[str, float]:
    """Every generation finds better candidates than the one before."""
    return {"kid": int(trial["candidate"], 16) / 2**64 - trial["generation"]}


@pytest.mark.parametrize(
    ("tell", "stop", "closed"), [(flat, True, FLAT_FROM), (flat, False, 6), (improving, True, 6), (improving, False, 6)]
)
def test_only_a_plateau_ends_a_search_and_only_where_it_may(
    tell: Tell, stop: bool, closed: int, tmp_path: Path
) -> None:
    run = new_run(tmp_path / "run")
    assert evolve(run, TellingPool(tell), generations=6, holder="me", stop_on_plateau=stop) == closed
    assert run.ledger.generations == closed


def test_a_generation_that_was_begun_is_finished_on_a_plateau_too(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    pool = TellingPool(flat)
    evolve(run, pool, generations=9, holder="me", stop_on_plateau=True)
    plan(run, FLAT_FROM)
    assert evolve(run, pool, generations=9, holder="you", stop_on_plateau=True) == FLAT_FROM + 1


def test_the_end_says_that_it_stopped_and_how_to_go_on_and_a_resume_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evodiff.pipeline.session.WorkerPool", lambda *arguments, **options: TellingPool(flat))
    path = tmp_path / "run"
    run = new_run(path)

    def resume(*options: str) -> str:
        done = CliRunner().invoke(app, ["evolve", "--resume", str(path), *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    go_on = f"evodiff evolve --resume {path} --no-stop-on-plateau"
    first = resume("--generations", "6", "--stop-on-plateau")
    assert f"Stopped on a plateau after {FLAT_FROM} of 6 generations" in first
    assert go_on in first
    assert go_on in resume()
    assert run.ledger.closed == FLAT_FROM
    assert "plateau after" not in resume("--no-stop-on-plateau")
    assert run.ledger.closed == 6
