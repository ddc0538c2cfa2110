"""Who is let in: a bounded number of images at a worker, a share of it for one client, and time left to answer."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from evodiff.errors import EvodiffError

LONGEST_WAIT: Final = 60  # seconds of Retry-After

_NEWEST = 0.2  # weight of the newest batch in the estimated speed, and of the newest wait in what is added to it
_SAFE = 0.8  # of the time that is left may be spent by estimate: half of what is let in to the second comes late
_MOST_STRETCH = 10.0


class QueueFull(EvodiffError):  # noqa: N818 - a state of the world, not a fault of the call
    """A request would wait too long, or its client has its share already; ``retry_after`` is in whole seconds."""

    def __init__(self, headline: str, retry_after: int) -> None:
        super().__init__(headline, remedy=f"Try again in {retry_after} s, or send less at once.")
        self.retry_after = retry_after


class Admission:
    """Counts what a worker has been given.

    ``work`` is images x steps, twice with guidance; how much a worker does in a second is learned from its answers,
    beginning with ``work_per_second``. How much longer a request takes than its work (its images are encoded, others
    want the processor too) is learned from what requests really waited.
    """

    def __init__(self, *, max_images: int, client_share: float, work_per_second: float) -> None:
        self.max_images = max_images
        self._share = max(1, math.floor(max_images * client_share))
        self._speed = self._first_speed = work_per_second
        self._stretch = 1.0
        self._images = 0
        self._work = 0.0
        self._clients: Counter[str] = Counter()

    @property
    def images(self) -> int:
        """Images that the worker holds."""
        return self._images

    def estimated_seconds(self, work: float) -> float:
        """Return how long more ``work`` would take, behind what is there."""
        return self._stretch * (self._work + work) / self._speed

    def hopeless(self, work: float, seconds: float) -> bool:
        """Tell whether a request asks for more than could be done in its time even alone: its client's affair.

        By the speed at which the version began, or has come to since if that is faster; so one that grows slow is not
        excused by it.
        """
        return work > _SAFE * seconds * max(self._first_speed, self._speed)

    def enter(self, client: str, images: int, work: float, seconds: float) -> float:
        """Take in a request of a client that has ``seconds`` left; return those that its work and what is before it
        take by themselves, for :meth:`learn_wait`.

        Raises:
            QueueFull: there is no room, the client has its share, or the time would not do.
        """
        wait = self.estimated_seconds(0)
        if self._images + images > self.max_images:
            raise self._full(f"The queue is full: {self._images} of {self.max_images} images wait.", wait / 2)
        held = self._clients[client]
        if held and held + images > self._share:
            raise self._full(f"One client has at most {self._share} images in the queue, and {held} wait.", wait / 2)
        estimated = self.estimated_seconds(work)
        if self._images and estimated > _SAFE * seconds:
            raise self._full(
                f"This would take about {estimated:.1f} s of {seconds:.1f} s that are left, too much to be sure.",
                estimated - _SAFE * seconds,
            )
        self._images += images
        self._work += work
        self._clients[client] += images
        return self._work / self._speed

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

    def learn_wait(self, expected: float, seconds: float) -> None:
        """Take note that a request of which :meth:`enter` ``expected`` so many seconds took ``seconds``, or longer."""
        if expected > 0:  # a short wait tells little: one image alone takes longer than its share of a batch
            stretch = min(max(seconds / expected, 1.0), _MOST_STRETCH)
            self._stretch += _NEWEST * min(1.0, expected) * (stretch - self._stretch)

    def _full(self, headline: str, seconds: float) -> QueueFull:
        return QueueFull(headline, min(LONGEST_WAIT, max(1, math.ceil(seconds))))
