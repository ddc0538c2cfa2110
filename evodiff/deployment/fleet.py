"""The versions that take traffic, one an arm: loading, exchanging, and giving each request to one of them."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import secrets
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from evodiff.deployment.admission import QueueFull
from evodiff.deployment.model_cache import ModelCache
from evodiff.deployment.observation import Arm, Outcome, RequestObservation, WorkerObservation
from evodiff.deployment.served_version import Fetched, ServedVersion
from evodiff.deployment.smoke_report import LoadingFailed, SmokeTestFailure
from evodiff.deployment.subprocesses import run_module
from evodiff.deployment.worker_handle import WorkerDied
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from evodiff.deployment.settings import ServingSettings
    from evodiff.deployment.smoke_report import SmokeReport

    Assign = Callable[[str, str, float], Arm]  # (rollout id, client key, weight in [0, 1])

_KID_ERRORS: Final = 5.0


class NotServing(EvodiffError):  # noqa: N818 - a state of the world, not a fault of the call
    """No version can answer now."""


class DeadlineExceeded(EvodiffError):  # noqa: N818 - the fact
    """A request was not answered in time."""


class GenerationFailed(EvodiffError):  # noqa: N818 - the fact
    """The version that a request was given to could not answer it."""


class RequestRefused(EvodiffError, ValueError):  # noqa: N818 - the fact
    """A request asks for what the version cannot do."""


@dataclass(frozen=True)
class GenerationRequest:
    """What a client asks for; ``png`` is one sheet, else one PNG an image. ``seconds`` are left to answer, and
    ``impatient`` says that the client chose fewer than are usual."""

    count: int = 1
    seed: int = 0
    steps: int = 20
    label: int | None = None
    guidance: float = 1.0
    png: bool = True
    seconds: float = 30.0
    impatient: bool = False

    @property
    def work(self) -> float:
        """Forward passes of one image."""
        return float(self.count * self.steps * (1 if self.guidance == 1 else 2))


@dataclass(frozen=True)
class Generated:
    """What came back: who answered and under what rollout, the PNGs, and the worker's own seconds."""

    request: str
    arm: Arm
    version: str
    rollout: str
    parts: tuple[bytes, ...]
    blank: bool
    queue_seconds: float
    compute_seconds: float
    encode_seconds: float


@dataclass(frozen=True)
class Routing:
    """The rollout whose clients are divided, and the canary's share of them."""

    rollout: str = ""
    weight: float = 0.0


class Fleet:
    """At most one version an arm, and the division of clients between them.

    A request stays with the version that it was given to, whatever is loaded, exchanged or unloaded meanwhile.

    Attributes:
        observers: called with each request that has ended, in the event loop; they must be quick.
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
        self.routing = Routing()
        self._assign = assign
        self._runs_dir = runs_dir
        self._tracking_uri = tracking_uri
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
                version = await self._tested(entry, folder, niceness)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self._retire(self._arms.get(arm))
            self._arms[arm] = version
            return version.report

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
        routing, arm = self.routing, self.choose(client)
        for chosen in self._order(arm):
            version = self._arms.get(chosen)
            if version is None or not version.ready:
                continue
            left = dataclasses.replace(request, seconds=deadline - time.monotonic())
            if left.seconds <= 0:
                break
            attempt = _Attempt(self, version, chosen, routing, client, request, left)
            try:
                return await attempt.run()
            except WorkerDied:
                attempt.observe(Outcome.FAILED)
        if deadline <= time.monotonic():
            raise _late(request)
        raise NotServing("No version can answer now.", remedy="Try again in a moment.")

    async def probe(self, rollout: str, requests: int) -> None:
        """Give the canary small requests, one after another, as if of a rollout; observers see how each ended."""
        for number in range(requests):
            version = self._arms.get(Arm.CANARY)
            if version is None or not version.ready:
                return
            request = GenerationRequest(seed=number, seconds=self.settings.deadline_seconds)
            routing = Routing(rollout, self.routing.weight)
            attempt = _Attempt(self, version, Arm.CANARY, routing, f"probe-{number}", request, request)
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

    async def _tested(self, entry: Mapping[str, Any], folder: Path, niceness: int) -> ServedVersion:
        model = await self._fetch(entry, folder, niceness)
        version = await ServedVersion.start(model, self.settings, niceness=niceness)
        try:
            version.report = await self._judged(version, model, niceness)
        except BaseException:
            await version.close()
            raise
        return version

    async def _fetch(self, entry: Mapping[str, Any], out: Path, niceness: int) -> Fetched:
        found = await run_module(
            "evodiff.deployment.fetch",
            {
                "entry": {name: value for name, value in entry.items() if value is not None},
                "out": str(out),
                "runs_dir": str(self._runs_dir),
                "tracking_uri": self._tracking_uri,
                "max_bytes": self.settings.max_model_bytes,
                "niceness": niceness,
            },
            seconds=self.settings.load_seconds,
        )
        if "headline" in found:
            kind = SmokeTestFailure if found["refused"] else LoadingFailed
            raise kind(found["headline"], remedy=found["remedy"])
        resolved = found["entry"]
        recorded = found.get("recorded")
        return Fetched(
            entry=resolved,
            version=f"{resolved['run']}/{resolved['candidate']}",
            folder=out,
            digest=entry.get("digest"),
            run_folder=found.get("run_folder"),
            recorded=None if recorded is None else (recorded[0], recorded[1]),
        )

    async def _judged(self, version: ServedVersion, model: Fetched, niceness: int) -> SmokeReport:
        """Return the report with the offline KID, where there is what it takes."""
        report = version.report
        if model.run_folder is None:
            return report
        images = version.gallery.images
        found = await run_module(
            "evodiff.deployment.offline_kid",
            {"run_folder": model.run_folder, "shape": list(images.shape), "niceness": niceness},
            seconds=self.settings.load_seconds,
            given=images.tobytes(),
        )
        if found is None:
            return report
        value, error = found
        report = dataclasses.replace(report, kid=value, kid_standard_error=error)
        if model.recorded is None:
            return report
        recorded, recorded_error = model.recorded
        most = self.settings.max_kid_factor * max(recorded, 0.0) + _KID_ERRORS * math.hypot(error, recorded_error)
        if value > most:
            raise SmokeTestFailure(
                f"Smoke test of {model.version}: expected a KID of at most {most:.3g}, from {recorded:.3g} in the "
                f"search, found {value:.3g}.",
                remedy="Its weights or its sampler are not those that were evaluated: export it again.",
            )
        return dataclasses.replace(report, recorded_kid=recorded)


class _Attempt:
    """One request at one version."""

    def __init__(
        self,
        fleet: Fleet,
        version: ServedVersion,
        arm: Arm,
        routing: Routing,
        client: str,
        request: GenerationRequest,
        left: GenerationRequest,
    ) -> None:
        self._fleet, self._version, self._arm, self._routing = fleet, version, arm, routing
        self._client, self._request, self._left = client, request, left
        self._started = time.monotonic()
        self.id = secrets.token_hex(16)

    async def run(self) -> Generated:
        _check(self._version.report, self._request)
        admission, request = self._version.admission, self._left
        try:
            admission.enter(self._client, request.count, request.work, request.seconds)
        except QueueFull:
            self.observe(Outcome.REFUSED)
            raise
        try:
            async with asyncio.timeout(request.seconds):
                frame = await self._version.handle.generate(self.id, self._header())
        except TimeoutError as error:
            self.observe(self._lateness)
            raise _late(self._request) from error
        except asyncio.CancelledError:
            self.observe(Outcome.REFUSED)
            raise
        finally:
            admission.leave(self._client, request.count, request.work)
        return self._answer(frame.header, frame.body)

    def observe(self, outcome: Outcome, header: Mapping[str, Any] | None = None) -> None:
        """Tell the observers how it ended."""
        header = header or {}
        self._fleet.observe(
            RequestObservation(
                request=self.id,
                arm=self._arm,
                version=self._version.version,
                client=self._client,
                at=time.time(),
                outcome=outcome,
                compute_seconds=header.get("batch_seconds", 0.0),
                total_seconds=time.monotonic() - self._started,
                batch=header.get("batch", 1),
                steps=self._request.steps,
                guided=self._request.guidance != 1,
                rollout=self._routing.rollout,
                weight=self._routing.weight,
            )
        )

    @property
    def _lateness(self) -> Outcome:
        return Outcome.REFUSED if self._request.impatient else Outcome.FAILED

    def _header(self) -> dict[str, Any]:
        names = ("count", "seed", "steps", "label", "guidance", "png", "seconds")
        return {name: getattr(self._left, name) for name in names}

    def _answer(self, header: Mapping[str, Any], body: bytes) -> Generated:
        status = header["status"]
        if status == "expired":
            self.observe(self._lateness)
            raise _late(self._request)
        if status in ("failed", "not_finite"):
            self.observe(Outcome.FAILED if status == "failed" else Outcome.NOT_FINITE, header)
            why = header.get("detail", "an image is not finite")
            raise GenerationFailed(f"{self._version.version} failed: {why}.", remedy="Try another seed, or later.")
        self.observe(Outcome.BLANK if status == "blank" else Outcome.OK, header)
        images = header["batch"] * self._request.work / self._request.count
        self._version.admission.learn(images, header["batch_seconds"])
        parts, start = [], 0
        for size in header["sizes"]:
            parts.append(body[start : start + size])
            start += size
        return Generated(
            request=self.id,
            arm=self._arm,
            version=self._version.version,
            rollout=self._routing.rollout,
            parts=tuple(parts),
            blank=status == "blank",
            queue_seconds=header["queue_seconds"],
            compute_seconds=header["compute_seconds"],
            encode_seconds=header["encode_seconds"],
        )


def _check(report: SmokeReport, request: GenerationRequest) -> None:
    if request.label is not None and not 0 <= request.label < report.classes:
        known = f"0 to {report.classes - 1}" if report.classes else "none: this model knows no classes"
        raise RequestRefused(f"label: expected {known}, found {request.label}.", remedy="Ask for another label.")
    if request.guidance != 1 and not report.classes:
        raise RequestRefused(
            f"guidance: expected 1 from a model without classes, found {request.guidance}.", remedy="Leave it out."
        )


def _late(request: GenerationRequest) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"No answer in {request.seconds:g} s.", remedy="Ask for less at once, or give a longer deadline."
    )
