"""What a request must be before any route sees it: for this host, from somebody known, small, and sent in time.

Plain ASGI, so that a disconnect reaches the routes.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from evodiff.deployment.web.tokens import UNKNOWN, challenges

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from evodiff.deployment.settings import ServingSettings
    from evodiff.deployment.web.tokens import Tokens

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# The only routes without a token; what lies below one of them is open too.
OPEN_PATHS: Final = ("/healthz", "/readyz", "/metrics", "/rate")


def is_open(path: str) -> bool:
    """Tell whether a path asks for no token."""
    return any(path == known or path.startswith(f"{known}/") for known in OPEN_PATHS)


class Limits:
    """Middleware: 421 for a foreign Host, 401 without a known token, 413 for a large body, 408 for a slow one.

    A known caller is in ``scope["state"]["caller"]``.
    """

    def __init__(self, app: App, *, settings: ServingSettings, tokens: Tokens) -> None:
        self._app = app
        self._settings = settings
        self._tokens = tokens
        self._hosts = {name.lower() for name in settings.allowed_hosts}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no other protocol is spoken here: the server closes the connection
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, scope["method"], *refusal)
            return
        body = await _read(receive, self._settings)
        if isinstance(body, tuple):
            await _answer(send, scope["method"], *body)
        elif body is not None:
            await self._app(scope, _handed_on(body, receive), send)

    def _refusal(self, scope: MutableMapping[str, Any], headers: dict[str, str]) -> tuple[int, str] | None:
        hosts = [value for name, value in scope["headers"] if name.lower() == b"host"]
        host = _host(headers.get("host", ""))
        if len(hosts) != 1 or host not in self._hosts:
            return (
                421,
                f"Expected a Host of {', '.join(sorted(self._hosts))}, found {host[:80]!r}. Use such an address.",
            )
        caller = self._tokens.caller(headers.get("authorization"), scope["method"])
        if caller is None and not is_open(scope["path"]):
            return 401, UNKNOWN
        scope.setdefault("state", {})["caller"] = caller
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length[:20]) > self._settings.max_body_bytes:
            return 413, f"Expected a body of at most {self._settings.max_body_bytes} bytes. Send less."
        return None


async def _read(receive: Receive, settings: ServingSettings) -> bytes | tuple[int, str] | None:
    """Return a whole body, None where the client has gone, or the status and words with which it is refused."""
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                body += message.get("body", b"")
                if len(body) > settings.max_body_bytes:
                    return 413, f"Expected a body of at most {settings.max_body_bytes} bytes. Send less."
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        return 408, f"Expected the whole body in {settings.body_seconds:g} s. Send it at once."


def _handed_on(body: bytes, receive: Receive) -> Receive:
    """Return what receives a body that was read already, then waits for the disconnect."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


def _host(header: str) -> str:
    """Return the name in a Host header, without its port and the brackets of IPv6."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


async def _answer(send: Send, method: str, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers += [(b"www-authenticate", way.encode()) for way in challenges(method)]
    if status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
