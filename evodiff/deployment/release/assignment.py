"""Which arm a client is in: uniform over clients, sticky, and monotone in the canary's weight."""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import TYPE_CHECKING, Final

from evodiff.deployment.observation import Arm
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS: Final = (0.01, 0.05, 0.20, 0.50, 1.0)
_BITS: Final = 53  # what a float64 in [0, 1) holds exactly


def position(rollout: str, client: str) -> float:
    """Return where a client stands in a rollout, uniform over [0, 1); another rollout shuffles the clients anew."""
    digest = hashlib.sha256(f"{len(rollout)}:{rollout}{client}".encode(errors="surrogatepass")).digest()
    return float((int.from_bytes(digest[:8], "big") >> (64 - _BITS)) / 2**_BITS)


def arm_of(rollout: str, client: str, weight: float) -> Arm:
    """Return the arm of a client at the canary's weight, a share in [0, 1].

    A client that is in the canary at one weight is in it at every larger one.
    """
    return Arm.CANARY if position(rollout, client) < weight else Arm.STABLE


def parse_steps(percentages: Sequence[float]) -> tuple[float, ...]:
    """Return the weights, shares in [0, 1], of steps in percent; a first step of 0 is one that only a person ends.

    Raises:
        SettingsError: they do not ascend, or do not end in 100.
    """
    found = tuple(percentages)
    numbers = all(isinstance(item, int | float) and math.isfinite(item) for item in found)
    ascending = numbers and all(low < high for low, high in itertools.pairwise(found))
    if not found or not ascending or found[0] < 0 or found[-1] != 100:
        raise SettingsError(
            f"Steps of a rollout: expected percentages that ascend from at least 0 to 100, found {list(found)}.",
            remedy="Give for example 1, 5, 20, 50, 100.",
        )
    return tuple(item / 100 for item in found)
