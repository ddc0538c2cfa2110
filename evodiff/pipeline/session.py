"""Workers for a piece of work: as many as the settings say, and asked for checkpoints when somebody wants to stop."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evodiff.errors import Interrupted
from evodiff.hardware.memory import physical_memory_mb
from evodiff.workers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evodiff.settings import Settings

PRELOAD = ("evodiff.pipeline.trial",)
MOST_WORKERS = 8
MEMORY_SHARE = 0.8  # of the machine's memory, for all workers together


def worker_count(settings: Settings) -> int:
    """Return how many workers the settings ask for: by default one per core, at most 8."""
    return settings.workers or min(os.cpu_count() or 1, MOST_WORKERS)


@contextmanager
def open_workers(settings: Settings, say: Callable[[str], None]) -> Iterator[WorkerPool]:
    """Open the workers; the first Ctrl-C or SIGTERM asks them to leave checkpoints."""
    count = worker_count(settings)
    share_mb = MEMORY_SHARE * physical_memory_mb() / count
    with (
        WorkerPool(count, device=settings.device, preload=PRELOAD, memory_limit_mb=share_mb) as pool,
        _stopping(pool, say),
    ):
        yield pool


@contextmanager
def _stopping(pool: WorkerPool, say: Callable[[str], None]) -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        if pool.stop_requested:
            raise Interrupted("Stopped at once.", remedy="Go on with: evodiff evolve --resume and the run's folder.")
        say("Stopping: running trainings leave a checkpoint. Once more to stop at once.")
        pool.request_stop()

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, as in some notebooks: there signals are the notebook's affair
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
