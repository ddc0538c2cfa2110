"""Two drivers on one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from told_runs import new_run

from evodiff.engine.candidate import Failure
from evodiff.errors import Interrupted
from evodiff.pipeline.generation import plan, train_and_evaluate
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
