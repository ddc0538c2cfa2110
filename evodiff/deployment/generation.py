"""A request for images, what comes back, and how it may fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from evodiff.deployment.observation import Arm


class NotServing(EvodiffError):  # noqa: N818 - a state of the world, not a fault of the call
    """No version can answer now."""


class DeadlineExceeded(EvodiffError):  # noqa: N818 - the fact
    """A request was not answered in time."""


class GenerationFailed(EvodiffError):  # noqa: N818 - the fact
    """The version that a request was given to could not answer it."""


class RequestRefused(EvodiffError, ValueError):  # noqa: N818 - the fact
    """A request asks for what the version cannot do."""


@dataclass(frozen=True)
class GenerationRequest:
    """What a client asks for; ``png`` is one sheet, else one PNG an image.

    ``seconds`` are left to answer, of ``allowed_seconds`` where that is more. ``impatient`` says that the client chose
    fewer than are usual, ``patient`` that it allowed more.
    """

    count: int = 1
    seed: int = 0
    steps: int = 20
    label: int | None = None
    guidance: float = 1.0
    png: bool = True
    seconds: float = 30.0
    impatient: bool = False
    allowed_seconds: float = 0.0
    patient: bool = False

    @property
    def work(self) -> float:
        """Forward passes of one image."""
        return float(self.count * self.steps * (1 if self.guidance == 1 else 2))


@dataclass(frozen=True)
class Generated:
    """What came back: who answered and under what rollout, the PNGs, and the worker's own seconds."""

    request: str
    arm: Arm
    version: str
    rollout: str
    parts: tuple[bytes, ...]
    blank: bool
    queue_seconds: float
    compute_seconds: float
    encode_seconds: float


@dataclass(frozen=True)
class Routing:
    """The rollout whose clients are divided, and the canary's share of them."""

    rollout: str = ""
    weight: float = 0.0
