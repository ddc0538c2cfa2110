"""A fleet of real workers: versions come and go, workers die, and requests are answered all the same."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from served_models import write_blank_model, write_model

from evodiff.deployment.generation import DeadlineExceeded, GenerationRequest, NotServing, RequestRefused
from evodiff.deployment.observation import Arm, Outcome, RequestObservation
from evodiff.deployment.release.assignment import arm_of
from evodiff.deployment.router.admission import QueueFull
from evodiff.deployment.router.fleet import Fleet
from evodiff.deployment.settings import ServingSettings
from evodiff.deployment.smoke_report import LoadingFailed, SmokeTestFailure
from evodiff.deployment.worker.process import BOOTSTRAP

pytestmark = pytest.mark.e2e

Story = Callable[[Fleet, list[RequestObservation]], Awaitable[None]]

HANG_SECONDS = 2.5
SMALL = GenerationRequest(steps=2, seconds=120)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models that may serve, and one that may not."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "one", seed=1)
    write_model(folder / "two", seed=2)
    write_blank_model(folder / "blank")
    return folder


def with_fleet(
    folder: Path, story: Callable[[Fleet, list[RequestObservation]], Awaitable[None]], **settings: Any
) -> None:
    """Let a story happen to a fleet, and end it."""

    async def told() -> None:
        chosen = ServingSettings(
            cache_dir=folder / "cache", backoff_seconds=0.1, loading_niceness=1, max_deadline_seconds=200, **settings
        )
        fleet = Fleet(chosen, arm_of, runs_dir=folder)
        seen: list[RequestObservation] = []
        fleet.observers.append(seen.append)
        try:
            await story(fleet, seen)
        finally:
            await fleet.close()
        assert list((folder / "cache").iterdir()) == []

    asyncio.run(told())


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def entry(models: Path, name: str) -> dict[str, str]:
    """Return the entry of a folder."""
    return {"folder": str(models / name)}


def test_versions_come_and_go_while_requests_are_answered(models: Path, tmp_path: Path) -> None:
    async def story(fleet: Fleet, seen: list[RequestObservation]) -> None:
        with pytest.raises(NotServing):
            await fleet.generate(SMALL, "client")
        one = await fleet.load(entry(models, "one"), Arm.STABLE)
        assert (one.image_shape, one.classes, one.kid) == ((8, 8, 1), 10, None)
        assert 50e6 < one.peak_rss_bytes < 5e9

        going, answered = True, []

        async def ask(client: str) -> None:
            while going:
                answered.append(await fleet.generate(SMALL, client))

        clients = [asyncio.create_task(ask(f"client-{number}")) for number in range(4)]
        with pytest.raises(SmokeTestFailure, match="blank"):
            await fleet.load(entry(models, "blank"), Arm.CANARY)
        with pytest.raises(SmokeTestFailure, match="SHA-256"):
            await fleet.load({**entry(models, "two"), "digest": "0" * 64}, Arm.CANARY)
        assert fleet.version(Arm.CANARY) is None

        two = await fleet.load(entry(models, "two"), Arm.CANARY)
        stable_pid, canary_pid = (fleet.version(arm).handle.pid for arm in Arm)
        assert fleet.choose("client-0") is Arm.STABLE  # no weight, no canary
        for pid in (stable_pid, canary_pid):  # as where a whole group of processes is asked to end
            os.kill(pid, signal.SIGTERM)
        fleet.route("rollout", 0.5)
        arms = {client: fleet.choose(client) for client in map(str, range(100))}
        assert set(arms.values()) == set(Arm)
        assert arms == {client: arm_of("rollout", client, 0.5) for client in arms}
        count = len(answered)
        await until(lambda: len(answered) > count + 8)

        for number in range(100):
            await fleet.swap()
            fleet.route(f"rollout-{number}", 0.5)
            await asyncio.sleep(0)
            count = len(answered)
            await until(lambda: len(answered) > count)  # noqa: B023 - awaited at once
        assert {fleet.version(arm).handle.pid for arm in Arm} == {stable_pid, canary_pid}
        assert fleet.version(Arm.STABLE).handle.pid == stable_pid  # an even number of exchanges

        await fleet.unload(Arm.STABLE)
        await fleet.swap()
        assert fleet.routing.weight == 0
        assert fleet.version(Arm.STABLE).version == two.version
        count = len(answered)
        await until(lambda: len(answered) > count + 4)
        going = False
        await asyncio.gather(*clients)
        assert {result.version for result in answered} == {one.version, two.version}
        assert [item for item in seen if item.outcome is not Outcome.OK] == []
        assert len(seen) == len(answered)
        assert not psutil.pid_exists(stable_pid)

    with_fleet(tmp_path, story, client_share=1.0)


@pytest.mark.slow
def test_a_worker_that_computes_for_longer_than_one_may_be_silent_is_not_taken_for_hung(
    models: Path, tmp_path: Path
) -> None:
    async def story(fleet: Fleet, seen: list[RequestObservation]) -> None:
        await fleet.load(entry(models, "one"), Arm.STABLE)
        stable = fleet.version(Arm.STABLE)
        steps, seconds = 150, 0.0
        while seconds < 2 * HANG_SECONDS and steps < 900:  # one request; where steps are quick, one of more steps
            steps, started = min(900, 2 * steps), time.monotonic()
            await fleet.generate(GenerationRequest(count=16, steps=steps, label=1, guidance=3.0, seconds=190), "client")
            seconds = time.monotonic() - started
        assert stable.deaths == 0

    with_fleet(tmp_path, story, hang_seconds=HANG_SECONDS)


def test_a_request_whose_worker_dies_is_answered_by_the_other_once(models: Path, tmp_path: Path) -> None:
    async def story(fleet: Fleet, seen: list[RequestObservation]) -> None:
        await fleet.load(entry(models, "one"), Arm.STABLE)
        await fleet.load(entry(models, "two"), Arm.CANARY)
        stable, canary = (fleet.version(arm) for arm in Arm)
        long = [GenerationRequest(count=32, steps=50, seconds=190, patient=patient) for patient in (False, True)]
        fleet.route("rollout", 0.0)
        held = [asyncio.create_task(fleet.generate(request, "client")) for request in long]
        await until(lambda: stable.handle.holds == 2)
        assert all(0 <= age < 190 for worker in fleet.workers() for age in worker.in_flight_seconds)
        assert [len(worker.in_flight_judged_seconds) for worker in fleet.workers()] == [1, 0]
        stable.handle.kill()
        await until(lambda: canary.handle.holds == 2)
        assert [worker.in_flight_judged_seconds for worker in fleet.workers()] == [(), ()]
        results = await asyncio.gather(*held)
        assert {result.arm for result in results} == {Arm.CANARY}
        assert [item.arm for item in seen if item.outcome is Outcome.FAILED] == [Arm.STABLE] * 2
        assert [item.patient for item in seen].count(True) == 2
        # The other's clients say nothing about a canary, whose own are drawn by their keys.
        assert {(item.arm, item.rollout) for item in seen} == {(Arm.STABLE, "rollout"), (Arm.CANARY, "")}
        assert stable.deaths == 1
        await until(lambda: stable.ready)
        assert (await fleet.generate(SMALL, "client")).arm is Arm.STABLE

        held = [asyncio.create_task(fleet.generate(long[0], "client"))]
        await until(lambda: stable.handle.holds == 1)
        await fleet.unload(Arm.CANARY)
        stable.handle.kill()
        with pytest.raises(NotServing):
            await held[0]
        assert canary.handle.died.is_set()

    with_fleet(tmp_path, story, max_batch=4)


@pytest.mark.slow
def test_what_is_asked_in_vain_is_refused_and_takes_no_place(models: Path, tmp_path: Path) -> None:
    async def story(fleet: Fleet, seen: list[RequestObservation]) -> None:
        await fleet.load(entry(models, "one"), Arm.STABLE)
        version = fleet.version(Arm.STABLE)
        for request in (GenerationRequest(label=10), GenerationRequest(label=-1)):
            with pytest.raises(RequestRefused, match="0 to 9"):
                await fleet.generate(request, "client")
        long = GenerationRequest(count=16, steps=100, seconds=150)
        holding = asyncio.create_task(fleet.generate(long, "a"))
        await until(lambda: version.handle.holds == 1)
        with pytest.raises(QueueFull, match="One client"):
            await fleet.generate(GenerationRequest(count=16, seconds=150), "a")
        with pytest.raises(QueueFull, match="queue is full"):
            await fleet.generate(GenerationRequest(count=20, seconds=150), "b")
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding
        assert (version.admission.images, version.handle.holds) == (0, 0)
        for impatient, speed in ((True, 1e9), (False, 1.0), (False, 1e9)):  # haste; too much; a version grown slow
            version.admission._first_speed = speed
            with pytest.raises(DeadlineExceeded):
                await fleet.generate(GenerationRequest(count=16, steps=100, seconds=0.01, impatient=impatient), "a")
        assert version.admission.images == 0
        outcomes = [item.outcome for item in seen]
        assert outcomes == [Outcome.REFUSED] * 5 + [Outcome.FAILED]
        assert BOOTSTRAP in psutil.Process(version.handle.pid).cmdline()  # by which others find workers
        own = os.getpriority(os.PRIO_PROCESS, 0)
        if sys.platform == "linux":  # what computes is nicer than the router, and what reads its requests is not
            assert set(niceness(version.handle.pid)) == {own, nicer(own, 5)}

    with_fleet(tmp_path, story, max_queue=32)


@pytest.mark.slow
def test_a_load_is_of_low_priority_and_the_computing_thread_is_not(models: Path, tmp_path: Path) -> None:
    async def story(fleet: Fleet, seen: list[RequestObservation]) -> None:
        await fleet.load(entry(models, "one"), Arm.STABLE)
        loading = asyncio.create_task(fleet.load(entry(models, "two"), Arm.CANARY))
        highest = 0
        while not loading.done():
            for child in psutil.Process().children():
                highest = max([highest, *niceness(child.pid)])
            await asyncio.sleep(0.02)
        await loading
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert highest == nicer(own, 6)  # of which 5 are of anything that computes
        await until(lambda: set(niceness(fleet.version(Arm.CANARY).handle.pid)) == {own, nicer(own, 5)})

    with_fleet(tmp_path, story)


def nicer(own: int, by: int) -> int:
    """Return a niceness that is higher than our own, by so much or as far as it goes."""
    return min(19, own + by)


def niceness(pid: int) -> list[int]:
    """Return the niceness of each thread of a process, none where it is gone."""
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            found.append(os.getpriority(os.PRIO_PROCESS, int(thread.name)))
        except OSError:
            continue
    return found


def test_what_is_not_there_is_no_fault_of_a_version(tmp_path: Path) -> None:
    async def story(fleet: Fleet, seen: list[RequestObservation]) -> None:
        with pytest.raises(LoadingFailed, match="no run in"):
            await fleet.load({"run": "nothing", "candidate": "0123456789abcdef"}, Arm.STABLE)
        with pytest.raises(LoadingFailed, match="Expected a name as run"):
            await fleet.load({"run": "../nothing", "candidate": "0123456789abcdef"}, Arm.STABLE)
        assert json.dumps([worker.arm for worker in fleet.workers()]) == "[]"

    with_fleet(tmp_path, story)
