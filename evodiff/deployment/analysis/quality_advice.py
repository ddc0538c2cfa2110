"""Online KID of both arms: shown to people as advice, deciding nothing."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from evodiff.deployment.observation import Arm

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAST_IMAGES: Final = 512
"""Images that each arm needs: with 32 the standard deviation of KID is ten times that with 512."""


@dataclass(frozen=True, slots=True)
class QualityObservation:
    """Online KID (Bińkowski et al. 2018) of the images that an arm has served, against the reference set."""

    arm: Arm
    version: str
    images: int
    kid: float
    standard_error: float
    at: float
    rollout: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "arm": str(self.arm)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> QualityObservation:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**data, "arm": Arm(data["arm"])})


def advise(quality: Mapping[Arm, QualityObservation]) -> dict[str, Any]:
    """Return the arms' difference in KID and a word on it, as plain JSON.

    ``worse`` where the canary's is above the stable version's by more than two standard errors of the difference, else
    ``not worse``; ``too few images`` below 512 images an arm.
    """
    canary, stable = quality.get(Arm.CANARY), quality.get(Arm.STABLE)
    images = {str(arm): seen.images for arm, seen in quality.items()}
    if canary is None or stable is None or min(canary.images, stable.images) < LEAST_IMAGES:
        return {"advice": "too few images", "images": images}
    difference = canary.kid - stable.kid
    error = math.hypot(canary.standard_error, stable.standard_error)
    return {
        "advice": "worse" if difference > 2.0 * error else "not worse",
        "images": images,
        "difference": difference,
        "standard_error": error,
    }
