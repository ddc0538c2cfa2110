"""Same bytes from the same seed: what torch must be told while a trial trains on the CPU."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Compute with one thread and deterministic kernels on the CPU, then put back what was set before.

    The order in which several threads add up is the threads' affair, so one thread is part of the recompute
    guarantee. Other devices are left as they are: the guarantee does not cover them.
    """
    if device.type != "cpu":
        yield
        return
    threads = torch.get_num_threads()
    mode = torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined] # set by module magic
    torch.set_num_threads(1)
    # The switch of use_deterministic_algorithms, which would also import torch's compiler, for seconds.
    torch.set_deterministic_debug_mode("error")
    # Filling every new tensor with NaN only helps to find reads of uninitialised memory, and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # as above
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined] # as above
        torch.set_deterministic_debug_mode(mode)
        torch.set_num_threads(threads)
