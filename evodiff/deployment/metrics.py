"""Every metric of the router, its workers and the release, defined once: base units, labels of few values.

``arm`` and ``outcome`` are the labels; ids of candidates, users and requests never are, for each value of a label is a
time series that Prometheus keeps. Which version an arm serves is asked of ``GET /v1/release``.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from evodiff.deployment.observation import Arm, Outcome
from evodiff.engine.experiment import code_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.deployment.observation import RatingObservation, RequestObservation, WorkerObservation

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
ROLES: Final = ("champion", "challenger", "previous", "pending")
BATCHES: Final = (1, 2, 4, 8, 16)
_WAIT_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_CALL_SECONDS = (5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The metrics of one serving process, in a registry of its own.

    Every arm and outcome is exported from the start, so that a rate is 0 and not absent before the first event.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        build = Gauge(
            "evodiff_build_info", "Always 1; the labels say what runs.", ["version", "python"], registry=registry
        )
        build.labels(code_version(), platform.python_version()).set(1)
        self._requests = Counter("evodiff_requests", "Requests that have ended.", ["arm", "outcome"], registry=registry)
        self._duration = Histogram(
            "evodiff_request_duration_seconds",
            "What clients waited for requests that the worker answered, where they kept to the usual deadline.",
            ["arm"],
            buckets=_WAIT_SECONDS,
            registry=registry,
        )
        self._compute = Histogram(
            "evodiff_request_compute_seconds",
            "What the worker computed for the batch that a request was part of.",
            ["arm"],
            buckets=_WAIT_SECONDS,
            registry=registry,
        )
        self._call = Histogram(
            "evodiff_denoiser_call_seconds",
            "Compute per sampling step without guidance, by the images of the batch (rounded up to a power of two).",
            ["arm", "batch"],
            buckets=_CALL_SECONDS,
            registry=registry,
        )
        self._limit = Gauge(
            "evodiff_latency_limit_seconds", "What a request may take; 0 where no limit is set.", registry=registry
        )
        self._in_flight = Gauge(
            "evodiff_in_flight_requests", "Requests that a worker holds.", ["arm"], registry=registry
        )
        self._oldest = Gauge(
            "evodiff_oldest_in_flight_seconds",
            "How long the oldest of them has waited.",
            ["arm"],
            registry=registry,
        )
        self._up = Gauge("evodiff_worker_up", "Whether the worker of an arm lives.", ["arm"], registry=registry)
        self._resident = Gauge(
            "evodiff_worker_resident_memory_bytes", "Resident memory of a worker.", ["arm"], registry=registry
        )
        self._deaths = Counter("evodiff_worker_deaths", "Workers that died in their role.", ["arm"], registry=registry)
        self._ratings = Histogram(
            "evodiff_rating", "Ratings by people, 1 to 5.", ["arm"], buckets=(1, 2, 3, 4, 5), registry=registry
        )
        self._kid = Gauge(
            "evodiff_online_kid",
            "KID of what an arm served lately; advice, not a verdict.",
            ["arm"],
            registry=registry,
        )
        self._kid_images = Gauge(
            "evodiff_online_kid_images", "Images that it was computed from.", ["arm"], registry=registry
        )
        self._smoke_kid = Gauge(
            "evodiff_smoke_test_kid", "KID of a version at its smoke test.", ["arm"], registry=registry
        )
        self._weight = Gauge(
            "evodiff_release_canary_weight_ratio", "Share of clients that the canary gets.", registry=registry
        )
        self._revision = Gauge("evodiff_release_revision", "Revision of the release state.", registry=registry)
        self._changed = Gauge(
            "evodiff_release_changed_timestamp_seconds", "When the release state changed last.", registry=registry
        )
        self._filled = Gauge(
            "evodiff_release_role_filled", "Whether somebody has a role of the release.", ["role"], registry=registry
        )
        self._decisions = Counter(
            "evodiff_release_decisions", "Decisions on the release, by what was done.", ["action"], registry=registry
        )
        self._died: dict[tuple[Arm, str], int] = {}
        self._zero()

    def _zero(self) -> None:
        # Looked up for each request, which costs less than asking for a time series by its labels.
        self._ended = {(arm, outcome): self._requests.labels(arm, outcome) for arm in Arm for outcome in Outcome}
        self._timed = {arm: (self._duration.labels(arm), self._compute.labels(arm)) for arm in Arm}
        for arm in Arm:
            for by_arm in (self._deaths, self._ratings, self._in_flight):
                by_arm.labels(arm)
        for role in ROLES:
            self._filled.labels(role)

    def observe_request(self, seen: RequestObservation) -> None:
        """Count a request that has ended, and time it where a worker computed something for it."""
        self._ended[seen.arm, seen.outcome].inc()
        if seen.outcome is Outcome.REFUSED:
            return
        duration, compute = self._timed[seen.arm]
        if not seen.patient:
            duration.observe(seen.total_seconds)
        if seen.compute_seconds > 0:
            compute.observe(seen.compute_seconds)
        if seen.compute_seconds > 0 and not seen.guided:
            per_step = seen.compute_seconds / max(1, seen.steps)
            self._call.labels(seen.arm, batch_label(seen.batch)).observe(per_step)

    def observe_rating(self, seen: RatingObservation) -> None:
        """Count a rating."""
        self._ratings.labels(seen.arm).observe(seen.rating)

    def observe_worker(self, seen: WorkerObservation) -> None:
        """Take over what a worker is like now; deaths are counted where they have grown since it was seen last."""
        self._up.labels(seen.arm).set(seen.alive)
        self._resident.labels(seen.arm).set(seen.rss_bytes)
        self._in_flight.labels(seen.arm).set(len(seen.in_flight_seconds))
        self._oldest.labels(seen.arm).set(max(seen.in_flight_seconds, default=0.0))
        before = self._died.get((seen.arm, seen.version), 0)
        self._deaths.labels(seen.arm).inc(max(0, seen.deaths - before))
        self._died = {key: count for key, count in self._died.items() if key[0] is not seen.arm}
        self._died[seen.arm, seen.version] = seen.deaths

    def forget_arm(self, arm: Arm) -> None:
        """Export nothing more of an arm's worker and images: there is none. What was counted stays."""
        for gauge in (self._up, self._resident, self._oldest, self._kid, self._kid_images, self._smoke_kid):
            gauge.remove_by_labels({"arm": arm})
        self._in_flight.labels(arm).set(0)

    def set_latency_limit(self, seconds: float) -> None:
        """Say what a request may take; 0 is no limit."""
        self._limit.set(seconds)

    def set_online_kid(self, arm: Arm, kid: float, images: int) -> None:
        """Say how far what an arm served lately is from the data, from how many images."""
        self._kid.labels(arm).set(kid)
        self._kid_images.labels(arm).set(images)

    def forget_online_kid(self, arm: Arm) -> None:
        """Export no KID of what an arm served: none is known."""
        for gauge in (self._kid, self._kid_images):
            gauge.remove_by_labels({"arm": arm})

    def set_smoke_test_kid(self, arm: Arm, kid: float) -> None:
        """Say how far the images of a version were from the data when it was tested."""
        self._smoke_kid.labels(arm).set(kid)

    def set_release(self, release: Mapping[str, Any], *, weight: float, changed_at: float) -> None:
        """Take over the release state: roles, revision, the canary's share in [0, 1], and when it changed (UNIX)."""
        self._revision.set(release.get("revision", 0))
        self._weight.set(weight)
        self._changed.set(changed_at)
        for role in ROLES:
            self._filled.labels(role).set(release.get(role) is not None)

    def count_decision(self, action: str) -> None:
        """Count a decision on the release, such as ``begin``, ``step``, ``promote``, ``roll back`` or ``withdraw``."""
        self._decisions.labels(action).inc()

    def render(self) -> bytes:
        """Return all metrics as Prometheus reads them, for an answer of type :data:`CONTENT_TYPE`."""
        return generate_latest(self.registry)


def batch_label(images: int) -> str:
    """Return the label of a batch: its size rounded up to a power of two, ``more`` above 16."""
    return next((str(size) for size in BATCHES if images <= size), "more")
