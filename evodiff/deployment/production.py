"""What versions cost in production: compute time at each shape of batch, memory, and the KID of what they drew."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from evodiff.deployment.observation import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.deployment.feedback.store import FeedbackStore
    from evodiff.deployment.observation import RequestObservation, WorkerObservation

KEPT: Final = 2000  # of the last requests of a version at each shape
SHAPES: Final = 64  # of a version
VERSIONS: Final = 16  # the last ones that served

_COUNTED: Final = frozenset(Outcome) - {Outcome.REFUSED}

Shape = tuple[int, int, bool]  # images, steps, guided


@dataclass
class _Version:
    requests: Counter[Outcome] = field(default_factory=Counter)
    compute: dict[Shape, deque[float]] = field(default_factory=dict)
    rss_bytes: int = 0
    online_kid: dict[str, float] | None = None
    last_at: float = 0.0


class ProductionRecorder:
    """Hears of requests and workers, and says what every version costs. Bounded; not for several threads at once.

    Args:
        device: kind of device that serves, as a calibration calls it: ``cpu``, ``cuda``, ``mps``.
        device_name: its model, likewise.
        known: what was on record before this began: a KID of then holds until there is a new one.
    """

    def __init__(self, device: str, device_name: str, known: Mapping[str, Mapping[str, Any]] = MappingProxyType({})):
        self._known_kids = {name: found["online_kid"] for name, found in known.items() if "online_kid" in found}
        self._device = {"device": device, "device_name": device_name}
        self._versions: OrderedDict[str, _Version] = OrderedDict()

    def observe(self, request: RequestObservation) -> None:
        """Take in a request; what the client caused does not count."""
        if request.outcome not in _COUNTED:
            return
        version = self._version(request.version, request.at)
        version.requests[request.outcome] += 1
        shape = (request.batch, request.steps, request.guided)
        if request.outcome is not Outcome.OK or request.compute_seconds <= 0:
            return
        if shape in version.compute or len(version.compute) < SHAPES:
            version.compute.setdefault(shape, deque(maxlen=KEPT)).append(request.compute_seconds)

    def observe_worker(self, worker: WorkerObservation) -> None:
        """Take in how much memory a worker has."""
        version = self._version(worker.version, worker.at)
        version.rss_bytes = max(version.rss_bytes, worker.rss_bytes)

    def observe_kid(self, name: str, at: float, kid: float, standard_error: float, images: int) -> None:
        """Take in the KID of so many images that a version drew in production."""
        self._version(name, at).online_kid = {"kid": kid, "standard_error": standard_error, "images": images}

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Return plain JSON by version, RUN/ID.

        ``compute`` has the p50 and p99 of the last requests of each shape of batch, the time of a whole batch in
        seconds; ``failed`` counts requests that a version answered badly; ``rss_bytes`` is the most a worker had.
        """
        return {name: self._metrics(version) for name, version in self._versions.items()}

    def store(self, store: FeedbackStore) -> None:
        """Put what is known of every version that was heard of into a store."""
        for record in self.records():
            store.record_production(*record)

    def records(self) -> list[tuple[str, dict[str, Any], float]]:
        """Return of every version that was heard of its name, its metrics, and when that was (UNIX seconds)."""
        return [(name, self._metrics(version), version.last_at) for name, version in self._versions.items()]

    def _metrics(self, version: _Version) -> dict[str, Any]:
        total = version.requests.total()
        found = {
            **self._device,
            "requests": total,
            "failed": total - version.requests[Outcome.OK],
            "compute": [_shape_metrics(shape, times) for shape, times in sorted(version.compute.items())],
        }
        if version.rss_bytes:
            found["rss_bytes"] = version.rss_bytes
        if version.online_kid is not None:
            found["online_kid"] = dict(version.online_kid)
        return found

    def _version(self, name: str, at: float) -> _Version:
        version = self._versions.setdefault(name, _Version(online_kid=self._known_kids.get(name)))
        self._versions.move_to_end(name)
        if len(self._versions) > VERSIONS:
            self._versions.popitem(last=False)
        version.last_at = max(version.last_at, at)
        return version


def _shape_metrics(shape: Shape, times: deque[float]) -> dict[str, Any]:
    p50, p99 = np.quantile(np.array(times), (0.5, 0.99), method="inverted_cdf")  # one of them, not between two
    batch, steps, guided = shape
    return {
        "batch": batch,
        "steps": steps,
        "guided": guided,
        "requests": len(times),
        "p50_seconds": float(p50),
        "p99_seconds": float(p99),
    }
