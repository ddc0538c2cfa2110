"""What is known of a request, a rating or a worker once it has happened: all that the analysis of a rollout sees."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Arm(StrEnum):
    """The two roles that traffic is divided between."""

    STABLE = "stable"
    CANARY = "canary"


class Outcome(StrEnum):
    """How a request ended. ``REFUSED`` is what the client caused: 4xx, 429, a disconnect, too short a deadline."""

    OK = "ok"
    FAILED = "failed"
    NOT_FINITE = "not_finite"
    BLANK = "blank"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class RequestObservation:
    """One request that has ended.

    ``client`` is what keeps a client in its arm, hashed. ``at`` is when it ended (UNIX seconds). ``compute_seconds`` is
    what the worker computed for the batch it was part of (0 where nothing was computed), ``total_seconds`` what the
    client waited; ``patient`` says that it had allowed more than the usual deadline. ``batch`` (images), ``steps`` and
    ``guided`` say what kind of batch that was. ``rollout`` is the id of the rollout it belongs to, empty outside one;
    ``weight`` the canary's share of clients then, in [0, 1].
    """

    request: str
    arm: Arm
    version: str
    client: str
    at: float
    outcome: Outcome
    compute_seconds: float = 0.0
    total_seconds: float = 0.0
    batch: int = 1
    steps: int = 1
    guided: bool = False
    rollout: str = ""
    weight: float = 0.0
    patient: bool = False


@dataclass(frozen=True, slots=True)
class RatingObservation:
    """One rating, 1 to 5, of an image that an arm made; ``rater`` is hashed, ``at`` in UNIX seconds."""

    rater: str
    arm: Arm
    version: str
    rating: float
    at: float
    rollout: str = ""


@dataclass(frozen=True, slots=True)
class WorkerObservation:
    """A worker at one moment.

    ``rss_bytes`` is its process's, ``deaths`` counts since it took the role, ``in_flight_seconds`` says how long each
    request that it holds has waited so far; ``in_flight_judged_seconds`` does of those alone that speak for or against
    its version: of its own clients, none of them patient.
    """

    arm: Arm
    version: str
    at: float
    alive: bool
    rss_bytes: int
    deaths: int = 0
    in_flight_seconds: tuple[float, ...] = ()
    in_flight_judged_seconds: tuple[float, ...] = ()
