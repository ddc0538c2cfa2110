"""Metrics of the router and its workers: base units, labels of few values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from evodiff.deployment.observation import Arm, Outcome

if TYPE_CHECKING:
    from evodiff.deployment.observation import RequestObservation, WorkerObservation

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """The metrics of one serving process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "evodiff_requests", "Requests that have ended.", ["arm", "outcome"], registry=self.registry
        )
        self._duration = Histogram(
            "evodiff_request_duration_seconds", "What clients waited.", ["arm"], registry=self.registry
        )
        self._up = Gauge("evodiff_worker_up", "Whether the worker of an arm lives.", ["arm"], registry=self.registry)
        for arm in Arm:
            for outcome in Outcome:
                self._requests.labels(arm, outcome)

    def observe_request(self, seen: RequestObservation) -> None:
        """Count a request that has ended, and time it where a worker answered."""
        self._requests.labels(seen.arm, seen.outcome).inc()
        if seen.outcome is not Outcome.REFUSED:
            self._duration.labels(seen.arm).observe(seen.total_seconds)

    def observe_worker(self, seen: WorkerObservation) -> None:
        """Take over what a worker is like now."""
        self._up.labels(seen.arm).set(seen.alive)

    def forget_arm(self, arm: Arm) -> None:
        """Export nothing more of an arm's worker: there is none."""
        self._up.remove_by_labels({"arm": arm})

    def render(self) -> bytes:
        """Return all metrics as Prometheus reads them, for an answer of type :data:`CONTENT_TYPE`."""
        return generate_latest(self.registry)
