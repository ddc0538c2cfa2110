"""The worker pool, with real processes that really crash."""

from __future__ import annotations

import itertools
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from evodiff import errors
from evodiff.errors import PoolError
from evodiff.workers import Outcome, Task, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FUNCTIONS = "worker_tasks"
_names = itertools.count()


def task(function: str, *, name: str = "", seconds: float = 0.0, **payload: Any) -> Task:
    return Task(name or f"{function}-{next(_names)}", f"{FUNCTIONS}:{function}", payload, seconds)


def run(pool: WorkerPool, *tasks: Task) -> dict[str, Outcome]:
    outcomes = list(pool.run(tasks))
    assert sorted(outcome.id for outcome in outcomes) == sorted(item.id for item in tasks)
    return {outcome.id: outcome for outcome in outcomes}


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    """A pool of one for tests that break nothing or leave it as good as new."""
    with WorkerPool(1, device="cpu") as pool:
        yield pool


def test_a_task_gets_its_payload_and_its_value_comes_back(pool: WorkerPool) -> None:
    outcome = run(pool, task("echo", name="a", numbers=[1, 2.5], text="ä"))["a"]
    assert outcome.value is not None
    assert outcome.value["payload"] == {"numbers": [1, 2.5], "text": "ä"}
    assert outcome.value["device"] == "cpu"
    assert (outcome.failure, outcome.interrupted, outcome.worker) == (None, False, 0)


def test_the_longest_task_goes_first(pool: WorkerPool) -> None:
    tasks = [task("echo", name=str(seconds), seconds=seconds) for seconds in (2.0, 5.0, 1.0, 4.0, 3.0)]
    assert [outcome.id for outcome in pool.run(tasks)] == ["5.0", "4.0", "3.0", "2.0", "1.0"]


def test_on_the_cpu_one_process_serves_one_task_after_another(pool: WorkerPool) -> None:
    outcomes = run(pool, task("echo"), task("echo"), task("own_failure"), task("echo")).values()
    processes = {outcome.value["process"] for outcome in outcomes if outcome.value}
    assert len(processes) == 1


def test_progress_reaches_the_caller_in_order(pool: WorkerPool) -> None:
    heard: list[tuple[str, Any]] = []
    outcomes = list(
        pool.run([task("count", name="c", to=100)], on_progress=lambda name, data: heard.append((name, data)))
    )
    assert heard == [("c", {"number": number}) for number in range(100)]
    assert outcomes[0].value == {"sum": 4950}


def test_a_worker_has_one_thread_and_does_not_import_the_main_module(pool: WorkerPool) -> None:
    value = next(pool.run([task("surroundings", modules=["pytest", "evodiff.engine", "evodiff.workers.pool"])])).value
    assert value == {"threads": 1, "main": None, "modules": [], "interrupts_ignored": True}


def test_what_a_trial_raises_is_its_own_failure(pool: WorkerPool) -> None:
    failure = next(pool.run([task("own_failure")])).failure
    assert failure is not None
    assert (failure.cause, failure.detail, failure.kind) == ("non_finite_loss", "the loss of step 3 is nan", "own")


def test_an_unexpected_exception_is_an_own_failure_that_says_where_but_nothing_that_varies(pool: WorkerPool) -> None:
    failure = next(pool.run([task("programming_error")])).failure
    assert failure is not None
    assert (failure.cause, failure.kind) == ("error: KeyError", "own")
    assert "worker_tasks.py" in failure.detail
    assert "programming_error" in failure.detail
    assert "0x..." in failure.detail
    assert "/" not in failure.detail


@pytest.mark.parametrize("function", ["not_json", "there_is_no_such_function", "invalid_genome"])
def test_what_cannot_be_answered_is_an_own_failure(pool: WorkerPool, function: str) -> None:
    failure = next(pool.run([task(function)])).failure
    assert failure is not None
    assert failure.kind == "own"


def test_a_full_disk_is_a_failure_of_the_environment(pool: WorkerPool) -> None:
    failure = next(pool.run([task("full_disk")])).failure
    assert failure is not None
    assert (failure.cause, failure.kind) == ("storage", "environment")


@pytest.mark.parametrize("error", ["SettingsError", "LedgerError", "DatasetError", "CandidateNotFound", "EvodiffError"])
def test_an_error_for_a_person_to_mend_ends_the_batch_as_it_was_raised_and_fails_no_task(
    pool: WorkerPool, error: str
) -> None:
    with pytest.raises(getattr(errors, error)) as caught:
        list(pool.run([task("refuse", seconds=2, error=error), task("refuse", seconds=1, error=error)]))
    assert type(caught.value) is getattr(errors, error)
    assert (caught.value.headline, caught.value.remedy) == ("That cannot be used.", "Mend it.")
    assert next(pool.run([task("echo")])).value is not None


@pytest.mark.parametrize(
    ("function", "payload", "sign"),
    [
        ("exit_at_once", {"code": 3}, "exit code 3"),
        ("exit_at_once", {"code": 0}, "last words"),
        ("signal_itself", {"signal": signal.SIGKILL}, "SIGKILL"),
        ("signal_itself", {"signal": signal.SIGSEGV}, "SIGSEGV"),
        ("die_while_answering", {}, "SIGKILL"),
    ],
)
def test_a_crash_is_that_tasks_failure_and_a_new_worker_goes_on(
    pool: WorkerPool, function: str, payload: dict[str, Any], sign: str
) -> None:
    outcomes = run(
        pool,
        task("echo", name="before", seconds=3),
        task(function, name="crash", seconds=2, **payload),
        task("echo", name="after", seconds=1),
    )
    before, after = outcomes["before"].value, outcomes["after"].value
    failure = outcomes["crash"].failure
    assert failure is not None
    assert (failure.cause, failure.kind) == ("crash", "environment")
    assert sign in failure.detail
    assert before is not None
    assert after is not None
    assert before["process"] != after["process"]


@pytest.mark.parametrize(
    ("function", "megabytes"),
    [("take_memory", 1 << 24), ("take_torch_memory", 0), ("fail_as_onednn_without_memory", 0)],
)
def test_running_out_of_memory_is_a_failure_of_the_environment(pool: WorkerPool, function: str, megabytes: int) -> None:
    outcomes = run(pool, task(function, name="huge", seconds=1, megabytes=megabytes), task("echo", name="after"))
    failure = outcomes["huge"].failure
    assert failure is not None
    assert (failure.cause, failure.kind) == ("out_of_memory", "environment")
    assert outcomes["after"].value is not None


def test_a_task_beyond_its_time_is_ended_while_the_others_go_on() -> None:
    with WorkerPool(2, device="cpu", minimum_timeout_seconds=0.3, timeout_factor=1.0) as pool:
        outcomes = run(pool, task("run_for_ever", name="slow"), *(task("echo", name=str(i)) for i in range(4)))
    failure = outcomes.pop("slow").failure
    assert failure is not None
    assert (failure.cause, failure.kind) == ("timeout", "environment")
    assert all(outcome.value is not None for outcome in outcomes.values())


def test_a_long_prediction_allows_a_long_time() -> None:
    with WorkerPool(1, device="cpu", minimum_timeout_seconds=0.0, timeout_factor=10.0) as pool:
        patient, hasty = task("count", to=5, seconds=60.0), task("run_for_ever", seconds=0.01)
        outcomes = run(pool, patient, hasty)
    assert outcomes[patient.id].value == {"sum": 10}
    assert outcomes[hasty.id].failure is not None


def test_a_memory_limit_bounds_one_worker() -> None:
    with WorkerPool(1, device="cpu", memory_limit_mb=200) as pool:
        outcomes = run(
            pool, task("take_memory", name="much", megabytes=400), task("take_memory", name="little", megabytes=50)
        )
    failure = outcomes["much"].failure
    assert failure is not None
    assert failure.cause == "out_of_memory"
    assert outcomes["little"].value == {"taken": 50 << 20}


def test_workers_run_at_the_same_time(tmp_path: Path) -> None:
    with WorkerPool(2, device="cpu") as pool:
        outcomes = run(pool, *(task("meet", folder=str(tmp_path), mark=str(i), expected=2) for i in range(2)))
    assert len({outcome.value["process"] for outcome in outcomes.values() if outcome.value}) == 2


def test_a_fresh_process_for_every_task_when_asked() -> None:
    with WorkerPool(1, device="cpu", fresh_process=True) as pool:
        outcomes = run(pool, task("echo"), task("echo"), task("echo"))
    assert len({outcome.value["process"] for outcome in outcomes.values() if outcome.value}) == 3


def test_a_stop_interrupts_what_runs_and_starts_no_more() -> None:
    with WorkerPool(1, device="cpu") as pool:
        tasks = [task("run_until_stopped", name="running", seconds=1), task("echo", name="waiting")]
        outcomes = {o.id: o for o in pool.run(tasks, on_progress=lambda *_: pool.request_stop())}
    assert all(outcome.interrupted and outcome.failure is None for outcome in outcomes.values())
    assert outcomes["running"].worker == 0
    assert outcomes["waiting"].worker == -1


def test_leaving_the_pool_lets_running_tasks_leave_a_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    processes: list[int] = []

    def leave(_: str, data: Any) -> None:
        processes.append(data["started"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), WorkerPool(1, device="cpu") as pool:
        list(pool.run([task("run_until_stopped", checkpoint=str(checkpoint))], on_progress=leave))
    assert checkpoint.read_text() == "done so far"
    with pytest.raises(ProcessLookupError):
        os.kill(processes[0], 0)


def test_abandoned_tasks_are_not_started(pool: WorkerPool, tmp_path: Path) -> None:
    outcomes = pool.run([task("echo", seconds=2), task("echo", seconds=1), *(task("echo") for _ in range(50))])
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined] # run returns a generator
    assert [outcome.id for outcome in pool.run([task("echo", name="next")])] == ["next"]


def test_modules_are_imported_before_the_first_task() -> None:
    with WorkerPool(1, device="cpu", preload=["wave"]) as pool:
        assert next(pool.run([task("modules_at_start", modules=["wave", "chunk"])])).value == {"modules": ["wave"]}


def test_a_module_that_cannot_be_imported_ends_the_run_with_its_name() -> None:
    with (
        WorkerPool(2, device="cpu", preload=["no_such_module"]) as pool,
        pytest.raises(PoolError, match="no_such_module"),
    ):
        list(pool.run([task("echo")]))


def test_a_device_that_is_not_here_ends_the_run_with_what_is() -> None:
    with WorkerPool(1, device="mps") as pool, pytest.raises(PoolError, match=r"torch finds only .*cpu"):
        list(pool.run([task("echo")]))


def test_no_tasks_are_done_at_once(pool: WorkerPool) -> None:
    assert list(pool.run([])) == []


def test_a_pool_needs_a_worker_and_a_task_a_function() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        WorkerPool(0)
    with pytest.raises(ValueError, match=r"package\.module:name"):
        Task("a", "os.system", {}, 0.0)
