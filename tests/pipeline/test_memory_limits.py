"""Memory: of the hardware that will serve a candidate, and of the machine that searches."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from told_runs import TellingPool, new_run

from evodiff.pipeline.evolve import evolve
from evodiff.pipeline.run import Run
from evodiff.pipeline.session import open_workers
from evodiff.settings import Settings
from evodiff.workers import Task


def larger_is_better(trial: Mapping[str, Any]) -> Mapping[str, float]:
    """A quality that drives a search towards large networks: the more layers and width, the lower."""
    genome = trial["genome"]
    return {"kid": -float(len(genome["layers"]) * genome["parameters"]["width"])}


def test_a_network_beyond_the_working_set_is_infeasible_and_the_search_stays_below(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", population=12, objectives=("kid", "memory_mb"), given={"working_set_mb": 1.0})
    evolve(run, TellingPool(larger_is_better), generations=3, holder="me")
    over, under = [], []
    for generation in range(3):
        for evaluation in run.ledger.evaluations(generation).values():
            needed = evaluation.objectives["memory_mb"]
            assert evaluation.violations == {"working_set": pytest.approx(needed / 1.0 - 1)}
            assert evaluation.feasible == (needed <= 1.0)
            (under if evaluation.feasible else over).append(needed)
    assert over
    assert under
    front = [item.evaluation for item in run.evolution().front()]
    assert all(item is not None and item.objectives["memory_mb"] <= 1.0 for item in front)


def test_a_run_that_froze_no_working_set_stays_without(tmp_path: Path) -> None:
    experiment = new_run(tmp_path / "run", given={"working_set_mb": 1e-6}).path / "experiment.json"
    frozen = json.loads(experiment.read_text())
    del frozen["settings"]["working_set_mb"]
    experiment.write_text(json.dumps(frozen))
    run = Run.open(tmp_path / "run")
    evolve(run, TellingPool(larger_is_better), generations=1, holder="me")
    assert [item.violations for item in run.ledger.evaluations(0).values()] == [{}] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system limits no process")
def test_workers_share_the_machine_s_memory_and_one_that_wants_more_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evodiff.pipeline.session.physical_memory_mb", lambda: 1000.0)  # 400 for each of two workers
    tasks = [Task(str(size), "memory_tasks:fill_tensor", {"megabytes": size}) for size in (100, 300, 600)]
    with open_workers(Settings(workers=2, device="cpu"), lambda text: None) as pool:
        outcomes = {outcome.id: outcome for outcome in pool.run(tasks)}
    assert outcomes["100"].value == {"megabytes": 100.0}
    assert outcomes["300"].value == {"megabytes": 300.0}
    failure = outcomes["600"].failure
    assert failure is not None
    assert (failure.cause, failure.kind) == ("out_of_memory", "environment")
