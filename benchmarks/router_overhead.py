"""What does the router cost a request, and what happens where there are too many?

A router with two workers runs as a user starts it, over small models whose weights are drawn by chance; the load comes
from this process, on the same machine, over kept connections, at random times (Poisson), by the light client of
`http_load.py`.

overhead: what a client waited, less the seconds that the worker says it queued and computed; at half of what one worker
    does alone. What the worker takes to encode the PNG is part of it, and printed beside it, and so is how late the
    load came, which tells whether this machine had room for it. The CPU seconds of a request say the same on a busy
    machine.
overload: four times what one worker does; accepted requests within their deadline, 429 for the others.
swaps: exchanges of versions under load, in a fleet of this process: requests that fail.
memory: of the router and its workers over many requests.

    python benchmarks/router_overhead.py
    python benchmarks/router_overhead.py --only overhead,swaps
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
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import uvloop
from http_load import LightClient
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "deployment"))
from router_process import USE, RouterProcess, bearer
from served_models import write_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from http_load import Answer

AIM_MEDIAN_MS, AIM_P99_MS = 5.0, 15.0
DEADLINE_SECONDS = 5.0
BODY = {"count": 1, "steps": 10}
CLIENTS = [bearer(USE), bearer(f"{USE}-2")]
PARTS = ("overhead", "overload", "swaps", "memory")


@dataclass
class Seen:
    """What came of a load: statuses, and seconds of the answers; ``late`` is how long after its time each was sent."""

    statuses: Counter[int] = field(default_factory=Counter)
    total: list[float] = field(default_factory=list)
    worker: list[float] = field(default_factory=list)
    encoding: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    @property
    def overhead_ms(self) -> np.ndarray:
        """Milliseconds of each answer in which the worker neither queued nor computed it."""
        return 1e3 * (np.array(self.total) - np.array(self.worker))

    @property
    def lateness(self) -> str:
        """Say how late requests were sent: where it is much, this process wanted the processor itself."""
        median, p99 = 1e3 * np.percentile(self.late, [50, 99])
        return f"sent late by {median:.2f} ms (p99 {p99:.2f})"

    def take(self, answer: Answer) -> None:
        """Take note of an answer."""
        self.statuses[answer.status] += 1
        if answer.status == 200:
            parts = answer.header("server-timing").split(",")
            queue, compute, encode = (float(part.partition("dur=")[2]) / 1e3 for part in parts)
            self.total.append(answer.seconds)
            self.worker.append(queue + compute)
            self.encoding.append(encode)


def main() -> None:
    """Print some lines for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas: %(default)s")
    parser.add_argument("--smoke", action="store_true", help="few requests: does it run?")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if not set(wanted) <= set(PARTS):
        parser.error(f"--only: expected some of {', '.join(PARTS)}, found {options.only}")
    console = Console(width=110)
    console.print(f"{os.cpu_count()} cores, load average before: {os.getloadavg()[0]:.1f}")
    with TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        folder = Path(name)
        models = [write_model(folder / model, seed=seed) for seed, model in enumerate(("stable", "canary"))]
        if set(wanted) - {"swaps"}:
            arguments = (models[0], "--canary", models[1], "--canary-weight", 0.5)
            with RouterProcess(
                folder / "router", *arguments, deadline_seconds=DEADLINE_SECONDS, client_share=1.0
            ) as router:
                runner.run(measure(router, wanted, options.smoke, console))
        if "swaps" in wanted:
            console.print(runner.run(exchanges(models, folder, 10 if options.smoke else 100)))


async def measure(router: RouterProcess, wanted: list[str], smoke: bool, console: Console) -> None:
    """Print what the loads on a router show."""
    async with client_of(router) as client:
        for index in range(20):  # both workers are warm then
            await client.send(request(client, index))
        if "overhead" in wanted or "overload" in wanted:
            capacity = await capacity_of_one(client, 1 if smoke else 10)
            console.print(f"one worker, 16 requests at once: {capacity:.1f} requests/s of {BODY}")
        if "overhead" in wanted:
            console.print(await overhead(router, client, capacity / 2, 4 if smoke else 60))
        if "overload" in wanted:
            console.print(await overload(router, 4 * capacity, 3 if smoke else 30))
        if "memory" in wanted:
            console.print(await memory_over(router, client, 200 if smoke else 10_000))


@asynccontextmanager
async def client_of(router: RouterProcess, most: int = 256) -> AsyncIterator[LightClient]:
    """Give a client of a router."""
    client = LightClient(router.url, most=most)
    try:
        yield client
    finally:
        await client.close()


def request(client: LightClient, index: int) -> bytes:
    """Return the request of a number: each has a seed of its own, and the callers take turns."""
    return client.request("/v1/generate", {**BODY, "seed": index}, CLIENTS[index % len(CLIENTS)])


async def capacity_of_one(client: LightClient, seconds: float) -> float:
    """Return how many requests a second one worker answers, whole batches at a time."""
    seen, started, content = Seen(), time.perf_counter(), request(client, 0)

    async def keep_asking() -> None:
        while time.perf_counter() - started < seconds:
            seen.take(await client.send(content))

    await asyncio.gather(*(keep_asking() for _ in range(16)))
    return seen.statuses[200] / (time.perf_counter() - started)


async def overhead(router: RouterProcess, client: LightClient, rate: float, seconds: float) -> str:
    """Return what the router costs a request at a rate that leaves it room."""
    before = cpu_seconds(router)
    light = await load(client, rate=rate, seconds=seconds)
    count = max(len(light.total), 1)
    spent = [1e3 * (after - start) / count for start, after in zip(before, cpu_seconds(router), strict=True)]
    found = np.percentile(light.overhead_ms, [50, 99])
    return (
        f"overhead at {rate:.1f} requests/s, {len(light.total)} answers: median {found[0]:.2f} ms, p99 {found[1]:.2f} "
        f"ms, wanted {AIM_MEDIAN_MS:g} and {AIM_P99_MS:g}; of it encoding {1e3 * np.median(light.encoding):.2f} ms; "
        f"{light.lateness}; CPU of a request: router {spent[0]:.2f} ms, workers {sum(spent[1:-1]):.2f}, load "
        f"{spent[-1]:.2f}; {dict(light.statuses)}"
    )


async def overload(router: RouterProcess, rate: float, seconds: float) -> str:
    """Return what becomes of too many requests."""
    async with client_of(router, 4096) as client:
        heavy = await load(client, rate=rate, seconds=seconds)
        late = sum(waited > DEADLINE_SECONDS for waited in heavy.total)
        return (
            f"{rate:.1f} requests/s: {dict(sorted(heavy.statuses.items()))}; {late} of {len(heavy.total)} answers "
            f"after {DEADLINE_SECONDS:g} s, the slowest after {max(heavy.total, default=0):.2f} s; "
            f"{heavy.lateness}"
        )


async def load(client: LightClient, *, rate: float, seconds: float) -> Seen:
    """Send requests at random times, whatever becomes of those before."""
    chance, seen, waiting = random.Random(0), Seen(), set()

    async def ask(index: int) -> None:
        seen.take(await client.send(request(client, index)))

    started = due = time.perf_counter()
    index = 0
    while due < started + seconds:
        due += chance.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        seen.late.append(max(0.0, time.perf_counter() - due))
        task = asyncio.create_task(ask(index))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        index += 1
    await asyncio.gather(*waiting)
    return seen


def processes_of(router: RouterProcess) -> list[psutil.Process]:
    """Return the router and its workers."""
    assert router.process is not None
    process = psutil.Process(router.process.pid)
    return [process, *process.children()]


def cpu_seconds(router: RouterProcess) -> list[float]:
    """Return the CPU seconds so far of the router, its workers and this process."""
    times = [process.cpu_times() for process in (*processes_of(router), psutil.Process())]
    return [spent.user + spent.system for spent in times]


async def memory_over(router: RouterProcess, client: LightClient, count: int) -> str:
    """Return resident memory of the router and its workers, a tenth of the way in and at the end."""
    seen, found = Seen(), []
    for share in (count // 10, count - count // 10):
        for start in range(0, share, 8):
            answers = await asyncio.gather(*(client.send(request(client, start + offset)) for offset in range(8)))
            for answer in answers:
                seen.take(answer)
        found.append([process.memory_info().rss / 1e6 for process in processes_of(router)])
    rows = ", ".join(f"{before:.0f} to {after:.0f}" for before, after in zip(*found, strict=True))
    return (
        f"memory from the {count // 10}th to the {count}th request (router, workers), MB: {rows}; {dict(seen.statuses)}"
    )


async def exchanges(models: list[Path], folder: Path, count: int) -> str:
    """Exchange the versions of a fleet under load, and return what failed."""
    from evodiff.deployment.generation import GenerationRequest
    from evodiff.deployment.observation import Arm
    from evodiff.deployment.release.assignment import arm_of
    from evodiff.deployment.router.fleet import Fleet
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
