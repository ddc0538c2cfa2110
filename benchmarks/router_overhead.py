"""What does the router cost a request, and what happens where there are too many?

A router with two workers runs as a user starts it, over small models whose weights are drawn by chance; the load comes
from this process, on the same machine, over kept connections, at random times (Poisson).

1. Overhead of a request: what its client waited, less the seconds that the worker says it queued and computed; at half
   of what one worker does alone. What the worker takes to encode the PNG is part of it, and printed beside it.
2. Twice what both workers do: accepted requests within their deadline, 429 for the others.
3. Exchanges of versions under load, in a fleet of this process: requests that fail.
4. Memory of the router and its workers over many requests.

    python benchmarks/router_overhead.py
    python benchmarks/router_overhead.py --smoke
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import psutil
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "deployment"))
from router_process import USE, RouterProcess, bearer
from served_models import write_model

AIM_MEDIAN_MS, AIM_P99_MS = 5.0, 15.0
DEADLINE_SECONDS = 5.0
BODY = {"count": 1, "steps": 10}
CLIENTS = [bearer(USE), bearer(f"{USE}-2")]


@dataclass
class Seen:
    """What came of a load: statuses, and seconds of the answers."""

    statuses: Counter[int] = field(default_factory=Counter)
    total: list[float] = field(default_factory=list)
    worker: list[float] = field(default_factory=list)
    encoding: list[float] = field(default_factory=list)

    @property
    def overhead_ms(self) -> np.ndarray:
        """Milliseconds of each answer in which the worker neither queued nor computed it."""
        return 1e3 * (np.array(self.total) - np.array(self.worker))


def main() -> None:
    """Print a line for each of the four."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="few requests: does it run?")
    smoke = parser.parse_args().smoke
    console = Console(width=110)
    console.print(f"{os.cpu_count()} cores, load average before: {os.getloadavg()[0]:.1f}")
    with TemporaryDirectory() as name:
        folder = Path(name)
        models = [write_model(folder / model, seed=seed) for seed, model in enumerate(("stable", "canary"))]
        arguments = (models[0], "--canary", models[1], "--canary-weight", 0.5)
        with RouterProcess(
            folder / "router", *arguments, deadline_seconds=DEADLINE_SECONDS, client_share=1.0
        ) as router:
            for line in asyncio.run(measure(router, smoke)):
                console.print(line)
        console.print(asyncio.run(exchanges(models, folder, 10 if smoke else 100)))


async def measure(router: RouterProcess, smoke: bool) -> list[str]:
    """Return what the loads on a router showed."""
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx.AsyncClient(base_url=router.url, timeout=60, limits=limits) as client:
        await warm_up(client, 20)
        capacity = await capacity_of_one(client, 1 if smoke else 10)
        light = await load(client, rate=capacity / 2, seconds=4 if smoke else 60)
        heavy = await load(client, rate=4 * capacity, seconds=3 if smoke else 30)
        await asyncio.sleep(DEADLINE_SECONDS)
        memory = await memory_over(router, client, 200 if smoke else 10_000)
    overhead = np.percentile(light.overhead_ms, [50, 99])
    late = sum(seconds > DEADLINE_SECONDS for seconds in heavy.total)
    return [
        f"one worker, 16 requests at once: {capacity:.1f} requests/s of {BODY}",
        f"overhead at {capacity / 2:.1f} requests/s, {len(light.total)} answers: median {overhead[0]:.2f} ms, "
        f"p99 {overhead[1]:.2f} ms, of it encoding {1e3 * np.median(light.encoding):.2f} ms; wanted "
        f"{AIM_MEDIAN_MS:g} and {AIM_P99_MS:g}; {dict(light.statuses)}",
        f"{4 * capacity:.1f} requests/s: {dict(sorted(heavy.statuses.items()))}; {late} of {len(heavy.total)} answers "
        f"after {DEADLINE_SECONDS:g} s, the slowest after {max(heavy.total, default=0):.2f} s",
        *memory,
    ]


async def warm_up(client: httpx.AsyncClient, count: int) -> None:
    """Have both workers answer."""
    for index in range(count):
        await ask(client, Seen(), index)


async def capacity_of_one(client: httpx.AsyncClient, seconds: float) -> float:
    """Return how many requests a second one worker answers, whole batches at a time."""
    seen, started = Seen(), time.perf_counter()

    async def keep_asking() -> None:
        while time.perf_counter() - started < seconds:
            await ask(client, seen, 0)

    await asyncio.gather(*(keep_asking() for _ in range(16)))
    return seen.statuses[200] / (time.perf_counter() - started)


async def load(client: httpx.AsyncClient, *, rate: float, seconds: float) -> Seen:
    """Send requests at random times, whatever becomes of those before."""
    chance, seen, waiting = random.Random(0), Seen(), set()
    started = due = time.perf_counter()
    index = 0
    while due < started + seconds:
        due += chance.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(ask(client, seen, index))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        index += 1
    await asyncio.gather(*waiting)
    return seen


async def ask(client: httpx.AsyncClient, seen: Seen, index: int) -> None:
    """Send one request, and take note of what came back."""
    started = time.perf_counter()
    answer = await client.post("/v1/generate", json={**BODY, "seed": index}, headers=CLIENTS[index % len(CLIENTS)])
    seconds = time.perf_counter() - started
    seen.statuses[answer.status_code] += 1
    if answer.status_code == 200:
        parts = answer.headers["server-timing"].split(",")
        queue, compute, encode = (float(part.partition("dur=")[2]) / 1e3 for part in parts)
        seen.total.append(seconds)
        seen.worker.append(queue + compute)
        seen.encoding.append(encode)


async def memory_over(router: RouterProcess, client: httpx.AsyncClient, count: int) -> list[str]:
    """Return resident memory of the router and its workers, a tenth of the way in and at the end."""
    assert router.process is not None
    processes = [psutil.Process(router.process.pid), *psutil.Process(router.process.pid).children()]
    seen = Seen()
    found = []
    for share in (count // 10, count - count // 10):
        for start in range(0, share, 8):
            await asyncio.gather(*(ask(client, seen, start + offset) for offset in range(8)))
        found.append([process.memory_info().rss / 1e6 for process in processes])
    rows = ", ".join(f"{before:.0f} to {after:.0f}" for before, after in zip(*found, strict=True))
    return [
        f"memory from the {count // 10}th to the {count}th request (router, workers), MB: {rows}; {dict(seen.statuses)}"
    ]


async def exchanges(models: list[Path], folder: Path, count: int) -> str:
    """Exchange the versions of a fleet under load, and return what failed."""
    from evodiff.deployment.assignment import arm_of
    from evodiff.deployment.fleet import Fleet
    from evodiff.deployment.generation import GenerationRequest
    from evodiff.deployment.observation import Arm
    from evodiff.deployment.settings import ServingSettings

    fleet = Fleet(ServingSettings(cache_dir=folder / "cache"), arm_of, runs_dir=folder)
    outcomes: Counter[str] = Counter()
    fleet.observers.append(lambda seen: outcomes.update([str(seen.outcome)]))
    try:
        for arm, model in zip(Arm, models, strict=True):
            await fleet.load({"folder": str(model)}, arm)
        asking = True

        async def keep_asking(client: str) -> None:
            while asking:
                await fleet.generate(GenerationRequest(steps=10, seconds=60), client)

        clients: list[asyncio.Task[Any]] = [asyncio.create_task(keep_asking(f"client-{i}")) for i in range(6)]
        for number in range(count):
            await fleet.swap()
            fleet.route(f"rollout-{number}", 0.5)
            await asyncio.sleep(0.1)
        asking = False
        await asyncio.gather(*clients)
    finally:
        await fleet.close()
    return f"{count} exchanges of versions under load: {dict(outcomes)}"


if __name__ == "__main__":
    main()
