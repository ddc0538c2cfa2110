"""Which arm a client is in."""

from __future__ import annotations

import hashlib

from evodiff.deployment.observation import Arm


def arm_of(rollout: str, client: str, weight: float) -> Arm:
    """Return the arm of a client at the canary's weight, a share in [0, 1]."""
    digest = hashlib.sha256(f"{len(rollout)}:{rollout}{client}".encode(errors="surrogatepass")).digest()
    return Arm.CANARY if int.from_bytes(digest[:8], "big") / 2**64 < weight else Arm.STABLE
