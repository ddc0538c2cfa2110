"""Noisy neighbours: processes that compute nothing, on the one core that others are kept on meanwhile.

This is how a service becomes slow in production without any change to it, and it is real: the scheduler of the system
divides the core between them. Where processes cannot be kept on a core (macOS), every core gets as many neighbours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CAN_KEEP: Final = hasattr(os, "sched_setaffinity")

# It ends by itself, and with its parent: nobody else's machine is kept busy by what was forgotten.
_BURN: Final = """
import os, sys, time
until, parent = time.monotonic() + float(sys.argv[2]), os.getppid()
for _ in range(int(sys.argv[1]) - 1):
    if os.fork() == 0:
        parent = os.getppid()
        break
while time.monotonic() < until and os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextmanager
def noisy_neighbours(process_ids: Sequence[int], *, count: int, seconds: float) -> Iterator[None]:
    """Have ``count`` processes compute beside some, at most so long; afterwards these have all their cores again.

    Raises:
        psutil.Error: one of them is not there.
    """
    cores = {process: set(os.sched_getaffinity(process)) for process in process_ids} if _CAN_KEEP else {}
    many = count if cores else count * (os.cpu_count() or 1)
    burning = subprocess.Popen(  # noqa: S603 - a program of ours
        [sys.executable, "-S", "-c", _BURN, str(many), str(seconds)], start_new_session=True
    )
    try:
        for process in (burning.pid, *cores) if cores else ():
            _keep_on(process, {min(set.intersection(*cores.values()))})
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(burning.pid, signal.SIGKILL)
        burning.wait()
        for process, before in cores.items():
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                _keep_on(process, before)


def _keep_on(process_id: int, cores: set[int]) -> None:
    """Keep a process, with all its threads and children, on some cores."""
    process = psutil.Process(process_id)
    for one in [process, *process.children(recursive=True)]:
        for thread in one.threads():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread.id, cores)
