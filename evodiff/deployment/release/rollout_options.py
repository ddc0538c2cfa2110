"""How rollouts go: steps, times, and when a person is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evodiff.deployment.release.assignment import STEPS
from evodiff.errors import SettingsError


@dataclass(frozen=True)
class RolloutOptions:
    """Options of every rollout; ``steps`` are weights in [0, 1] that ascend to 1.

    ``bake_seconds`` is how long stable stays loaded beside a canary that has all of the traffic. A rollout without a
    verdict ends after ``max_rollout_seconds``. ``on_inconclusive`` is what happens where the evidence decides nothing.
    ``approval`` has a person asked before the last step. ``synthetic_requests`` is what a first champion has to stand;
    what could not be loaded is tried again after ``retry_seconds``.

    Raises:
        SettingsError: a value cannot be.
    """

    steps: tuple[float, ...] = STEPS
    poll_interval_seconds: float = 5.0
    bake_seconds: float = 600.0
    max_rollout_seconds: float = 24 * 3600.0
    on_inconclusive: Literal["hold", "rollback"] = "hold"
    approval: bool = False
    synthetic_requests: int = 100
    retry_seconds: float = 30.0

    def __post_init__(self) -> None:
        rising = list(self.steps) == sorted(set(self.steps))
        self._expect("steps", bool(self.steps) and rising and self.steps[0] >= 0 and self.steps[-1] == 1, "up to 1")
        for name in ("poll_interval_seconds", "max_rollout_seconds"):
            self._expect(name, getattr(self, name) > 0, "more than 0 seconds")
        for name in ("bake_seconds", "synthetic_requests", "retry_seconds"):
            self._expect(name, getattr(self, name) >= 0, "at least 0")
        self._expect("on_inconclusive", self.on_inconclusive in ("hold", "rollback"), "hold or rollback")

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"RolloutOptions.{name}: expected {expected}, found {getattr(self, name)}.", remedy="Correct it."
            )
