"""Workers for a piece of work: as many as the settings say, and asked for checkpoints when somebody wants to stop."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evodiff.errors import Interrupted
from evodiff.hardware.memory import physical_memory_mb
from evodiff.workers import WorkerPool
from evodiff.workers.pool import DEVICE_MEMORY_SHARE

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
def open_workers(settings: Settings, say: Callable[[str], None], *, at_most: int | None = None) -> Iterator[WorkerPool]:
    """Open the workers, or ``at_most`` as many of them; the first Ctrl-C or SIGTERM asks them to leave checkpoints.

    Each may take its share of the memory and no more, however few are opened: the others may be at work elsewhere.
    """
    count = worker_count(settings)
    pool = WorkerPool(
        min(count, at_most or count),
        device=settings.device,
        preload=PRELOAD,
        memory_limit_mb=MEMORY_SHARE * physical_memory_mb() / count,
        device_memory_share=DEVICE_MEMORY_SHARE / count,
    )
    with pool, _stopping(pool, say):
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
