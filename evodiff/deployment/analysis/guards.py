"""Hard guards of a canary: limits that roll it back at once, each with the evidence that it needs."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from evodiff.deployment.observation import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evodiff.deployment.analysis.options import GuardLimits
    from evodiff.deployment.observation import RequestObservation, WorkerObservation

FAILURES: Final = frozenset({Outcome.FAILED, Outcome.NOT_FINITE, Outcome.BLANK})
"""Outcomes that count against a version; what a client causes (``REFUSED``) is not among them."""

LEAST_ERRORS: Final = 3
LEAST_REQUESTS: Final = 100
ERROR_WINDOW: Final = 1000
FAILURES_IN_A_ROW: Final = 3
SLOW_WINDOW: Final = 100
LEAST_SLOW: Final = 8
LEAST_BLANK: Final = 2


@dataclass(frozen=True)
class TrippedGuard:
    """A guard that has tripped, with what it saw: plain numbers and ids."""

    name: str
    evidence: Mapping[str, Any]


@dataclass
class Guards:
    """The guards over one version's requests and its worker; the caller passes nothing else.

    1. ``errors``: more than ``error_ratio`` of the last 1,000 requests failed, from 3 errors and 100 requests on.
    2. ``failures_in_a_row``: 3.
    3. ``latency``: 8 of the last 100 took more than ``p99_seconds``. Requests in flight that are older count, so that
       a worker that hangs is found while it hangs. With 1 % over the limit 8 of 100 come once in a million windows.
       Those of patient clients, who may have asked for much, do not count.
    4. ``not_finite``: one image with NaN or infinity.
    5. ``blank``: blank images in two distinct requests.
    6. ``memory``: resident memory over ``rss_factor`` times the smoke test's peak.
    7. ``death``: the worker died.

    The first that trips stays.
    """

    limits: GuardLimits
    smoke_peak_bytes: int | None = None
    tripped: TrippedGuard | None = None
    _errors: deque[bool] = field(default_factory=lambda: deque(maxlen=ERROR_WINDOW))
    _error_count: int = 0
    _in_a_row: int = 0
    _slow: deque[bool] = field(default_factory=lambda: deque(maxlen=SLOW_WINDOW))
    _slow_in_flight: int = 0
    _looked_at: float = 0.0
    _blank: list[str] = field(default_factory=list)

    def observe_request(self, seen: RequestObservation) -> None:
        """Take in a request of this version that has ended."""
        self._leave_flight(seen)
        if seen.outcome is Outcome.REFUSED:
            return
        failed = seen.outcome in FAILURES
        self._count_error(failed)
        if failed:
            self._judge_failure(seen)
        if self.limits.p99_seconds is not None and not seen.patient:
            slow = seen.total_seconds > self.limits.p99_seconds
            self._slow.append(slow)
            if slow:
                self._judge_latency(self.limits.p99_seconds)

    def observe_worker(self, seen: WorkerObservation) -> None:
        """Take in the worker of this version at one moment."""
        if not seen.alive or seen.deaths > 0:
            self._trip("death", deaths=max(1, seen.deaths))
        self._judge_memory(seen.rss_bytes)
        if self.limits.p99_seconds is not None:
            limit = self.limits.p99_seconds
            self._slow_in_flight = sum(age > limit for age in seen.in_flight_judged_seconds)
            self._looked_at = seen.at
            self._judge_latency(limit)

    def _leave_flight(self, seen: RequestObservation) -> None:
        """Take a request that has ended off those that were last seen in flight over the limit, if it was one."""
        limit = self.limits.p99_seconds
        if limit is None or seen.patient or not self._slow_in_flight or seen.at < self._looked_at:
            return
        if self._looked_at - (seen.at - seen.total_seconds) > limit:
            self._slow_in_flight -= 1

    def _count_error(self, failed: bool) -> None:
        if len(self._errors) == ERROR_WINDOW:
            self._error_count -= self._errors[0]
        self._errors.append(failed)
        self._error_count += failed
        self._in_a_row = self._in_a_row + 1 if failed else 0
        limit, requests = self.limits.error_ratio, len(self._errors)
        if limit is None or self._error_count < LEAST_ERRORS or requests < LEAST_REQUESTS:
            return
        if self._error_count > limit * requests:
            self._trip("errors", errors=self._error_count, requests=requests, limit=limit)

    def _judge_failure(self, seen: RequestObservation) -> None:
        if seen.outcome is Outcome.NOT_FINITE:
            self._trip("not_finite", request=seen.request)
        if seen.outcome is Outcome.BLANK and seen.request not in self._blank:
            self._blank.append(seen.request)
            if len(self._blank) >= LEAST_BLANK:
                self._trip("blank", requests=list(self._blank))
        if self._in_a_row >= FAILURES_IN_A_ROW:
            self._trip("failures_in_a_row", failures=self._in_a_row, last=seen.request)

    def _judge_latency(self, limit: float) -> None:
        in_flight = min(self._slow_in_flight, SLOW_WINDOW)
        ended = sum(list(self._slow)[-(SLOW_WINDOW - in_flight) :]) if in_flight < SLOW_WINDOW else 0
        if ended + in_flight >= LEAST_SLOW:
            self._trip("latency", slow=ended, slow_in_flight=in_flight, window=SLOW_WINDOW, limit_seconds=limit)

    def _judge_memory(self, rss_bytes: int) -> None:
        factor = self.limits.rss_factor
        if factor is None or self.smoke_peak_bytes is None:
            return
        if rss_bytes > factor * self.smoke_peak_bytes:
            self._trip("memory", rss_bytes=rss_bytes, smoke_peak_bytes=self.smoke_peak_bytes, factor=factor)

    def _trip(self, name: str, **evidence: Any) -> None:
        if self.tripped is None:
            self.tripped = TrippedGuard(name, evidence)

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON; limits and the smoke test's peak are the caller's."""
        return {
            "tripped": asdict(self.tripped) if self.tripped else None,
            "errors": _bits(self._errors),
            "in_a_row": self._in_a_row,
            "slow": _bits(self._slow),
            "slow_in_flight": self._slow_in_flight,
            "looked_at": self._looked_at,
            "blank": list(self._blank),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], limits: GuardLimits, smoke_peak_bytes: int | None) -> Guards:
        """Read what :meth:`to_json` wrote."""
        errors = [bit == "1" for bit in data["errors"]]
        return cls(
            limits=limits,
            smoke_peak_bytes=smoke_peak_bytes,
            tripped=TrippedGuard(**data["tripped"]) if data["tripped"] else None,
            _errors=deque(errors, maxlen=ERROR_WINDOW),
            _error_count=sum(errors),
            _in_a_row=data["in_a_row"],
            _slow=deque((bit == "1" for bit in data["slow"]), maxlen=SLOW_WINDOW),
            _slow_in_flight=data["slow_in_flight"],
            _looked_at=data["looked_at"],
            _blank=list(data["blank"]),
        )


def _bits(flags: Iterable[bool]) -> str:
    return "".join("01"[flag] for flag in flags)
