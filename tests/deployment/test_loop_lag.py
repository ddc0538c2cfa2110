"""The lag of an event loop: seen while something keeps the loop, and forgotten after."""

from __future__ import annotations

import asyncio
import time

from evodiff.deployment.web.loop_lag import PERIOD_SECONDS, LoopLag


def test_what_keeps_the_loop_shows_and_is_forgotten() -> None:
    async def told() -> None:
        lag = LoopLag()
        measuring = asyncio.create_task(lag.measure())
        await asyncio.sleep(0)
        time.sleep(PERIOD_SECONDS + 0.2)  # as a callback that takes long
        while lag.seconds == 0:
            await asyncio.sleep(0)
        seen = lag.seconds
        assert seen >= 0.19
        while lag.seconds > seen / 2:
            await asyncio.sleep(PERIOD_SECONDS)
        measuring.cancel()

    asyncio.run(told())
