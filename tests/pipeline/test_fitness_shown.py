"""What is said of a search over rungs while it works, and tracked of it, is the fitness of whole trainings."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from told_runs import TellingPool, new_run

from evodiff.pipeline.evolve import Watcher, evolve
from evodiff.reporting import view_from_ledger
from evodiff.tracking.records import RunRecords


def kid(trial: Mapping[str, Any]) -> dict[str, float]:
    """Seem far better after a short training than after any whole one."""
    luck = zlib.crc32(trial["candidate"].encode()) / 2**32
    return {"kid": luck - (20 if trial["rung"] == 0 else 0)}


def test_best_and_average_fitness_leave_short_trainings_out(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", population=12, rungs=2, strategy="nsga2")
    said: list[Mapping[str, Any]] = []
    with TellingPool(kid) as pool:
        evolve(run, pool, generations=3, holder="test", watcher=Watcher(selected=said.append))  # type: ignore[arg-type]
    best = max(item.fitness_score or 0.0 for item in run.evolution().front())
    assert best < 1.0
    assert said[-1]["metrics"]["best_fitness"] == pytest.approx(best)
    assert RunRecords(run).generation(2).metrics["best_fitness"] == pytest.approx(best)
    points = view_from_ledger(run.path).generations
    assert [point.best_fitness for point in points] == [item["metrics"]["best_fitness"] for item in said]
    assert [point.average_fitness for point in points] == [item["metrics"]["average_fitness"] for item in said]
    stored = run.ledger.result(2)
    assert stored is not None
    assert stored["metrics"]["best_fitness"] == 1.0  # as it was decided, and as it is replayed
