"""A load generator that costs little: HTTP/1.1 over kept connections, by hand, on asyncio.

What a client spends on a request cannot be told from what a server does, where both share the cores. A general client
(httpx) spends milliseconds on each; this one writes a request that was put together before and looks in the answer for
its status, its length and the header that it was asked to keep, in some tenths of a millisecond. It is no HTTP client
for other purposes: it knows no redirects, no compression, no chunked bodies, and says so where it meets one.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_END = b"\r\n\r\n"
IDLE_SECONDS = 2.0
LOST = 0  # the status of a request whose connection was closed before an answer


@dataclass(frozen=True)
class Answer:
    """What came back: ``status`` (:data:`LOST` for a connection that was closed), seconds from the moment in which the
    request was written until its last byte was read, and ``head``, the headers in lower case."""

    status: int
    seconds: float
    head: bytes = b""
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return a header's value, empty where there is none."""
        start = self.head.find(f"\r\n{name}:".encode())
        if start < 0:
            return ""
        return self.head[start + len(name) + 3 :].partition(b"\r\n")[0].strip().decode("latin-1")


class LightClient:
    """Sends requests to one server, each over a connection of its own as long as it takes; connections are kept.

    ``most`` connections are open at once at most: a request beyond waits here, which does not count in its seconds. A
    connection that was idle for :data:`IDLE_SECONDS` is not used again, for the server may be closing it.
    """

    def __init__(self, url: str, *, most: int = 256) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[_Connection] = []
        self._room = asyncio.Semaphore(most)

    def request(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
        """Return a POST request of JSON as it goes over the line."""
        content = json.dumps(body).encode()
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: {self._host}:{self._port}",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join(lines).encode() + _END + content

    async def send(self, request: bytes) -> Answer:
        """Send a request and return what came back.

        Raises:
            OSError: nobody listens.
        """
        async with self._room:
            connection = await self._connection()
            answer = await connection.send(request)
            if connection.open:
                connection.used_at = time.perf_counter()
                self._idle.append(connection)
            return answer

    async def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open and time.perf_counter() - connection.used_at < IDLE_SECONDS:
                return connection
            connection.close()
        _, made = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        return made


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.open, self.used_at = False, 0.0
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport, self.open = transport, True

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(LOST, time.perf_counter() - self._began))

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        self._answer = asyncio.get_running_loop().create_future()
        self._received, self._head, self._length = b"", b"", -1
        self._began = time.perf_counter()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # nobody asked
            return
        self._received += data
        if self._length < 0 and not self._read_head():
            return
        if len(self._received) >= self._length:
            seconds = time.perf_counter() - self._began
            self.open = self.open and b"\r\nconnection: close" not in self._head
            self._answer.set_result(Answer(int(self._head[9:12]), seconds, self._head, self._received))
            if not self.open:
                self.close()

    def close(self) -> None:
        self.open = False
        self._transport.close()

    def _read_head(self) -> bool:
        head, found, rest = self._received.partition(_END)
        if not found:
            return False
        self._head, self._received = head.lower(), rest
        length = Answer(0, 0.0, self._head).header("content-length")
        if not length.isdigit():
            raise ValueError(f"Expected an answer with a content-length, found {head!r}.")
        self._length = int(length)
        return True
