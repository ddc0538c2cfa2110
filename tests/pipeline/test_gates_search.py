"""The gate before a search: the command line and the facade stop at a bad dataset, and say where nothing is judged."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from told_runs import TellingPool, inputs
from typer.testing import CliRunner, Result

from evodiff import EvolutionaryDiffusionSearch
from evodiff.cli import app
from evodiff.errors import GateFailed
from evodiff.pipeline.inputs import Inputs, Inspect
from evodiff.settings import Settings


def scored(trial: Mapping[str, Any]) -> Mapping[str, float]:
    return {"kid": int(trial["candidate"], 16) / 2**64}


@pytest.fixture(autouse=True)
def _blank_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches find twenty equal images; training costs nothing."""

    def gather(settings: Settings, pool: object, *announce: object, inspect: Inspect) -> Inputs:
        found = inputs(tmp_path / "inputs")
        inspect(found.dataset)
        return found

    monkeypatch.setattr("evodiff.search.gather_inputs", gather)
    monkeypatch.setattr("evodiff.pipeline.session.WorkerPool", lambda *given, **more: TellingPool(scored))
    monkeypatch.setenv("EVODIFF_CACHE_DIR", str(tmp_path / "cache"))


def evolve(out: Path) -> Result:
    given = ("--generations", "1", "--population", "4", "--target", "m1", "--objectives", "kid")
    return CliRunner().invoke(app, ["evolve", "--out", str(out), *given])


def test_the_command_line_stops_at_a_bad_dataset_with_a_page(tmp_path: Path) -> None:
    failure = evolve(tmp_path / "run").exception
    assert isinstance(failure, GateFailed)
    assert "enough images" in str(failure)
    assert failure.folder.is_relative_to(tmp_path / "cache" / "gates")
    assert (failure.folder / "index.html").exists()
    assert not (tmp_path / "run").exists()


def test_the_facade_stops_at_a_bad_dataset(tmp_path: Path) -> None:
    with pytest.raises(GateFailed, match="enough images"):
        EvolutionaryDiffusionSearch(4, objectives=["kid"], target="m1", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_great_expectations_a_search_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "great_expectations", None)
    done = evolve(tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "not judged" in done.output
    assert (tmp_path / "run" / "generations" / "0000" / "result.json").exists()
