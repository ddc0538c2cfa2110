"""A request that is given to one version."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any

from evodiff.deployment.generation import (
    DeadlineExceeded,
    Generated,
    GenerationFailed,
    GenerationRequest,
    RequestRefused,
    Routing,
)
from evodiff.deployment.observation import Arm, Outcome, RequestObservation
from evodiff.deployment.router.admission import QueueFull

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evodiff.deployment.router.served_version import ServedVersion
    from evodiff.deployment.smoke_report import SmokeReport


class Attempt:
    """One request at one version, and the observation of how it ended.

    One that is not the version's ``own`` came because the worker of its arm did not answer. It is of no rollout, where
    the arm of a client is that of its key, and how long it waits is nobody's doing here.
    """

    def __init__(
        self,
        version: ServedVersion,
        arm: Arm,
        routing: Routing,
        client: str,
        request: GenerationRequest,
        *,
        seconds: float,
        tell: Callable[[RequestObservation], None],
        own: bool = True,
    ) -> None:
        self._version, self._arm, self._routing = version, arm, routing if own else Routing()
        self._judged = own and not request.patient
        self._client, self._request, self._seconds = client, request, seconds
        self._tell = tell
        self._started = time.monotonic()
        self.id = secrets.token_hex(16)

    async def run(self) -> Generated:
        _check(self._version.report, self._request)
        admission, request = self._version.admission, self._request
        try:
            expected = admission.enter(self._client, request.count, request.work, self._seconds)
        except QueueFull:
            self.observe(Outcome.REFUSED)
            raise
        try:
            async with asyncio.timeout(self._seconds):
                frame = await self._version.handle.generate(self.id, self._header(), judged=self._judged)
            admission.learn_wait(expected, time.monotonic() - self._started)
        except TimeoutError as error:
            admission.learn_wait(expected, time.monotonic() - self._started)
            self.observe(self._lateness)
            raise late(self._request) from error
        except asyncio.CancelledError:
            self.observe(Outcome.REFUSED)
            raise
        finally:
            admission.leave(self._client, request.count, request.work)
        return self._answer(frame.header, frame.body)

    def observe(self, outcome: Outcome, header: Mapping[str, Any] | None = None) -> None:
        """Tell the observers how it ended."""
        header = header or {}
        self._tell(
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
                patient=self._request.patient,
            )
        )

    @property
    def _lateness(self) -> Outcome:
        hopeless = self._version.admission.hopeless(self._request.work, self._seconds)
        return Outcome.REFUSED if self._request.impatient or hopeless else Outcome.FAILED

    def _header(self) -> dict[str, Any]:
        names = ("count", "seed", "steps", "label", "guidance", "png")
        return {**{name: getattr(self._request, name) for name in names}, "seconds": self._seconds}

    def _answer(self, header: Mapping[str, Any], body: bytes) -> Generated:
        status = header["status"]
        if status == "expired":
            self.observe(self._lateness)
            raise late(self._request)
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


def late(request: GenerationRequest) -> DeadlineExceeded:
    """Return the error of a request whose time has run out."""
    return DeadlineExceeded(
        f"No answer in {max(request.seconds, request.allowed_seconds):g} s.",
        remedy="Ask for less at once, or give a longer deadline.",
    )
