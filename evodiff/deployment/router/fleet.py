"""The versions that take traffic, one an arm: loading, exchanging, and giving each request to one of them."""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from typing import TYPE_CHECKING, Any

from evodiff.deployment.generation import Generated, GenerationRequest, NotServing, Routing
from evodiff.deployment.observation import Arm, Outcome, RequestObservation, WorkerObservation
from evodiff.deployment.router.admission import QueueFull
from evodiff.deployment.router.attempt import Attempt, late
from evodiff.deployment.router.model_cache import ModelCache
from evodiff.deployment.router.smoke_test import SmokeTest
from evodiff.deployment.router.worker_handle import WorkerDied
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from evodiff.deployment.router.served_version import ServedVersion
    from evodiff.deployment.settings import ServingSettings
    from evodiff.deployment.smoke_report import SmokeReport

    Assign = Callable[[str, str, float], Arm]  # (rollout id, client key, weight in [0, 1])


class Fleet:
    """At most one version an arm, and the division of clients between them.

    A request stays with the version that it was given to, whatever is loaded, exchanged or unloaded meanwhile.

    Attributes:
        observers: called with each request that has ended, in the event loop; they must be quick.
        answered: called with each version and what it answered to which request, likewise.
        passed: called with each version that has passed its smoke test, in a thread, before it takes traffic.
    """

    def __init__(
        self,
        settings: ServingSettings,
        assign: Assign,
        *,
        runs_dir: Path,
        tracking_uri: str | None = None,
    ) -> None:
        self.settings = settings
        self.observers: list[Callable[[RequestObservation], None]] = []
        self.answered: list[Callable[[ServedVersion, GenerationRequest, Generated], None]] = []
        self.passed: list[Callable[[ServedVersion], None]] = []
        self.routing = Routing()
        self._assign = assign
        self._smoke_test = SmokeTest(settings, runs_dir=runs_dir, tracking_uri=tracking_uri)
        self._cache = ModelCache(settings.cache_dir.expanduser())
        self._arms: dict[Arm, ServedVersion] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()

    async def load(self, entry: Mapping[str, Any], arm: Arm) -> SmokeReport:
        """Fetch, load and test a version beside what serves, then give it the arm.

        What had the arm finishes its requests and ends.

        Raises:
            SmokeTestFailure: it did not pass; the arm is as it was.
            LoadingFailed: it could not be fetched or tested, which is no fault of its own.
        """
        async with self._changing:
            niceness = self.settings.loading_niceness if self._arms else 0
            folder = self._cache.new_folder()
            try:
                version = await self._smoke_test.tested(entry, folder, niceness)
                await self._say_passed(version)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self._retire(self._arms.get(arm))
            self._arms[arm] = version
            return version.report

    async def _say_passed(self, version: ServedVersion) -> None:
        """Tell of a version that passed; end it where that is broken off."""
        try:
            for tell in self.passed:
                await asyncio.to_thread(tell, version)
        except BaseException:
            await version.close()
            raise

    async def swap(self) -> None:
        """Exchange the roles of the two arms, one of which may be empty, without loading anything.

        The weight is 0 from then on, and deaths are counted anew.
        """
        exchanged = {Arm.STABLE: self._arms.get(Arm.CANARY), Arm.CANARY: self._arms.get(Arm.STABLE)}
        self._arms = {arm: version for arm, version in exchanged.items() if version is not None}
        self.routing = Routing()
        for version in self._arms.values():
            version.deaths = 0

    async def unload(self, arm: Arm) -> None:
        """Take an arm's version out of traffic, let it finish its requests, and end it."""
        version = self._arms.pop(arm, None)
        if version is not None:
            await self._end(version)

    def route(self, rollout_id: str, weight: float) -> None:
        """Divide clients: the canary's share is ``weight`` in [0, 1], those of a rollout always the same ones.

        Raises:
            ValueError: the weight is no share.
        """
        if not 0 <= weight <= 1:
            raise ValueError(f"weight: expected 0 to 1, found {weight}")
        self.routing = Routing(rollout_id, weight)

    def workers(self) -> list[WorkerObservation]:
        """Say how the worker of each arm is."""
        now = time.time()
        return [
            WorkerObservation(
                arm=arm,
                version=version.version,
                at=now,
                alive=version.ready,
                rss_bytes=version.handle.rss_bytes(),
                deaths=version.deaths,
                in_flight_seconds=version.handle.in_flight_seconds(),
                in_flight_judged_seconds=version.handle.in_flight_seconds(judged=True),
            )
            for arm, version in self._arms.items()
        ]

    def version(self, arm: Arm) -> ServedVersion | None:
        """Return what has an arm."""
        return self._arms.get(arm)

    def pixels(self) -> int:
        """Return the pixels of one image, of the larger where versions differ; 0 without a version."""
        return max((math.prod(version.report.image_shape[:2]) for version in self._arms.values()), default=0)

    @property
    def ready(self) -> bool:
        """Whether the stable arm answers."""
        stable = self._arms.get(Arm.STABLE)
        return stable is not None and stable.ready

    def choose(self, client_key: str) -> Arm:
        """Return the arm of a client: the canary's where the rollout says so and there is one."""
        routing = self.routing
        if routing.weight == 0 or Arm.CANARY not in self._arms:
            return Arm.STABLE
        return self._assign(routing.rollout, client_key, routing.weight)

    async def generate(self, request: GenerationRequest, client: str) -> Generated:
        """Answer a request of a client, whose key decides its arm; cancelling this call takes the request back.

        A request whose worker dies is given once to the other arm's, if there is time.

        Raises:
            NotServing: there is no worker to give it to.
            QueueFull: it would wait too long, or the client has its share of the queue.
            RequestRefused: the version does not know the label, or no guidance.
            DeadlineExceeded: its time ran out.
            GenerationFailed: the version failed, for instance by images that are not finite.
        """
        deadline = time.monotonic() + request.seconds
        routing, died = self.routing, False
        own = self.choose(client)
        for chosen in self._order(own):
            version = self._arms.get(chosen)
            if version is None or not version.ready:
                continue
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                break
            attempt = Attempt(
                version, chosen, routing, client, request, seconds=seconds, tell=self.observe, own=chosen is own
            )
            try:
                answer = await attempt.run()
            except WorkerDied:
                died = True
                attempt.observe(Outcome.FAILED)
            except QueueFull:
                if not died:
                    raise
                break  # it was taken in once: that it has no place now is not its client's doing
            else:
                for hear in self.answered:
                    hear(version, request, answer)
                return answer
        if deadline <= time.monotonic():
            raise late(request)
        raise NotServing("No version can answer now.", remedy="Try again in a moment.")

    async def probe(self, rollout: str, requests: int) -> None:
        """Give the canary small requests, one after another, as if of a rollout; observers see how each ended."""
        for number in range(requests):
            version = self._arms.get(Arm.CANARY)
            if version is None or not version.ready:
                return
            request = GenerationRequest(seed=number, seconds=self.settings.deadline_seconds)
            routing = Routing(rollout, self.routing.weight)
            client, seconds = f"probe-{number}", request.seconds
            attempt = Attempt(version, Arm.CANARY, routing, client, request, seconds=seconds, tell=self.observe)
            try:
                await attempt.run()
            except WorkerDied:
                attempt.observe(Outcome.FAILED)
            except EvodiffError:
                pass  # told to the observers

    async def close(self) -> None:
        """End all workers, after what they hold."""
        versions = list(self._arms.values())
        self._arms = {}
        await asyncio.gather(*(self._end(version) for version in versions), *self._leaving)
        self._cache.close()

    def observe(self, observation: RequestObservation) -> None:
        """Tell the observers of a request that has ended."""
        for observer in self.observers:
            observer(observation)

    def _order(self, arm: Arm) -> tuple[Arm, Arm]:
        return (arm, Arm.STABLE if arm is Arm.CANARY else Arm.CANARY)

    def _retire(self, version: ServedVersion | None) -> None:
        if version is not None:
            task = asyncio.create_task(self._end(version))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _end(self, version: ServedVersion) -> None:
        await version.drain(self.settings.max_deadline_seconds)
        await version.close()
