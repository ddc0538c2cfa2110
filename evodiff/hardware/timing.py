"""Timing operations on a device.

On the CPU the clock is the CPU time of the one thread that computes: on an idle machine that is the latency, on a busy
one it leaves out the time that other processes took. Operations are timed one by one, in a shuffled sequence of all of
them, on tensors cut from one arena of the size of a small network, so that each meets the caches as it does among the
operations of a network. Timed in a loop of its own, a small convolution takes half the time that it takes in use.

On Apple's GPUs (``mps``) and on ``cuda`` every shape is warmed up, and the median of twenty measurements counts, each of
several calls between two synchronisations. This code has not been run on Apple hardware.
"""

from __future__ import annotations

import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from evodiff.hardware.calibration import THREADS, Progress
from evodiff.hardware.design import design
from evodiff.hardware.kernels import Arena, Kernel, make_kernel
from evodiff.hardware.operation import Operation

# Operations in a page, counted runs of a page in one turn, and turns at most.
PAGE: Final = 64
PAGE_RUNS: Final = 3
MAX_TURNS: Final = 10
# Share of the budget for building and warming up; the rest is for measuring.
FIRST_PASS: Final = 0.35
ACCELERATOR_CALLS: Final = 10
# Timed less often than this, a median means little.
ACCELERATOR_REPEATS: Final = 20

Clock = Callable[[], int]


def torch_version() -> str:
    """Return the version of torch, with the build."""
    return str(torch.__version__)


def device_name(device: str) -> str:
    """Return the name of this machine's processor or GPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def synchronise(device: str) -> None:
    """Wait until ``device`` has done all that it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


@contextmanager
def single_thread() -> Iterator[None]:
    """Let torch compute with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_operations(
    device: str, *, budget_seconds: float, progress: Progress | None = None
) -> list[tuple[Operation, float]]:
    """Return operations of the design with their median milliseconds, as many as the budget allows."""
    started = time.perf_counter()

    def used() -> float:
        share = (time.perf_counter() - started) / budget_seconds
        if progress is not None:
            progress(min(1.0, share))
        return share

    with torch.inference_mode(), single_thread():
        measure = _time_on_cpu if device == "cpu" else _time_on_accelerator
        samples = measure(device, used)
    return [(item, float(f"{statistics.median(values) / 1e6:.5g}")) for item, values in samples.items()]


def _time_on_cpu(device: str, used: Callable[[], float]) -> dict[Operation, list[int]]:
    """Return nanoseconds of every counted run.

    A page of operations, about as many as a network has, is run several times over in a new order each time, and what the
    first run of a page brings into the caches does not count. All pages take their turns until the budget is used.
    """
    arena = Arena(device)
    kernels: list[tuple[Operation, Kernel]] = []
    for item in design():
        kernel = make_kernel(item, arena)
        kernel()
        kernels.append((item, kernel))
        if used() > FIRST_PASS:
            break
    kernels.sort(key=lambda pair: pair[0].read_bytes + pair[0].write_bytes)
    samples: dict[Operation, list[int]] = {item: [] for item, _ in kernels}
    order = random.Random(0)  # noqa: S311 - an order of measurement, not a secret
    turns, before = 0, used()
    while turns < MAX_TURNS:
        for first in range(0, len(kernels), PAGE):
            _time_page(kernels[first : first + PAGE], samples, order)
            share = used()
        turns += 1
        if share + (share - before) / turns > 1:
            break
    return samples


def _time_page(page: list[tuple[Operation, Kernel]], samples: dict[Operation, list[int]], order: random.Random) -> None:
    for run in range(PAGE_RUNS + 1):
        order.shuffle(page)
        for item, kernel in page:
            begin = time.thread_time_ns()
            kernel()
            elapsed = time.thread_time_ns() - begin
            if run > 0:
                samples[item].append(elapsed)


def _time_on_accelerator(device: str, used: Callable[[], float]) -> dict[Operation, list[int]]:
    """Return nanoseconds a call, several calls at a time, so that the price of waiting is shared by them."""
    arena = Arena(device)
    samples: dict[Operation, list[int]] = {}
    for item in design():
        kernel = make_kernel(item, arena)
        for _ in range(3):
            kernel()
        synchronise(device)
        values = []
        for _ in range(ACCELERATOR_REPEATS):
            begin = time.perf_counter_ns()
            for _ in range(ACCELERATOR_CALLS):
                kernel()
            synchronise(device)
            values.append((time.perf_counter_ns() - begin) // ACCELERATOR_CALLS)
        samples[item] = values
        if used() > 1:
            break
    return samples
