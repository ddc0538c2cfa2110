"""Who is let in: a bounded number of images at a worker, a share of it for one client, and time left to answer."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from evodiff.errors import EvodiffError

LONGEST_WAIT: Final = 60  # seconds of Retry-After

_NEWEST = 0.2  # weight of the newest batch in the estimated speed


class QueueFull(EvodiffError):  # noqa: N818 - a state of the world, not a fault of the call
    """A request would wait too long, or its client has its share already; ``retry_after`` is in whole seconds."""

    def __init__(self, headline: str, retry_after: int) -> None:
        super().__init__(headline, remedy=f"Try again in {retry_after} s, or send less at once.")
        self.retry_after = retry_after


class Admission:
    """Counts what a worker has been given.

    ``work`` is images x steps, twice with guidance; how much a worker does in a second is learned from its answers,
    beginning with ``work_per_second``.
    """

    def __init__(self, *, max_images: int, client_share: float, work_per_second: float) -> None:
        self.max_images = max_images
        self._share = max(1, math.floor(max_images * client_share))
        self._speed = work_per_second
        self._images = 0
        self._work = 0.0
        self._clients: Counter[str] = Counter()

    @property
    def images(self) -> int:
        """Images that the worker holds."""
        return self._images

    def estimated_seconds(self, work: float) -> float:
        """Return how long more ``work`` would take, behind what is there."""
        return (self._work + work) / self._speed

    def enter(self, client: str, images: int, work: float, seconds: float) -> None:
        """Take in a request of a client that has ``seconds`` left.

        Raises:
            QueueFull: there is no room, the client has its share, or the time would not do.
        """
        wait = self._work / self._speed
        if self._images + images > self.max_images:
            raise self._full(f"The queue is full: {self._images} of {self.max_images} images wait.", wait / 2)
        held = self._clients[client]
        if held and held + images > self._share:
            raise self._full(f"One client has at most {self._share} images in the queue, and {held} wait.", wait / 2)
        if self._images and self.estimated_seconds(work) > seconds:
            excess = self.estimated_seconds(work) - seconds
            raise self._full(f"This would take {seconds + excess:.1f} s where {seconds:.1f} s are allowed.", excess)
        self._images += images
        self._work += work
        self._clients[client] += images

    def leave(self, client: str, images: int, work: float) -> None:
        """Let a request go, whatever became of it."""
        self._images -= images
        self._work = max(0.0, self._work - work) if self._images else 0.0
        self._clients[client] -= images
        if self._clients[client] <= 0:
            del self._clients[client]

    def learn(self, work: float, seconds: float) -> None:
        """Take note that a batch of ``work`` took ``seconds``."""
        if work > 0 and seconds > 0:
            self._speed += _NEWEST * (work / seconds - self._speed)

    def _full(self, headline: str, seconds: float) -> QueueFull:
        return QueueFull(headline, min(LONGEST_WAIT, max(1, math.ceil(seconds))))
