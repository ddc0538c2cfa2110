"""Two drivers on one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from told_runs import new_run

from evodiff.engine.candidate import Failure
from evodiff.errors import Interrupted, LedgerError
from evodiff.pipeline import driver
from evodiff.pipeline.generation import plan, select, train_and_evaluate
from evodiff.workers import Outcome, Task

Answer = Callable[[Task], Outcome]


class ScriptedPool:
    """Stands where a worker pool does; each time it runs tasks it takes the next of its answers."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = iter(answers)

    def run(self, tasks: Sequence[Task], *, on_progress: object = None) -> Iterator[Outcome]:
        answer = next(self._answers)
        for task in tasks:
            yield answer(task)


def times_out(task: Task) -> Outcome:
    return Outcome(task.id, None, Failure("timeout", "it was ended", "environment"), 0.0, 0)


def succeeds(task: Task) -> Outcome:
    return Outcome(task.id, {"objectives": {"kid": 1.0}, "weights": None, "details": {}}, None, 0.0, 0)


def is_stopped(task: Task) -> Outcome:
    return Outcome(task.id, None, None, 0.0, 0, interrupted=True)


def test_a_time_out_that_an_orphan_and_its_retry_both_see_is_one_attempt(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    plan(run, 0)
    orphans = [ScriptedPool(times_out, is_stopped)]

    def times_out_after_the_orphan(task: Task) -> Outcome:
        if orphans:
            with pytest.raises(Interrupted):
                train_and_evaluate(run, 0, orphans.pop())
        return times_out(task)

    train_and_evaluate(run, 0, ScriptedPool(times_out_after_the_orphan, times_out, succeeds))
    assert [evaluation.failure for evaluation in run.ledger.evaluations(0).values()] == [None] * 4
    assert run.evolution().results()[0].environment_failures == ()


def test_a_third_time_out_of_one_driver_is_final(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    plan(run, 0)
    train_and_evaluate(run, 0, ScriptedPool(times_out, times_out, times_out))
    failures = [evaluation.failure for evaluation in run.ledger.evaluations(0).values()]
    assert [failure.cause for failure in failures if failure] == ["timeout"] * 4


def test_a_shard_whose_weights_are_gone_since_the_generation_was_closed_does_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tmp_path / "run")
    plan(run, 0)

    def finds_no_weights(task: Task) -> Outcome:
        raise LedgerError("weights missing")

    def finds_them_dropped(task: Task) -> Outcome:
        train_and_evaluate(run, 0, ScriptedPool(succeeds))  # a command line on the same run
        select(run, 0)
        return finds_no_weights(task)

    class WaitingPool(ScriptedPool):
        def __enter__(self) -> WaitingPool:
            return self

        def __exit__(self, *given: object) -> None:
            self.stop_requested = True

    pools = [WaitingPool(finds_no_weights), WaitingPool(finds_them_dropped)]
    monkeypatch.setattr("evodiff.pipeline.session.WorkerPool", lambda *given, **more: pools.pop(0))
    said: list[str] = []
    with pytest.raises(LedgerError, match="weights missing"):
        driver.train_shard(run, 0, "1/1", said.append)
    driver.train_shard(run, 0, "1/1", said.append)
    assert said == ["Generation 0 was closed by another driver meanwhile: weights missing"]
    driver.evaluate_shard(run, 0, "1/1", said.append)  # finds nothing left to do
