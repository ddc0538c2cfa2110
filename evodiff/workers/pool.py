"""A pool of worker processes with one queue, longest task first."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from evodiff.engine.candidate import Failure
from evodiff.errors import CandidateNotFound, DatasetError, EvodiffError, LedgerError, PoolError, SettingsError
from evodiff.workers.task import Outcome, Task
from evodiff.workers.worker import Worker, WorkerDied

if TYPE_CHECKING:
    from types import TracebackType

OnProgress = Callable[[str, dict[str, Any]], None]
_Arrival = Outcome | EvodiffError | tuple[str, dict[str, Any]]

DEVICE_MEMORY_SHARE = 0.9  # of an accelerator's memory, for all workers together
_TICK_SECONDS = 0.1  # how often a stop, a time-out or a close is noticed
_START_SECONDS = 180.0  # imports of torch by several processes at once, on a cold disk
_START_ATTEMPTS = 3
# What a worker's refusal is raised as here; any other kind as the base of them all.
_REFUSALS = {kind.__name__: kind for kind in (CandidateNotFound, DatasetError, LedgerError, SettingsError)}


@dataclass
class _Batch:
    """The tasks of one ``run``: those not yet started, and what has come back."""

    waiting: list[Task]  # the next one last
    arrivals: queue.SimpleQueue[_Arrival] = field(default_factory=queue.SimpleQueue)


class WorkerPool:
    """Runs tasks in ``workers`` processes of one torch thread each.

    Use it as a context manager. A place in the pool is served by one thread of this process and one worker process,
    which is replaced when it dies, and on MPS after every task (its caches of compiled graphs grow with every new
    shape).

    A task fails by itself, and only by itself: its own exceptions are its own failures; a crash, memory used up, a full
    disk, or a run longer than ``timeout_factor`` times the prediction (at least ``minimum_timeout_seconds``) is a
    failure of the environment. An error for a person to mend, such as settings or files that cannot be used, is no
    failure of the task that met it: it ends the batch.

    ``preload`` names modules that workers import at their start, not during the first task. ``memory_limit_mb`` (10^6
    bytes) bounds what a worker on the CPU may take beyond what it has when it is ready (Linux), ``device_memory_share``
    the part of an accelerator's memory that each may take: by default these workers share it.
    """

    def __init__(
        self,
        workers: int,
        *,
        device: str = "auto",
        preload: Sequence[str] = (),
        minimum_timeout_seconds: float = 60.0,
        timeout_factor: float = 10.0,
        memory_limit_mb: float | None = None,
        device_memory_share: float | None = None,
        fresh_process: bool | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"Workers: expected at least 1, found {workers}.")
        self._setup = {
            "device": device,
            "preload": list(preload),
            "device_memory_share": device_memory_share or DEVICE_MEMORY_SHARE / workers,
            "memory_limit_mb": memory_limit_mb,
        }
        self._minimum_timeout_seconds = minimum_timeout_seconds
        self._timeout_factor = timeout_factor
        self._fresh_process = fresh_process
        self._changed = threading.Condition()
        self._batch: _Batch | None = None
        self._broken: EvodiffError | None = None
        self._stopping = False  # plain flags: they are set from signal handlers, where a lock could deadlock
        self._kill_after = math.inf
        self._device = ""
        self._threads = [
            threading.Thread(target=self._serve, args=(place,), name=f"worker-{place}", daemon=True)
            for place in range(workers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def stop_requested(self) -> bool:
        """Whether :meth:`request_stop` was called."""
        return self._stopping

    def run(self, tasks: Sequence[Task], *, on_progress: OnProgress | None = None) -> Iterator[Outcome]:
        """Start the tasks and yield the outcome of each as it comes: exactly one per task.

        ``on_progress`` is called in the thread that iterates, as on_progress(task id, data), for every
        ``context.report(data)``. After a stop was requested, tasks that had not started come back as interrupted too.

        Raises:
            PoolError: the workers cannot be started.
            EvodiffError: what a task refused to work with (SettingsError, LedgerError, ...), with headline and remedy.
        """
        longest_last = sorted(tasks, key=lambda task: task.predicted_seconds)
        batch = _Batch(longest_last)
        with self._changed:
            self._batch = batch
            self._changed.notify_all()
        return self._outcomes(batch, len(tasks), on_progress)

    def request_stop(self) -> None:
        """Ask the running tasks to stop, and start no more; safe to call from a signal handler."""
        self._stopping = True

    def close(self, grace_seconds: float = 10.0) -> None:
        """End the workers; tasks that still run are asked to stop, and killed after ``grace_seconds``."""
        self._kill_after = time.monotonic() + grace_seconds
        self.request_stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _outcomes(self, batch: _Batch, expected: int, on_progress: OnProgress | None) -> Iterator[Outcome]:
        try:
            while expected:
                if self._stopping:
                    for task in self._withdraw(batch):
                        expected -= 1
                        yield Outcome(task.id, None, None, 0.0, -1, interrupted=True)
                    if not expected:
                        break
                arrival = self._next_arrival(batch)
                if isinstance(arrival, EvodiffError):
                    raise arrival
                if isinstance(arrival, Outcome):
                    expected -= 1
                    yield arrival
                elif arrival is not None and on_progress is not None:
                    on_progress(*arrival)
        finally:
            self._withdraw(batch)

    def _next_arrival(self, batch: _Batch) -> _Arrival | None:
        try:
            return batch.arrivals.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            if self._broken is not None:
                raise self._broken from None
            if not any(thread.is_alive() for thread in self._threads):
                raise PoolError("The pool is closed.", remedy="Use it inside its `with` block.") from None
            return None

    def _withdraw(self, batch: _Batch) -> list[Task]:
        with self._changed:
            withdrawn, batch.waiting = batch.waiting[::-1], []
        return withdrawn

    def _serve(self, place: int) -> None:
        """Serve one place of the pool: keep a worker ready, hand it one task after another."""
        worker: Worker | None = None
        try:
            while not self._stopping and self._broken is None:
                if worker is None:
                    worker = self._start()
                elif (task := self._next_task()) is not None and not self._execute(place, worker, *task):
                    worker.close()
                    worker = None
        finally:
            if worker is not None:
                worker.close()

    def _next_task(self) -> tuple[_Batch, Task] | None:
        """Take the longest task that waits; None when there was none for a while."""
        with self._changed:
            batch = self._batch
            if batch is None or not batch.waiting:
                self._changed.wait(_TICK_SECONDS)
                return None
            return None if self._stopping else (batch, batch.waiting.pop())

    def _start(self) -> Worker | None:
        """Start a worker and wait until it is ready; None when it cannot be or is no longer wanted."""
        how = ""
        for _ in range(_START_ATTEMPTS):
            worker = Worker(self._setup)
            try:
                if self._await_ready(worker):
                    return worker
                how = f"it was not ready after {_START_SECONDS:g} seconds"
            except WorkerDied:
                how = worker.death()
            worker.close()
            if self._stopping or self._broken is not None:
                return None
        self._broken = PoolError(
            f"A worker could not be started in {_START_ATTEMPTS} attempts: {how}.",
            remedy="Free memory, or ask for fewer workers.",
        )
        return None

    def _await_ready(self, worker: Worker) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and not self._stopping:
            message = worker.receive(_TICK_SECONDS)
            if message is not None and message["kind"] == "broken":
                self._broken = PoolError(message["headline"], remedy=message["remedy"])
                return False
            if message is not None:
                self._device = str(message["device"])
                return True
        return False

    def _execute(self, place: int, worker: Worker, batch: _Batch, task: Task) -> bool:
        """Run a task, hand its outcome to the batch, and tell whether the worker can take another."""
        started = time.monotonic()
        try:
            worker.send({"kind": "task", "function": task.function, "payload": task.payload})
            answer = self._await_answer(worker, task, batch, started)
        except WorkerDied:
            answer = _environment_failure("crash", worker.death())
        fresh = self._device == "mps" if self._fresh_process is None else self._fresh_process
        if answer["kind"] == "refusal":
            kind = _REFUSALS.get(answer["error"], EvodiffError)
            batch.arrivals.put(kind(answer["headline"], remedy=answer["remedy"]))
            return not fresh
        failure = None
        if answer["kind"] == "failure":
            failure = Failure(answer["cause"], answer["detail"], answer["failure_kind"])
        seconds = time.monotonic() - started
        interrupted = answer["kind"] == "interrupted"
        batch.arrivals.put(Outcome(task.id, answer.get("value"), failure, seconds, place, interrupted))
        return not fresh and (failure is None or failure.kind == "own")

    def _await_answer(self, worker: Worker, task: Task, batch: _Batch, started: float) -> dict[str, Any]:
        limit = max(self._minimum_timeout_seconds, self._timeout_factor * task.predicted_seconds)
        told_to_stop = False
        while (now := time.monotonic()) < started + limit:
            if self._stopping and not told_to_stop:
                worker.send({"kind": "stop"})
                told_to_stop = True
            if now > self._kill_after:
                return {"kind": "interrupted"}
            message = worker.receive(min(_TICK_SECONDS, started + limit - now))
            if message is None:
                continue
            if message["kind"] != "progress":
                return message
            batch.arrivals.put((task.id, message["data"]))
        worker.kill()
        return _environment_failure("timeout", f"it was ended after {limit:g} seconds")


def _environment_failure(cause: str, detail: str) -> dict[str, Any]:
    return {"kind": "failure", "cause": cause, "detail": detail, "failure_kind": "environment"}
