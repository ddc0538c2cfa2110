"""``evodiff validate --engine`` shows what the engine found, and takes nothing that it would ignore."""

from __future__ import annotations

from functools import partial

import pytest
from typer.testing import CliRunner

from evodiff.cli import app
from evodiff.engine import validation

COLUMNS = {"COLUMNS": "200"}


def test_the_engine_is_validated_without_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    few = partial(validation.run_problems, validation.PROBLEMS[:1], seeds=2, population=4, generations=2)
    monkeypatch.setattr(validation, "run_problems", few)
    done = CliRunner().invoke(app, ["validate", "--engine"], env=COLUMNS)
    assert done.exit_code == 0, done.output
    assert "After 8 evaluations in generations of 4, 2 seeds" in done.output
    for strategy in validation.STRATEGIES:
        assert strategy in done.output


@pytest.mark.parametrize(
    "given",
    [["RUN"], ["RUN", "champion"], ["--seeds", "2"], ["--steps", "9"], ["--rivals"], ["--samples", "64"]],
)
def test_what_the_engine_has_no_use_for_is_refused(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "run_problems", lambda **_: pytest.fail("it was refused too late"))
    done = CliRunner().invoke(app, ["validate", "--engine", *given], env=COLUMNS)
    assert done.exit_code == 2
    assert "does not go with --engine" in done.output


def test_seeds_without_rivals_are_refused() -> None:
    done = CliRunner().invoke(app, ["validate", "RUN", "--seeds", "5"], env=COLUMNS)
    assert done.exit_code == 2
    assert "give --rivals too" in done.output
