"""The record of how an architecture fared in production."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

LOWEST_RATING, HIGHEST_RATING = 1, 5


@dataclass(frozen=True)
class DeploymentFeedback:
    """Feedback on one deployed architecture.

    ``architecture_id`` is RUN/ID, ``user_ratings`` are 1 to 5, ``performance_metrics`` are finite numbers by name with
    their unit in it (``latency_p99_ms``), ``error_logs`` are lines as they were logged.

    Raises:
        SettingsError: a rating or a metric is out of range.
    """

    architecture_id: str
    user_ratings: tuple[float, ...] = ()
    performance_metrics: Mapping[str, float] = field(default_factory=dict)
    deployment_success: bool = True
    error_logs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "user_ratings", tuple(float(rating) for rating in self.user_ratings))
        object.__setattr__(self, "error_logs", tuple(self.error_logs))
        for rating in self.user_ratings:
            if not LOWEST_RATING <= rating <= HIGHEST_RATING:
                raise SettingsError(
                    f"Rating of {self.architecture_id}: expected {LOWEST_RATING} to {HIGHEST_RATING}, found {rating}.",
                    remedy="Leave it out, or map it to that scale.",
                )
        for name, value in self.performance_metrics.items():
            if not math.isfinite(value):
                raise SettingsError(
                    f"Metric {name} of {self.architecture_id}: expected a finite number, found {value}.",
                    remedy="Leave out what was not measured.",
                )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "user_ratings": list(self.user_ratings), "error_logs": list(self.error_logs)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DeploymentFeedback:
        """Read what :meth:`to_json` wrote."""
        return cls(**data)
