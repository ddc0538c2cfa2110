"""Requests that are refused before a worker hears of them: by status, in words, and never by a fault of the router."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from router_process import SIGNING_KEY, TOKENS, bearer

from evodiff.deployment.generation import Generated, GenerationRequest
from evodiff.deployment.release.assignment import arm_of
from evodiff.deployment.router.app import create_app
from evodiff.deployment.router.fleet import Fleet
from evodiff.deployment.settings import ServingSettings
from evodiff.deployment.web.signing import Signer
from evodiff.deployment.web.tokens import Tokens

GENERATE = "/v1/generate"
HERE = "http://127.0.0.1:8090"
JSON = {"Content-Type": "application/json"}
LARGEST = 65536


def app_of_nothing(tmp_path: Path) -> tuple[Fleet, FastAPI]:
    """Return a fleet that holds no version, and the app over it."""
    settings = ServingSettings(cache_dir=tmp_path)
    fleet = Fleet(settings, arm_of, runs_dir=tmp_path)
    tokens = Tokens.from_json(json.dumps(TOKENS), "the test")
    return fleet, create_app(fleet, tokens=tokens, signer=Signer(SIGNING_KEY), settings=settings)


def ask(tmp_path: Path, method: str, path: str, **options: Any) -> httpx.Response:
    """Ask an app over a fleet that holds no version."""

    async def answered() -> httpx.Response:
        fleet, app = app_of_nothing(tmp_path)
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        try:
            async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
                return await client.request(method, path, **options)
        finally:
            await fleet.close()

    return asyncio.run(answered())


def generate(tmp_path: Path, content: bytes | str, **headers: str) -> httpx.Response:
    """Ask for images with a token."""
    return ask(tmp_path, "POST", GENERATE, content=content, headers={**bearer(), **JSON, **headers})


def test_what_could_be_answered_says_that_nothing_serves(tmp_path: Path) -> None:
    answer = generate(tmp_path, "{}")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert ask(tmp_path, "GET", "/readyz").status_code == 503
    assert ask(tmp_path, "GET", "/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize(
    "body",
    [
        {"count": 0},
        {"count": 65},
        {"count": 10**30},
        {"count": 1.0},
        {"count": "1"},
        {"count": True},
        {"count": None},
        {"steps": 1},
        {"steps": 101},
        {"seed": -1},
        {"seed": 2**63},
        {"label": -1},
        {"label": "cat"},
        {"guidance": 0.5},
        {"guidance": 1e300},
        {"deadline_seconds": 0},
        {"deadline_seconds": -1},
        {"version": "../../etc/passwd"},
        {"unknown": 1},
        [],
        "text",
        None,
    ],
    ids=str,
)
def test_a_body_that_asks_for_what_cannot_be_is_refused(tmp_path: Path, body: object) -> None:
    answer = generate(tmp_path, json.dumps(body))
    assert answer.status_code == 422
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"guidance": NaN}',
        b'{"guidance": Infinity}',
        b'{"deadline_seconds": -Infinity}',
        b'{"guidance": 1e999}',
        b'{"label": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"\\u0000": "\\u0000"}',
        b'{"count": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"{",
        b"",
        b"[" * 60_000,
        b'{"a":' * 12_000,
    ],
    ids=lambda content: content[:20],
)
def test_json_that_is_none_or_hardly_is_refused(tmp_path: Path, content: bytes) -> None:
    assert generate(tmp_path, content).status_code in (400, 422)


def test_a_body_over_64_kib_is_refused_whatever_its_length_says(tmp_path: Path) -> None:
    assert generate(tmp_path, b" " * (LARGEST - 2) + b"{}").status_code == 503
    assert generate(tmp_path, b" " * (LARGEST - 1) + b"{}").status_code == 413

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b" " * 1024

    answer = ask(tmp_path, "POST", GENERATE, content=pieces(), headers={**bearer(), **JSON})
    assert answer.status_code == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "1_000", "²", "9" * 100, "", " 1"])
def test_a_length_that_is_none_is_refused(tmp_path: Path, length: str) -> None:
    answer = ask(
        tmp_path, "POST", GENERATE, content=b"{}", headers={**bearer(), "Content-Length": length.encode("utf-8")}
    )
    assert answer.status_code in (400, 413)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "127.0.0.1@evil.example", "[::2]", "localhost.", "*"]
)
def test_a_foreign_host_is_refused_with_a_token_too(tmp_path: Path, host: str) -> None:
    for path in ("/healthz", "/metrics", GENERATE):
        assert ask(tmp_path, "GET", path, headers={**bearer(), "Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:1234", "LOCALHOST:80", "[::1]:8090"])
def test_the_hosts_of_this_machine_are_its_own(tmp_path: Path, host: str) -> None:
    assert ask(tmp_path, "GET", "/healthz", headers={"Host": host}).status_code == 200


def test_a_token_without_the_scope_is_refused(tmp_path: Path) -> None:
    headers = {**bearer("release-token-of-the-tests"), **JSON}
    answer = ask(tmp_path, "POST", GENERATE, content=b"{}", headers=headers)
    assert answer.status_code == 403
    assert "'use'" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("ago", "lag", "seconds", "status"),
    [(0.0, 0.0, 30, 503), (10.0, 0.0, 30, 503), (10.0, 0.0, 5, 504), (1000.0, 0.0, 5, 504), (0.0, 1000.0, 5, 429)],
)
def test_a_deadline_runs_from_when_a_request_arrived_and_a_busy_router_says_so(
    tmp_path: Path, ago: float, lag: float, seconds: float, status: int
) -> None:
    async def answered() -> httpx.Response:
        fleet, app = app_of_nothing(tmp_path)

        async def late(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": {"arrived": time.monotonic() - ago, "lag": lag}}, receive, send)

        try:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(late), base_url=HERE) as client:
                return await client.post(GENERATE, json={"deadline_seconds": seconds}, headers=bearer())
        finally:
            await fleet.close()

    answer = asyncio.run(answered())
    assert answer.status_code == status
    assert status == 504 or int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    ("ago", "asked", "impatient"),
    [(1.0, None, False), (20.0, None, True), (1.0, 50.0, True), (1.0, 120.0, False), (15.0, 120.0, False)],
)
def test_who_leaves_less_than_nine_tenths_of_the_usual_deadline_can_blame_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ago: float, asked: float | None, impatient: bool
) -> None:
    monkeypatch.setenv("EVODIFF_SERVE_DEADLINE_SECONDS", "100")
    given: list[GenerationRequest] = []

    async def answered() -> int:
        fleet, app = app_of_nothing(tmp_path)
        generate = fleet.generate

        async def heard(request: GenerationRequest, client: str) -> Generated:
            given.append(request)
            return await generate(request, client)

        monkeypatch.setattr(fleet, "generate", heard)

        async def late(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": {"arrived": time.monotonic() - ago, "lag": 0.0}}, receive, send)

        try:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(late), base_url=HERE) as client:
                return (await client.post(GENERATE, json={"deadline_seconds": asked}, headers=bearer())).status_code
        finally:
            await fleet.close()

    assert asyncio.run(answered()) == 503
    assert [request.impatient for request in given] == [impatient]


@pytest.mark.parametrize("deadline", ["0", "-1", "nan", "inf", "soon", "1e999"])
def test_a_deadline_that_is_none_is_refused(tmp_path: Path, deadline: str) -> None:
    assert generate(tmp_path, b"{}", **{"X-Deadline-Seconds": deadline}).status_code == 422


def test_what_is_wrong_is_told_without_what_was_sent(tmp_path: Path) -> None:
    answer = generate(tmp_path, json.dumps({"label": "secret" * 1000, "x" * 5000: 1}))
    assert answer.status_code == 422
    assert "secret" not in answer.text
    assert len(answer.content) < 2000


def test_the_page_of_the_api_names_every_route_and_fetches_nothing(tmp_path: Path) -> None:
    page = ask(tmp_path, "GET", "/docs", headers=bearer())
    described = ask(tmp_path, "GET", "/openapi.json", headers=bearer()).json()
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert all(path in page.text for path in described["paths"])
    assert "http" not in page.text.replace("http://127.0.0.1", "")
    assert "<script" not in page.text
