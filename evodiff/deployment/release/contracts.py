"""What the controller of a rollout asks of the workers, and of the analysis of the evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from evodiff.deployment.observation import Arm, RequestObservation, WorkerObservation


class SmokeReport(Protocol):
    """What the smoke test of a version found."""

    @property
    def version(self) -> str:
        """RUN/ID."""
        ...

    @property
    def experiment(self) -> str | None:
        """Identity of RUN, None where it is not known."""
        ...

    @property
    def peak_rss_bytes(self) -> int:
        """Largest memory of its worker in the test."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the weights' file."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        ...


class Fleet(Protocol):
    """The model workers, and the routing of clients to them."""

    observers: list[Callable[[RequestObservation], None]]

    async def load(self, entry: Mapping[str, Any], arm: Arm) -> SmokeReport:
        """Load a version into an empty arm and test it.

        Raises:
            SmokeTestFailure: the version does not pass. Anything else that is raised is no fault of the version.
        """
        ...

    async def swap(self) -> None:
        """Exchange the roles of the two arms, one of which may be empty; the weight is 0 from that moment on."""
        ...

    async def unload(self, arm: Arm) -> None:
        """Let an arm finish what it holds, and end it; nothing happens where it is empty."""
        ...

    def route(self, rollout_id: str, weight: float) -> None:
        """Give the canary a share of clients in [0, 1]."""
        ...

    def workers(self) -> Sequence[WorkerObservation]:
        """Return how each worker is."""
        ...


class Decision(Protocol):
    """What an analysis says of the step at hand."""

    @property
    def verdict(self) -> str:
        """One of pass, fail, inconclusive and wait."""
        ...

    @property
    def evidence(self) -> Mapping[str, Any]:
        """Plain JSON."""
        ...

    @property
    def reason(self) -> str:
        """The verdict's reason, in words."""
        ...

    @property
    def guard(self) -> str | None:
        """Name of the guard that tripped, if one did."""
        ...


class Analysis(Protocol):
    """The evidence on one rollout."""

    def observe(self, observation: Any) -> None:
        """Take in a request, a rating or a worker."""
        ...

    def decide(self, now: float) -> Decision:
        """Return what the evidence says now."""
        ...

    def begin_step(self, index: int, now: float) -> None:
        """Go on to a step."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return all that it knows."""
        ...


class Analyses(Protocol):
    """Where analyses come from."""

    def new(self, rollout: str, steps: Sequence[float], smoke: SmokeReport) -> Analysis:
        """Return one that knows nothing yet.

        Args:
            rollout: its id.
            steps: its weights, shares in [0, 1].
            smoke: what the smoke test of the version found.
        """
        ...

    def read(self, data: Mapping[str, Any]) -> Analysis:
        """Read what an analysis wrote; raises ValueError, KeyError, TypeError or EvodiffError for anything else."""
        ...


class Probe(Protocol):
    """Synthetic load."""

    def __call__(self, rollout: str, requests: int) -> Awaitable[None]:
        """Send requests to the canary, tagged with the rollout; the fleet's observers see how they end."""
        ...
