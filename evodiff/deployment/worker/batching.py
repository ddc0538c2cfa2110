"""Which images are computed together: those that share steps and guidance, oldest request first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class Job:
    """One request at a worker. Image i has seed ``seed`` + i; times are those of one monotonic clock, in seconds.

    ``label`` None takes the classes in turn. ``images`` gathers what was computed, ``compute_seconds`` the time of all
    batches that it had a part in, ``last_seconds`` and ``last_batch`` (images) those of the last of them.
    """

    id: str
    count: int
    seed: int
    steps: int
    guidance: float
    label: int | None
    png: bool
    arrived: float
    deadline: float
    images: list[Any] = field(default_factory=list)
    issued: int = 0
    compute_seconds: float = 0.0
    last_seconds: float = 0.0
    last_batch: int = 0

    @property
    def key(self) -> tuple[int, float]:
        """What images must share to be computed together."""
        return self.steps, self.guidance

    @classmethod
    def from_header(cls, header: Mapping[str, Any], now: float) -> Job:
        """Read a frame's header; its ``seconds`` are left of the deadline."""
        names = ("id", "count", "seed", "steps", "guidance", "label", "png")
        return cls(**{name: header[name] for name in names}, arrived=now, deadline=now + header["seconds"])


class Batcher:
    """Requests that wait, in order of arrival; a batch has at most ``max_images``."""

    def __init__(self, max_images: int) -> None:
        self.max_images = max_images
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Take a request in."""
        self._jobs[job.id] = job

    def remove(self, identifier: str) -> None:
        """Forget a request, if it is there."""
        self._jobs.pop(identifier, None)

    def expired(self, now: float) -> list[Job]:
        """Take out and return requests whose deadline has passed."""
        late = [job for job in self._jobs.values() if job.deadline <= now]
        for job in late:
            del self._jobs[job.id]
        return late

    def next_batch(self) -> list[tuple[Job, int]]:
        """Return the next images, each a request and its index in it, all of one key; [] where nothing waits.

        The oldest request comes first; a large one is spread over batches, and its last images share theirs with
        others. A request leaves when its last image is issued.
        """
        batch: list[tuple[Job, int]] = []
        for job in list(self._jobs.values()):
            if batch and job.key != batch[0][0].key:
                continue
            taken = min(job.count - job.issued, self.max_images - len(batch))
            batch += [(job, job.issued + offset) for offset in range(taken)]
            job.issued += taken
            if job.issued == job.count:
                del self._jobs[job.id]
            if len(batch) == self.max_images:
                break
        return batch
