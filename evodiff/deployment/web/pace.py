"""How often somebody without a token may ask: so often a second, some more at first, and so many of all at once."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class TooFast(EvodiffError):  # noqa: N818 - a state of the world, not a fault of the call
    """A source asks too often, or too many ask at once; ``retry_after`` is in whole seconds."""

    def __init__(self, headline: str, retry_after: int) -> None:
        super().__init__(headline, remedy=f"Try again in {retry_after} s.")
        self.retry_after = retry_after


class Pace:
    """Lets each source ask ``per_second`` times a second in the long run, ``burst`` times at once after a pause.

    All sources together have ``at_once`` requests at work at most. The generic cell rate algorithm: of a source it is
    kept when its allowance will be whole again, and of at most ``sources`` of them, the latest; who is forgotten has
    its allowance anew. ``clock`` gives seconds.
    """

    def __init__(
        self,
        *,
        per_second: float = 8.0,
        burst: int = 60,
        at_once: int = 16,
        sources: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval, self._burst, self._at_once, self._most = 1 / per_second, burst, at_once, sources
        self._clock = clock
        self._whole_at: OrderedDict[str, float] = OrderedDict()
        self._inside = 0

    @contextmanager
    def entered(self, source: str) -> Iterator[None]:
        """Be inside while a request of a source is answered.

        Raises:
            TooFast: it may not come in now.
        """
        if self._inside >= self._at_once:
            raise TooFast(f"Expected at most {self._at_once} requests at once, found one more.", 1)
        self._spend(source)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    def _spend(self, source: str) -> None:
        now = self._clock()
        whole_at = max(self._whole_at.get(source, now), now) + self._interval
        wait = whole_at - now - self._burst * self._interval
        if wait > 1e-9:
            raise TooFast(
                f"Expected at most {1 / self._interval:g} requests a second from one place, found more.",
                math.ceil(wait),
            )
        self._whole_at[source] = whole_at
        self._whole_at.move_to_end(source)
        while len(self._whole_at) > self._most:
            self._whole_at.popitem(last=False)
