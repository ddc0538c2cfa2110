"""Online KID: how far what each version serves is from the validation images of its run, found out beside the serving.

1. Of the answers in one setting, the service's own default steps without guidance, images are sampled: KID depends on
   both, so that a client that asks for two steps would pass for a version that got worse.
2. Every so often a process of low priority takes the sample's features and compares them, as at the smoke test.
3. A sample grows until it is full. It is then judged, and begins afresh: a value is of what was served lately.

It advises, and decides nothing. What goes wrong is logged once, and serving goes on.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from evodiff.deployment.analysis.quality_advice import QualityObservation
from evodiff.deployment.generation import GenerationRequest
from evodiff.deployment.observation import Arm
from evodiff.deployment.router.image_sample import ImageSample
from evodiff.deployment.router.subprocesses import run_module
from evodiff.deployment.worker.sheets import decode_images, label_of
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from evodiff.deployment.generation import Generated
    from evodiff.deployment.router.fleet import Fleet
    from evodiff.deployment.router.served_version import ServedVersion
    from evodiff.deployment.settings import ServingSettings

LEAST_JUDGED: Final = 64  # images; fewer say nothing that is worth a process
WAITING_BYTES: Final = 16 * 2**20  # of answers that wait to be sampled; what comes beyond is passed over
SAMPLE_BYTES: Final = 64 * 2**20  # of a version's sample

_TICK_SECONDS = 1.0
_NICENESS = 19
_NO_REFERENCE = "no reference: the feature net and the validation images of its run are not at hand"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Judged:
    kid: float
    standard_error: float
    images: int
    at: float


@dataclass
class _Watched:
    sample: ImageSample
    judged: _Judged | None = None
    trouble: str | None = None


class OnlineKid:
    """Samples what a fleet serves and has it judged, version by version; :meth:`run` goes on until it is cancelled.

    A version keeps its sample when the arms are swapped, and one that takes another's place begins afresh. Memory is
    bounded by :data:`WAITING_BYTES` and, for each version, :data:`SAMPLE_BYTES`.

    Attributes:
        told: called every second, and at once when there is news, with what is known of the arms; an arm without a
            value is not there.
    """

    def __init__(self, fleet: Fleet, settings: ServingSettings) -> None:
        self.told: list[Callable[[Mapping[Arm, QualityObservation]], None]] = []
        self._fleet, self._settings = fleet, settings
        self._key = secrets.token_bytes(16)
        self._usual = GenerationRequest()
        self._watched: dict[ServedVersion, _Watched] = {}
        self._waiting: list[tuple[ServedVersion, GenerationRequest, Generated]] = []
        self._waiting_bytes = 0
        self._sampling = asyncio.Lock()
        self._trouble: str | None = None
        if settings.kid_seconds:
            fleet.answered.append(self.hear)

    def hear(self, version: ServedVersion, request: GenerationRequest, answer: Generated) -> None:
        """Take in an answer; it is looked at later, in a thread."""
        usual = request.steps == self._usual.steps and request.guidance == self._usual.guidance
        if usual and version.report.kid is not None and self._waiting_bytes < WAITING_BYTES:
            self._waiting.append((version, request, answer))
            self._waiting_bytes += sum(map(len, answer.parts))

    async def run(self) -> None:
        """Sample and tell every second, judge every ``kid_seconds``."""
        if self._settings.kid_seconds:
            async with asyncio.TaskGroup() as going:
                going.create_task(self._again(self.sample, _TICK_SECONDS))
                going.create_task(self._again(self.judge, self._settings.kid_seconds))

    async def _again(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except Exception as error:  # whatever goes wrong here, images are served all the same
                self._trouble = _logged(error, self._trouble)

    async def sample(self) -> None:
        """Sample the answers that wait, and tell what is known."""
        async with self._sampling:
            versions = [
                version for arm in Arm if (version := self._fleet.version(arm)) and version.report.kid is not None
            ]
            self._watched = {version: self._watched.get(version) or self._fresh(version) for version in versions}
            waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
            await asyncio.to_thread(self._take, waiting)
        self._tell()

    async def judge(self) -> None:
        """Have every sample judged that has grown enough since it was judged last."""
        for version, watched in list(self._watched.items()):
            before = watched.judged
            least = LEAST_JUDGED if before is None else before.images + 1
            if watched.sample.full or len(watched.sample) >= least:
                try:
                    await self._judge(version, watched)
                except Exception as error:  # the other version is judged all the same
                    watched.trouble = _logged(error, watched.trouble)
                self._tell()

    async def _judge(self, version: ServedVersion, watched: _Watched) -> None:
        full = watched.sample.full
        async with self._sampling:
            images = await asyncio.to_thread(watched.sample.balanced)
        watched.judged = await self._judged(version, images)
        watched.trouble = None
        if full:
            watched.sample = self._fresh(version).sample

    def view(self) -> dict[str, Any]:
        """Return for people what is known, and of how many images; ``off`` says why there is nothing."""
        if not self._settings.kid_seconds:
            return {"off": "EVODIFF_SERVE_KID_SECONDS is 0"}
        arms = {str(arm): self._seen(version) for arm in Arm if (version := self._fleet.version(arm)) is not None}
        return {"steps": self._usual.steps, "arms": arms, "trouble": self._trouble}

    def _seen(self, version: ServedVersion) -> dict[str, Any]:
        if version.report.kid is None:
            return {"off": _NO_REFERENCE}
        watched = self._watched.get(version) or self._fresh(version)
        judged = {} if watched.judged is None else vars(watched.judged)
        known = {**judged, "sampled": len(watched.sample), "missing_labels": watched.sample.missing}
        return known if watched.trouble is None else {**known, "trouble": watched.trouble}

    def _tell(self) -> None:
        found = self._observations()
        for tell in self.told:
            tell(found)

    def _observations(self) -> dict[Arm, QualityObservation]:
        found = {}
        for arm in Arm:
            version = self._fleet.version(arm)
            watched = None if version is None else self._watched.get(version)
            if version is not None and watched is not None and watched.judged is not None:
                rollout, judged = self._fleet.routing.rollout, watched.judged
                found[arm] = QualityObservation(arm, version.version, rollout=rollout, **vars(judged))
        return found

    def _fresh(self, version: ServedVersion) -> _Watched:
        height, width, channels = version.report.image_shape
        images = min(self._settings.kid_images, SAMPLE_BYTES // (height * width * channels))
        classes = max(version.report.classes, 1)
        return _Watched(ImageSample(classes, -(-images // classes), self._key))

    def _take(self, waiting: list[tuple[ServedVersion, GenerationRequest, Generated]]) -> None:
        for version, request, answer in waiting:
            watched = self._watched.get(version)
            if watched is None:
                continue
            report, images = version.report, None
            for index in range(request.count):
                seed = request.seed + index
                label = label_of(request.label, seed, report.classes)
                if watched.sample.wants(seed, label):
                    images = (
                        decode_images(answer.parts, request.count, report.image_shape) if images is None else images
                    )
                    watched.sample.add(seed, label, images[index].copy())

    async def _judged(self, version: ServedVersion, images: NDArray[np.uint8]) -> _Judged:
        """Return the KID of images.

        Raises:
            EvodiffError: the process failed, or found no reference.
        """
        at = time.time()
        found = await run_module(
            "evodiff.deployment.router.offline_kid",
            {"run_folder": version.run_folder, "shape": list(images.shape), "niceness": _NICENESS},
            seconds=self._settings.load_seconds,
            given=await asyncio.to_thread(images.tobytes),
        )
        if found is None:
            raise EvodiffError(f"{version.version} has {_NO_REFERENCE} any more.", remedy="Bring the run back.")
        return _Judged(found[0], found[1], len(images), at)


def _logged(error: Exception, before: str | None) -> str:
    """Log an error unless it is the one before; return what it says."""
    if str(error) != before:
        _LOG.error("Online KID is not known now", exc_info=error)
    return str(error)
