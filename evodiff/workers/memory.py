"""Memory of a worker: limits, and how running out of it shows."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

_MEGABYTE = 1_000_000
# Torch raises plain RuntimeErrors where the CPU's or the Mac's memory is used up; the last is what oneDNN says then.
_OUT_OF_MEMORY_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "could not create a primitive",
)


_DATA_PAGES = 5  # the place of data and stack in statm(5)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory, the machine's or the device's, was used up."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(sign in text for sign in _OUT_OF_MEMORY_SIGNS)


def limit_memory(megabytes: float) -> None:
    """Let this process take ``megabytes`` (10^6 bytes) of private memory beyond what it has; more raises MemoryError.

    Limited are data, not address space: what is merely reserved, such as the heaps of other threads, and files that are
    mapped to be read take no memory. Where the kernel does not tell the present size (elsewhere than on Linux) nothing
    is limited.
    """
    statistics = Path("/proc/self/statm")
    if statistics.exists():
        taken = int(statistics.read_text().split()[_DATA_PAGES]) * resource.getpagesize()
        limit = taken + int(megabytes * _MEGABYTE)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def limit_device_memory(device: str, share: float) -> None:
    """Let this process take at most ``share`` of the accelerator's memory: no trial may starve the others."""
    if device == "cpu":
        return
    import torch

    getattr(torch, device).set_per_process_memory_fraction(share)


def volunteer_for_the_oom_killer() -> None:
    """Make Linux end this process, and not the pool's, when the machine's memory is used up."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("700")
