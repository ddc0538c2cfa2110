"""Which candidate waits for its release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from told_runs import TellingPool, new_run

from evodiff.pipeline.evolve import evolve_generation
from evodiff.pipeline.final import champion
from evodiff.pipeline.release import EMPTY, request_release
from evodiff.pipeline.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = new_run(tmp_path / "run")
    evolve_generation(run, TellingPool(lambda trial: {"kid": int(trial["candidate"], 16) / 2**64}), "g0")
    return run


def entry(run: str, candidate: str) -> dict[str, Any]:
    return {"run": run, "candidate": candidate, "generation": 0}


def release_file(path: Path, **roles: Any) -> Path:
    path.write_text(json.dumps({**EMPTY, "revision": 7, **roles}))
    return path


def test_the_champion_waits_once(run: Run, tmp_path: Path) -> None:
    best = champion(run)
    assert best is not None
    first = request_release(run, 0, tmp_path / "release.json")
    assert first["pending"] == entry("run", best.id)
    assert request_release(run, 0, tmp_path / "release.json") == first


@pytest.mark.parametrize("role", ["champion", "challenger"])
def test_what_waits_is_taken_back_where_the_run_wants_what_serves(run: Run, tmp_path: Path, role: str) -> None:
    best = champion(run)
    assert best is not None
    serving = {role: entry("run", best.id)}
    file = release_file(tmp_path / "release.json", **serving, pending=entry("run", "older"))
    release = request_release(run, 1, file)
    assert (release["revision"], release["pending"]) == (8, None)
    assert json.loads(file.read_text()) == release


def test_what_was_rolled_back_is_not_asked_for_again(run: Run, tmp_path: Path) -> None:
    front = sorted(run.evolution().front(), key=lambda item: (item.fitness_score or 0.0, item.id), reverse=True)
    barred = [{"version": f"run/{item.id}", "at": 1.0, "reason": "errors", "digest": None} for item in front]
    file = release_file(tmp_path / "release.json", quarantine=barred[:1])
    release = request_release(run, 1, file)
    assert release["pending"] == (entry("run", front[1].id) | {"generation": 1} if len(front) > 1 else None)
    file = release_file(tmp_path / "release.json", quarantine=barred)
    release = request_release(run, 1, file)
    assert release["pending"] is None
    assert "rolled back before" in release["asked"]["reason"]


def test_what_another_run_wants_is_left_to_wait(run: Run, tmp_path: Path) -> None:
    best = champion(run)
    assert best is not None
    pending = entry("other", "theirs")
    file = release_file(tmp_path / "release.json", champion=entry("run", best.id), pending=pending)
    assert request_release(run, 1, file)["pending"] == pending
    assert json.loads(file.read_text())["revision"] == 7
