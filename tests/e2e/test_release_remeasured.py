"""What comes into question for a release is measured again, by a real worker, before it is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evodiff.pipeline import driver
from evodiff.pipeline.run import Run

pytestmark = pytest.mark.e2e


def test_what_is_asked_for_was_measured_again_once(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    monkeypatch.setenv("EVODIFF_RELEASE_FILE", str(tmp_path / "release.json"))
    run, said = Run.open(tmp_path / "run"), list[str]()
    generation = run.ledger.closed - 1
    first = driver.release(run, generation, said.append)
    wanted = first["pending"]["candidate"]
    assert first["asked"]["candidate"] == wanted
    again = [line for line in said if "measured again" in line]
    assert any(wanted in line for line in again)
    stored = run.evolution().candidate(wanted).evaluation
    assert stored is not None
    (line,) = [line for line in again if wanted in line]
    assert str(stored.objectives["kid"]) not in line  # from other noise
    said.clear()
    assert driver.release(run, generation, said.append) == first
    assert not [line for line in said if "measured again" in line]
