"""The server around the app: who is told of its end, whom it takes for the client, and how many it lets in."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from evodiff.deployment.release.rollout_settings import RolloutSettings
from evodiff.deployment.router.release_serving import ReleaseService
from evodiff.deployment.router.serving import bind, listen, run_app
from evodiff.deployment.settings import ServingSettings, load_serving_settings
from evodiff.errors import SettingsError


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


def test_a_router_at_work_does_not_look_through_all_that_it_was_made_of_for_garbage(tmp_path: Path) -> None:
    gc.collect()
    before, during = len(gc.get_objects()), list[int]()

    async def ask(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            await client.get("/")  # once it is answered, all is made that a router is made of
        during.append(len(gc.get_objects()))

    asyncio.run(running(FastAPI(), ServingSettings(port=0, secrets_dir=tmp_path), ask))
    assert during[0] < before / 10
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(("p99_seconds", "warned"), [(25.0, False), (30.0, True), (None, False)])
def test_a_latency_limit_that_no_answer_can_exceed_is_warned_of_at_the_start(
    tmp_path: Path, p99_seconds: float | None, warned: bool
) -> None:
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if line.startswith("Serving on"):
            os.kill(os.getpid(), signal.SIGTERM)

    settings = ServingSettings(
        port=0, secrets_dir=tmp_path, cache_dir=tmp_path / "cache", galleries=tmp_path, deadline_seconds=30.0
    )
    rollouts = RolloutSettings(p99_seconds=p99_seconds)
    ReleaseService(
        settings, rollouts, tmp_path / "release.json", tmp_path / "votes", tmp_path, tracking_uri=None, tell=tell
    ).serve()
    found = [line for line in lines if "EVODIFF_ROLLOUT_P99_SECONDS" in line]
    assert bool(found) == warned
    assert all("(30)" in line and "30 s" in line for line in found)
    assert lines[-1].startswith("Serving on")


async def running(app: FastAPI, settings: ServingSettings, ask: Callable[[str], Awaitable[None]]) -> None:
    """Serve an app while ``ask`` talks to its address."""
    listening, lines = bind(settings), list[str]()
    listen(listening, settings, lines.append)
    serving = asyncio.create_task(run_app(app, listening, settings))
    try:
        await ask(lines[0].split()[2])
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await serving


@pytest.mark.parametrize(
    ("trusted", "seen"), [((), "127.0.0.1"), (("192.0.2.9",), "127.0.0.1"), (("127.0.0.1",), "203.0.113.7")]
)
def test_a_proxy_says_who_asks_where_it_is_trusted(tmp_path: Path, trusted: tuple[str, ...], seen: str) -> None:
    app = FastAPI()

    @app.get("/who")
    async def who(request: Request) -> str:
        assert request.client is not None
        return request.client.host

    async def ask(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            answer = await client.get("/who", headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.7"})
            assert answer.json() == seen

    asyncio.run(running(app, ServingSettings(port=0, secrets_dir=tmp_path, trusted_proxies=trusted), ask))


def test_connections_over_the_bound_are_told_when_to_come_again(tmp_path: Path) -> None:
    app = FastAPI()

    @app.get("/")
    async def hello() -> str:
        return "hello"

    async def ask(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as first:
            assert (await first.get("/")).json() == "hello"
            async with httpx.AsyncClient(base_url=url, timeout=60) as second:
                refused = await second.get("/")
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                assert (await first.get("/")).json() == "hello"

    asyncio.run(running(app, ServingSettings(port=0, secrets_dir=tmp_path, max_connections=1), ask))


@pytest.mark.parametrize("rest", [b"\r\n", b"x"])
def test_who_was_answered_and_then_sends_what_is_no_request_is_not_waited_for(tmp_path: Path, rest: bytes) -> None:
    app = FastAPI()

    @app.get("/")
    async def hello() -> str:
        return "hello"

    async def ask(url: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"hello" in await reader.readuntil(b'"hello"')
        writer.write(rest)
        await asyncio.wait_for(reader.read(), 60)  # the end of the connection
        writer.close()

    asyncio.run(running(app, ServingSettings(port=0, secrets_dir=tmp_path, header_seconds=0.2), ask))


@pytest.mark.parametrize("wait", [0.3, 60.0])
def test_who_does_not_take_an_answer_loses_it(tmp_path: Path, wait: float) -> None:
    app, size, over = FastAPI(), 1 << 24, asyncio.Event()

    @app.get("/")
    async def much() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"x" * size
            yield b"x"  # is sent once the first part was taken, or lost

        return StreamingResponse(parts(), background=BackgroundTask(over.set))

    async def ask(url: str) -> None:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", int(url.rsplit(":", 1)[1])))
            await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if wait < 1:
                await over.wait()
            taken = 0
            with contextlib.suppress(ConnectionResetError):
                while part := await loop.sock_recv(client, 1 << 16):
                    taken += len(part)
            assert (taken > size) is (wait > 1)

    asyncio.run(running(app, ServingSettings(port=0, secrets_dir=tmp_path, answer_seconds=wait), ask))


@pytest.mark.parametrize("address", ["*", "nonsense", "10.0.0.1/33"])
def test_a_proxy_that_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="trusted_proxies"):
        load_serving_settings({"trusted_proxies": (address,)})
