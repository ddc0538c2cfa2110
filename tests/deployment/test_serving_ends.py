"""The end of a router: who is told, and when."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx
from fastapi import FastAPI

from evodiff.deployment.serving import bind, listen, run_app
from evodiff.deployment.settings import ServingSettings


def test_who_wants_to_hear_of_the_end_does_while_the_last_requests_are_answered(tmp_path: Path) -> None:
    async def told() -> None:
        app, asked, ending, lines = FastAPI(), asyncio.Event(), asyncio.Event(), list[str]()

        @app.get("/last")
        async def last() -> str:
            asked.set()
            await ending.wait()
            return "answered"

        settings = ServingSettings(port=0, secrets_dir=tmp_path)
        listening = bind(settings)
        listen(listening, settings, lines.append)
        url = lines[0].split()[2]
        serving = asyncio.create_task(run_app(app, listening, settings, ending=ending.set))
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            answering = asyncio.create_task(client.get("/last"))
            await asked.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            assert (await answering).json() == "answered"
        await serving

    asyncio.run(told())
