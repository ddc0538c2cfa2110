"""How many times the trials per second do two workers do, against one?

A trial trains a network of the zoo for some steps on the digits. Sixteen trials of mixed sizes go through a pool of one
worker and through a pool of two, in turn; both pools are ready (everything imported, images read) before the clock
starts, and idle while the other one works. A round gives the ratio seconds of one / seconds of two for the same trials.

The share of a core is the CPU time that the trials had, over the time that their workers were there: where it is well
below 1, other programs had the cores, and the ratio says little.

    python benchmarks/worker_scaling.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from contextlib import ExitStack
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from evodiff.architecture.cost import flops
from evodiff.architecture.genome import ImageShape
from evodiff.architecture.graph import resolve
from evodiff.architecture.zoo import ZOO
from evodiff.workers import Task, WorkerContext, WorkerPool

if TYPE_CHECKING:
    from torch import Tensor

SHAPE = ImageShape(1, 8, 10)
TRIALS = 16
BATCH = 64
AIM = 1.7
MODULES = ["evodiff.architecture.network", "evodiff.training", "sklearn.datasets"]


def main() -> None:
    """Print a row per round and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="training steps of a trial")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    tasks = [trial(number, arguments.steps) for number in range(TRIALS)]
    table = Table("round", title=title(arguments))
    for count in (1, arguments.workers):
        table.add_column(f"{count} workers: s")
        table.add_column("share of a core")
    table.add_column("ratio")
    ratios = []
    with ExitStack() as stack:
        pools = {
            count: stack.enter_context(WorkerPool(count, device="cpu", preload=MODULES))
            for count in (1, arguments.workers)
        }
        for count, pool in pools.items():
            warm_up(pool, count)
        for number in track(range(arguments.rounds), "rounds", console=Console(stderr=True)):
            taken = {count: measure(pool, tasks) for count, pool in pools.items()}
            ratios.append(taken[1][0] / taken[arguments.workers][0])
            cells = [cell for count, (wall, cpu) in taken.items() for cell in (wall, cpu / wall / count)]
            table.add_row(str(number), *(f"{cell:.2f}" for cell in (*cells, ratios[-1])))
    console = Console(width=110)
    console.print(table)
    console.print(
        f"trials per second, {arguments.workers} workers against one: median {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}); at least {AIM} is wanted of two on two idle cores"
    )


def title(arguments: argparse.Namespace) -> str:
    """Say what is measured."""
    return (
        f"{TRIALS} trials of {arguments.steps} steps, batch {BATCH}, one torch thread a worker, {os.cpu_count()} cores"
    )


def trial(number: int, steps: int) -> Task:
    """Return a trial; the zoo's networks take turns."""
    name = list(ZOO)[number % len(ZOO)]
    work = flops(resolve(ZOO[name](SHAPE), SHAPE), BATCH) * steps
    payload = {"network": name, "steps": steps, "seed": number}
    return Task(f"{number:02d} {name}", "worker_scaling:train_one", payload, predicted_seconds=work / 1e10)


def warm_up(pool: WorkerPool, workers: int) -> None:
    """Have every worker of a pool train something and read the images."""
    warm: set[int] = set()
    while len(warm) < workers:
        outcomes = pool.run([trial(number, 2) for number in range(workers)])
        warm |= {outcome.worker for outcome in outcomes if outcome.value is not None}


def measure(pool: WorkerPool, tasks: list[Task]) -> tuple[float, float]:
    """Return the seconds that a pool takes over the tasks, and the CPU seconds of its workers."""
    started = time.perf_counter()
    cpu = 0.0
    for outcome in pool.run(tasks):
        if outcome.value is None:
            raise RuntimeError(f"{outcome.id}: {outcome.failure}")
        cpu += outcome.value["cpu_seconds"]
    return time.perf_counter() - started, cpu


def train_one(payload: dict[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Train one network; this runs in a worker."""
    from evodiff.architecture.network import build_network
    from evodiff.sampling.noise import NoiseSchedule
    from evodiff.settings import TrainingSettings
    from evodiff.training import train

    images, labels = digits()
    started = time.process_time()
    train(
        build_network(ZOO[payload["network"]](SHAPE), SHAPE, seed=payload["seed"]),
        images,
        labels,
        TrainingSettings(batch_size=BATCH),
        seed=payload["seed"],
        schedule=NoiseSchedule.named("linear"),
        last_step=payload["steps"],
        classes=SHAPE.classes,
        report=context.report,
        should_stop=context.should_stop,
    )
    return {"cpu_seconds": time.process_time() - started}


@lru_cache(maxsize=1)
def digits() -> tuple[Tensor, Tensor]:
    """Return the training images of the digits, and their labels."""
    import torch

    from evodiff.data import open_dataset, scale

    images, labels = open_dataset("digits").part("train")
    assert labels is not None
    return torch.from_numpy(scale(images)), torch.from_numpy(labels)


if __name__ == "__main__":
    main()
