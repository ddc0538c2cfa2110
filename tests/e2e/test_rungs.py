"""A search over two rungs: short trainings first, the best trained on, the same bytes after a stop, a report of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from quick_search import QUICK, CommandLine

from evodiff.pipeline.run import Run

pytestmark = pytest.mark.e2e


def generations(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in (run / "generations").rglob("*.json*")}


@pytest.fixture(scope="module")
def searched(evodiff: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rungs") / "run"
    evodiff("evolve", *QUICK, "--steps", 12, "--rungs", 2, "--generations", 3, "--out", folder)
    return folder


def test_promoted_trials_are_trained_to_the_full_steps_and_the_front_is_theirs(searched: Path) -> None:
    run = Run.open(searched)
    rows = [row for generation in range(3) for row in run.ledger.plan(generation)]
    promoted = {row["candidate"] for row in rows if row["rung"] == 1}
    assert promoted
    assert run.steps(0) == 4
    front = run.ledger.result(2)
    assert front is not None
    assert front["rung"] == 1
    assert set(front["front"]) <= promoted
    for candidate in front["front"]:
        weights = run.ledger.path / "generations"
        (config,) = weights.glob(f"*/weights/{candidate}.r1/config.json")
        assert json.loads(config.read_text())["steps"] == 12


@pytest.mark.slow
def test_a_promotion_without_its_checkpoint_has_the_same_bytes(
    searched: Path, evodiff: CommandLine, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    for generation in (1, 2, 3):
        command = ("--resume", folder) if generation > 1 else (*QUICK, "--steps", 12, "--rungs", 2, "--out", folder)
        evodiff("evolve", *command, "--generations", generation, "--champion-steps", 12)
        for checkpoint in (folder / "scratch").glob("*.safetensors"):
            checkpoint.unlink()  # the training starts over instead of going on
    assert generations(folder) == generations(searched)


def test_the_report_says_how_well_a_rung_foretells_the_next(searched: Path, evodiff: CommandLine) -> None:
    evodiff("report", searched)
    page = (searched / "report" / "index.html").read_text()
    assert "Short and long trainings" in page
    assert "Share to promote" in page
    assert evodiff("evolve", "--resume", searched, "--rungs", 1, check=False).returncode == 2
