"""How late an event loop comes to what is due: as long may a request have waited before anybody could see it."""

from __future__ import annotations

import asyncio
from typing import Final

PERIOD_SECONDS: Final = 0.1
_KEPT: Final = 0.8  # of the lag, from one look to the next: a second later a tenth of it is left


class LoopLag:
    """The lag of the loop in which :meth:`measure` runs, in ``seconds``: the longest lately.

    What arrives on a socket while a loop is busy waits in the kernel, where nobody takes its time. It cannot have
    waited much longer than the loop took to come round.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    async def measure(self) -> None:
        """Go on measuring until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PERIOD_SECONDS
            await asyncio.sleep(PERIOD_SECONDS)
            self.seconds = max(loop.time() - due, _KEPT * self.seconds)
