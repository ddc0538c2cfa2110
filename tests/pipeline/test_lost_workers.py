"""A worker that is lost beside the search: another try may do, where what fails by itself fails again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from told_runs import new_run

from evodiff.engine.candidate import Failure
from evodiff.errors import EvodiffError, PoolError
from evodiff.hardware import Calibration, roofline, target_profile
from evodiff.pipeline.final import run_one
from evodiff.pipeline.generation import QUIET
from evodiff.pipeline.inputs import gather_inputs, prepare_calibration
from evodiff.settings import Settings
from evodiff.workers import Outcome, Task, WorkerContext, WorkerPool


class LosingPool:
    """Stands where a worker pool does; every task ends with one failure."""

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    def run(self, tasks: list[Task], *, on_progress: object = None) -> list[Outcome]:
        """Fail every task."""
        return [Outcome(task.id, None, self._failure, 0.0, 0) for task in tasks]


LOST = [Failure(cause, "told by the test", "environment") for cause in ("crash", "out_of_memory", "timeout")]


def test_a_worker_killed_by_the_system_is_a_lost_worker(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    with WorkerPool(1, device="cpu") as pool:
        with pytest.raises(PoolError, match="crash"):
            run_one(run, pool, Task("front", "lossy_tasks:be_killed", {}), QUIET)
        with pytest.raises(EvodiffError, match="non_finite") as failed:
            run_one(run, pool, Task("front", "lossy_tasks:fail", {}), QUIET)
    assert not isinstance(failed.value, PoolError)


@pytest.mark.parametrize("failure", LOST, ids=lambda failure: failure.cause)
def test_inputs_that_a_lost_worker_prepared_may_be_prepared_again(tmp_path: Path, failure: Failure) -> None:
    pool: Any = LosingPool(failure)
    with pytest.raises(PoolError, match=failure.cause):
        gather_inputs(Settings(cache_dir=tmp_path), pool)


def test_inputs_that_fail_by_themselves_are_no_lost_worker(tmp_path: Path) -> None:
    pool: Any = LosingPool(Failure("ValueError", "told by the test", "own"))
    with pytest.raises(EvodiffError, match="Preparing dataset failed: ValueError") as failed:
        gather_inputs(Settings(cache_dir=tmp_path), pool)
    assert not isinstance(failed.value, PoolError)


def test_calibrations_of_one_machine_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, met = threading.Lock(), threading.Event()

    def time_operators(*given: object, **more: object) -> Calibration:
        if at_work.acquire(blocking=False):
            met.wait(0.3)  # as long as another has to come
            at_work.release()
        else:
            met.set()
        return roofline(target_profile("m1"))

    monkeypatch.setattr("evodiff.pipeline.inputs.load_or_calibrate", time_operators)
    payload = {"cache": str(tmp_path / "cache"), "target": "local", "seconds": 1.0}
    context = WorkerContext("cpu", lambda content: None, lambda: False)
    threads = [threading.Thread(target=prepare_calibration, args=(payload, context)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not met.is_set()
