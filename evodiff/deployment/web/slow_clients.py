"""HTTP connections on which a client must ask and take its answer in bounded time and space."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from evodiff.deployment.web.loop_lag import LoopLag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.deployment.settings import ServingSettings

MOST_HEADER_BYTES = 32768

_ARRIVED, _LAG = "arrived", "lag"
_ROUNDS = 3


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on headers: 408 after ``header_seconds``, 431 over 32 KiB and what a body may be.

    Who has not taken an answer ``answer_seconds`` after it was sent loses the connection, and the answer its memory.
    uvicorn itself has none of these: it bounds only how long a connection may idle between requests. Its own bound on
    connections does not say when to come again; here those over ``most_connections`` get 503 with Retry-After. When a
    request arrived, and the ``lag`` of the loop then, stand in the state of its scope, for :func:`waited`.
    """

    lag: ClassVar[LoopLag] = LoopLag()
    header_seconds: ClassVar[float] = 10.0
    answer_seconds: ClassVar[float] = 60.0
    most_bytes: ClassVar[int] = MOST_HEADER_BYTES
    most_connections: ClassVar[int] = 1024

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for headers."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # of whatever a client does not take at once, this is to be told
        self._timer: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_timer()
        self._stop_reading()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for a client to take what was sent."""
        super().pause_writing()
        if self._reading is None:
            self._reading = asyncio.get_running_loop().call_later(self.answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Wait no longer: it has taken all of it."""
        self._stop_reading()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Count what comes before the headers are whole."""
        if self._timer is not None:
            self._received += len(data)
            if self._received > self.most_bytes:
                self._refuse(b"431 Request Header Fields Too Large")
                return
        super().data_received(data)
        if self._owes_a_request():
            self._expect_headers()

    def on_message_begin(self) -> None:
        """Begin to wait for the headers of the next request on this connection."""
        super().on_message_begin()
        self.scope["state"] |= {_ARRIVED: time.monotonic(), _LAG: self.lag.seconds}
        if self._timer is None:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        """Wait no longer: the app bounds the body."""
        self._stop_timer()
        if len(self.connections) > self.most_connections:
            self.app = _overfull
        super().on_headers_complete()

    def _owes_a_request(self) -> bool:
        """Tell whether something came that is no request, so that nobody would end the connection any more."""
        timed = self._timer is not None or self.timeout_keep_alive_task is not None
        answered = self.cycle is None or self.cycle.response_complete
        return not timed and answered and not self.transport.is_closing()

    def _expect_headers(self) -> None:
        self._received = 0
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.header_seconds, self._refuse, b"408 Request Timeout")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _refuse(self, status: bytes) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()


async def _overfull(scope: Any, receive: Any, send: Any) -> None:
    body = json.dumps({"detail": "Too many connections are open. Come again in a second."}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        (b"retry-after", b"1"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def waited(scope: Mapping[str, Any]) -> float:
    """Return how many seconds of a request's time are gone, or will be on its way through a loop that is late; 0 where
    another protocol took it in.

    It waits for the loop before it is read, when its images have come from the worker, and when what waits for them
    goes on.
    """
    now, state = time.monotonic(), scope.get("state", {})
    return max(0.0, now - float(state.get(_ARRIVED, now))) + _ROUNDS * float(state.get(_LAG, 0.0))


def lagged(scope: Mapping[str, Any]) -> float:
    """Return those seconds of :func:`waited` that are the loop's alone, and no client's."""
    return _ROUNDS * float(scope.get("state", {}).get(_LAG, 0.0))


def bounded_protocol(settings: ServingSettings, lag: LoopLag) -> type[BoundedProtocol]:
    """Return the protocol with the bounds that settings name, in a loop of a lag."""
    bounds = {
        "lag": lag,
        "header_seconds": settings.header_seconds,
        "answer_seconds": settings.answer_seconds,
        "most_bytes": MOST_HEADER_BYTES + settings.max_body_bytes,  # a first read may hold the body too
        "most_connections": settings.max_connections,
    }
    return type("BoundedProtocol", (BoundedProtocol,), bounds)
