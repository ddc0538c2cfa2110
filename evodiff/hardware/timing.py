"""Timing operations on a device.

On the CPU the clock is the CPU time of the one thread that computes: on an idle machine that is the latency, on a busy
one it leaves out the time that other processes took. Operations are timed one by one, page after page
(:mod:`evodiff.hardware.design`), each page several times over, on tensors that lie in memory as those
of a network do. So each meets the caches as it does in use; timed in a loop of its own, a small convolution takes half
the time that it takes there.

On Apple's GPUs (``mps``) and on ``cuda`` every shape is warmed up, and the median of twenty measurements counts, each
of several calls between two synchronisations. This code has not been run on Apple hardware.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import torch

from evodiff.hardware.calibration import THREADS, Progress
from evodiff.hardware.design import pages
from evodiff.hardware.kernels import Arena, Kernel, make_kernel
from evodiff.hardware.processor import processor_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evodiff.hardware.operation import Operation

# Counted runs of a page in one turn, and turns at most.
PAGE_RUNS: Final = 4
MAX_TURNS: Final = 6
# Share of the budget for building and warming up; the rest is for measuring.
FIRST_PASS: Final = 0.35
ACCELERATOR_CALLS: Final = 10
# Timed less often than this, a median means little.
ACCELERATOR_REPEATS: Final = 20


def torch_version() -> str:
    """Return the version of torch, with the build."""
    return str(torch.__version__)


def device_name(device: str) -> str:
    """Return the name of this machine's processor or GPU."""
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name())
    return processor_name()


def synchronise(device: str) -> None:
    """Wait until ``device`` has done all that it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    elif device.startswith("mps"):
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
    """Return operations of the design with the milliseconds that they take, as many as the budget allows."""
    started = time.perf_counter()

    def used() -> float:
        share = (time.perf_counter() - started) / budget_seconds
        if progress is not None:
            progress(min(1.0, share))
        return share

    with torch.inference_mode(), single_thread():
        if device == "cpu":
            nanoseconds = {item: _lower_quartile(values) for item, values in _time_on_cpu(used).items()}
        else:
            timed = _time_on_accelerator(device, used)
            nanoseconds = {item: statistics.median_low(values) for item, values in timed.items()}
    return [(item, float(f"{value / 1e6:.5g}")) for item, value in nanoseconds.items()]


def _lower_quartile(values: list[int]) -> int:
    # Interruptions and other processes' use of the caches only ever slow down: less of them is nearer to the truth.
    return sorted(values)[len(values) // 4]


def _time_on_cpu(used: Callable[[], float]) -> dict[Operation, list[int]]:
    """Return nanoseconds of every counted run.

    The first run of a page in each turn, which brings code and parameters into the caches, does not count. Pages take
    their turns until the budget is used; on a slow machine it ends before the last of them had its first.
    """
    arena = Arena("cpu")
    shuffle = random.Random(0).shuffle  # noqa: S311 - an order of measurement, not a secret
    prepared = []
    for page in pages():
        arena.open_page(page)
        shuffle(page)
        prepared.append([(item, make_kernel(item, arena)) for item in page])
        for _, kernel in prepared[-1]:
            kernel()
        if used() > FIRST_PASS:
            break
    samples: dict[Operation, list[int]] = defaultdict(list)
    price = _price_of_clock()
    before = used()
    for turn in range(1, MAX_TURNS + 1):
        for kernels in prepared:
            _time_page(kernels, samples, price)
            share = used()
            if share > 1:
                return samples
        if share + (share - before) / turn > 1:
            break
    return samples


def _time_page(page: list[tuple[Operation, Kernel]], samples: dict[Operation, list[int]], price: int) -> None:
    # The order stays the same, as in a network: processors learn it.
    for run in range(PAGE_RUNS + 1):
        for item, kernel in page:
            begin = time.thread_time_ns()
            kernel()
            elapsed = time.thread_time_ns() - begin
            if run > 0:
                samples[item].append(max(1, elapsed - price))


def _price_of_clock() -> int:
    """Return the nanoseconds between two readings of the clock."""
    differences = []
    for _ in range(1000):
        begin = time.thread_time_ns()
        differences.append(time.thread_time_ns() - begin)
    return _lower_quartile(differences)


def _time_on_accelerator(device: str, used: Callable[[], float]) -> dict[Operation, list[int]]:
    """Return nanoseconds a call, several calls at a time, so that the price of waiting is shared by them."""
    arena = Arena(device)
    samples: dict[Operation, list[int]] = {}
    for page in pages():
        arena.open_page(page)
        for item in page:
            samples[item] = _time_calls(make_kernel(item, arena), device)
        if used() > 1:
            break
    return samples


def _time_calls(kernel: Kernel, device: str) -> list[int]:
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
    return values
