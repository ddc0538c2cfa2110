"""One version that takes traffic: a worker that is started again when it dies, and what it may be given."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evodiff.deployment.router.admission import Admission
from evodiff.deployment.router.worker_handle import WorkerHandle
from evodiff.deployment.smoke_report import (
    SMOKE_STEPS,
    Gallery,
    LoadingFailed,
    SmokeReport,
    SmokeTestFailure,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evodiff.deployment.settings import ServingSettings
    from evodiff.deployment.worker.frames import Frame

SMOKE_IMAGES = 128
_CHECK_SECONDS = 1.0


@dataclass(frozen=True)
class Fetched:
    """A model that lies ready to be loaded: its entry and name, where it is, and what its run has on record."""

    entry: Mapping[str, Any]
    version: str
    folder: Path
    digest: str | None = None
    run_folder: str | None = None
    recorded: tuple[float, float] | None = None


class ServedVersion:
    """A version with its worker; :meth:`start` makes one, :meth:`close` ends it.

    ``deaths`` counts those of its worker since it took its role. While the worker is started again, which waits twice
    as long each time it dies soon, ``handle.ready`` is false.
    """

    def __init__(self, model: Fetched, handle: WorkerHandle, settings: ServingSettings) -> None:
        self.entry, self.version, self.run_folder = model.entry, model.version, model.run_folder
        self.deaths = 0
        self.handle = handle
        self._folder = model.folder
        self._settings = settings
        self._supervision: asyncio.Task[None] | None = None
        self._backoff = settings.backoff_seconds

    @classmethod
    async def start(cls, model: Fetched, settings: ServingSettings, *, niceness: int) -> ServedVersion:
        """Start a worker that loads a model and tests it.

        Raises:
            SmokeTestFailure: it is refused, or fails.
            LoadingFailed: it takes too long.
        """
        started = time.monotonic()
        handle = await WorkerHandle.start()
        version = cls(model, handle, settings)
        try:
            frame = await handle.load(version._request(niceness, model.digest, SMOKE_IMAGES), settings.load_seconds)
        except BaseException:
            handle.kill()
            await handle.close()
            raise
        version.report = _report(model, frame, time.monotonic() - started)
        height, width, channels = version.report.image_shape
        pixels = np.frombuffer(frame.body, np.uint8).reshape(-1, height, width, channels)
        version.gallery = Gallery(pixels, version.report.classes)
        batch_work = settings.max_batch * SMOKE_STEPS
        version.admission = Admission(
            max_images=settings.max_queue,
            client_share=settings.client_share,
            work_per_second=batch_work / max(version.report.batch_seconds, 1e-6),
        )
        version._supervision = asyncio.create_task(version._supervise())
        return version

    report: SmokeReport
    gallery: Gallery
    admission: Admission

    @property
    def ready(self) -> bool:
        """Whether its worker takes requests now."""
        return self.handle.ready

    async def drain(self, seconds: float) -> None:
        """Wait until its worker holds no request, at most so long."""
        deadline = time.monotonic() + seconds
        while self.handle.holds and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """End the worker and remove the copy of the model."""
        if self._supervision is not None:
            self._supervision.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervision
        await self.handle.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _supervise(self) -> None:
        while True:
            since = time.monotonic()
            await self._end_of_worker()
            self.deaths += 1
            await self.handle.close()
            if time.monotonic() - since > self._settings.max_backoff_seconds:
                self._backoff = self._settings.backoff_seconds
            while not await self._restarted():
                self.deaths += 1

    async def _end_of_worker(self) -> None:
        while not self.handle.died.is_set():
            with contextlib.suppress(TimeoutError):
                # Not asyncio.wait_for, which on Python 3.11 swallows a cancellation that comes with the event.
                async with asyncio.timeout(_CHECK_SECONDS):
                    await self.handle.died.wait()
            if self.handle.holds and time.monotonic() - self.handle.heard_at > self._settings.hang_seconds:
                self.handle.kill()

    async def _restarted(self) -> bool:
        await asyncio.sleep(self._backoff)
        self._backoff = min(2 * self._backoff, self._settings.max_backoff_seconds)
        try:
            handle = await WorkerHandle.start()
        except OSError:  # no memory or no file left: later there may be
            return False
        try:
            request = self._request(self._settings.loading_niceness, self.report.digest, self._settings.max_batch)
            await handle.load(request, self._settings.load_seconds)
        except (SmokeTestFailure, LoadingFailed):
            handle.kill()
            await handle.close()
            return False
        except asyncio.CancelledError:
            handle.kill()
            await handle.close()
            raise
        self.handle = handle
        return True

    def _request(self, niceness: int, digest: str | None, images: int) -> dict[str, Any]:
        settings = self._settings
        return {
            "folder": str(self._folder),
            "digest": digest,
            "niceness": niceness,
            "max_batch": settings.max_batch,
            "max_model_bytes": settings.max_model_bytes,
            "max_memory_mb": settings.max_memory_mb,
            "smoke_images": images,
        }


def _report(model: Fetched, frame: Frame, seconds: float) -> SmokeReport:
    header = frame.header
    height, width, channels = header["image_shape"]
    return SmokeReport(
        version=model.version,
        experiment=model.entry.get("experiment"),
        digest=header["digest"],
        image_shape=(height, width, channels),
        classes=header["classes"],
        parameters=header["parameters"],
        images=header["images"],
        peak_rss_bytes=header["peak_rss_bytes"],
        batch_seconds=header["batch_seconds"],
        seconds=seconds,
    )
