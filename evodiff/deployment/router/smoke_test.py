"""The smoke test of a version: it is fetched, loaded by a worker, tried, and its images are judged by their run."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Final

from evodiff.deployment.router.served_version import Fetched, ServedVersion
from evodiff.deployment.router.subprocesses import run_module
from evodiff.deployment.smoke_report import LoadingFailed, SmokeTestFailure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evodiff.deployment.settings import ServingSettings
    from evodiff.deployment.smoke_report import SmokeReport

_KID_ERRORS: Final = 5.0


class SmokeTest:
    """Starts versions; ``runs_dir`` and ``tracking_uri`` are where their models may be."""

    def __init__(self, settings: ServingSettings, *, runs_dir: Path, tracking_uri: str | None) -> None:
        self._settings = settings
        self._runs_dir = runs_dir
        self._tracking_uri = tracking_uri

    async def tested(self, entry: Mapping[str, Any], folder: Path, niceness: int) -> ServedVersion:
        """Copy the model of an entry to the new ``folder``, start a worker of it, and return it if it passes.

        Raises:
            SmokeTestFailure: it did not pass; no process is left of it.
            LoadingFailed: it could not be fetched or tested, which is no fault of its own.
        """
        model = await self._fetch(entry, folder, niceness)
        version = await ServedVersion.start(model, self._settings, niceness=niceness)
        try:
            version.report = await self._judged(version, model, niceness)
        except BaseException:
            await version.close()
            raise
        return version

    async def _fetch(self, entry: Mapping[str, Any], out: Path, niceness: int) -> Fetched:
        found = await run_module(
            "evodiff.deployment.router.fetch",
            {
                "entry": {name: value for name, value in entry.items() if value is not None},
                "out": str(out),
                "runs_dir": str(self._runs_dir),
                "tracking_uri": self._tracking_uri,
                "max_bytes": self._settings.max_model_bytes,
                "niceness": niceness,
            },
            seconds=self._settings.load_seconds,
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
            "evodiff.deployment.router.offline_kid",
            {"run_folder": model.run_folder, "shape": list(images.shape), "niceness": niceness},
            seconds=self._settings.load_seconds,
            given=images.tobytes(),
        )
        if found is None:
            return report
        value, error = found
        report = dataclasses.replace(report, kid=value, kid_standard_error=error)
        if model.recorded is None:
            return report
        recorded, recorded_error = model.recorded
        most = self._settings.max_kid_factor * max(recorded, 0.0) + _KID_ERRORS * math.hypot(error, recorded_error)
        if value > most:
            raise SmokeTestFailure(
                f"Smoke test of {model.version}: expected a KID of at most {most:.3g}, from {recorded:.3g} in the "
                f"search, found {value:.3g}.",
                remedy="Its weights or its sampler are not those that were evaluated: export it again.",
            )
        return dataclasses.replace(report, recorded_kid=recorded)
