"""Frames between router and worker: a JSON header and raw bytes, each preceded by its length.

A frame is two unsigned 32-bit numbers in network order (bytes of header, bytes of body), the header, the body. A
reader refuses lengths over its limits before it reads on, so that a damaged peer costs no memory. Nothing is pickled.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    import socket

MAX_HEADER_BYTES: Final = 1 << 20
MAX_BODY_BYTES: Final = 1 << 28

_LENGTHS = struct.Struct("!II")


class FrameError(ValueError):
    """What arrived is no frame, or too large: the connection is of no use any more."""


@dataclass(frozen=True)
class Frame:
    """One message: ``header`` is plain JSON, ``body`` raw bytes."""

    header: dict[str, Any]
    body: bytes = b""


def encode(frame: Frame) -> bytes:
    """Return a frame as bytes.

    Raises:
        ValueError: the header holds NaN or infinity, or a part is over its limit.
    """
    header = json.dumps(frame.header, allow_nan=False, separators=(",", ":")).encode()
    _check(len(header), len(frame.body))
    return _LENGTHS.pack(len(header), len(frame.body)) + header + frame.body


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """Read one frame.

    Raises:
        FrameError: it is no frame, or too large.
        asyncio.IncompleteReadError: the peer is gone.
    """
    header, body = _lengths(await reader.readexactly(_LENGTHS.size))
    return _frame(await reader.readexactly(header), await reader.readexactly(body))


def receive_frame(peer: socket.socket) -> Frame | None:
    """Read one frame from a blocking socket; None where the peer is gone.

    Raises:
        FrameError: it is no frame, or too large.
    """
    start = _receive(peer, _LENGTHS.size)
    if start is None:
        return None
    header, body = (_receive(peer, length) for length in _lengths(start))
    return None if header is None or body is None else _frame(header, body)


def _lengths(content: bytes) -> tuple[int, int]:
    header, body = _LENGTHS.unpack(content)
    _check(header, body)
    return header, body


def _check(header: int, body: int) -> None:
    if header > MAX_HEADER_BYTES or body > MAX_BODY_BYTES:
        raise FrameError(
            f"Frame: expected a header of at most {MAX_HEADER_BYTES} bytes and a body of at most {MAX_BODY_BYTES}, "
            f"found {header} and {body}."
        )


def _frame(header: bytes, body: bytes) -> Frame:
    try:
        fields = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"Frame: expected a header of JSON, found {header[:40]!r}.") from error
    if not isinstance(fields, dict):
        raise FrameError(f"Frame: expected an object as header, found {type(fields).__name__}.")
    return Frame(fields, body)


def _receive(peer: socket.socket, length: int) -> bytes | None:
    content = bytearray(length)
    view = memoryview(content)
    while view:
        count = peer.recv_into(view)
        if count == 0:
            return None
        view = view[count:]
    return bytes(content)
