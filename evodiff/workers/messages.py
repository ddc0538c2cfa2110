"""Messages between a pool and its workers: one JSON object a line, over a pipe that only the two of them hold.

Nothing is shared between workers, so one that dies in the middle of a line harms no other; the cut line is dropped.
"""

from __future__ import annotations

import json
import os
from collections import deque
from typing import Any

_CHUNK = 1 << 16


def send(descriptor: int, message: dict[str, Any]) -> None:
    """Write one message, whole.

    Raises:
        ValueError: the message holds NaN or infinity.
        TypeError: it holds what JSON cannot.
        BrokenPipeError: the other end is gone.
    """
    write(descriptor, encode(message))


def encode(message: dict[str, Any]) -> bytes:
    """Return the message as a line."""
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def write(descriptor: int, line: bytes) -> None:
    """Write an encoded message, whole."""
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class MessageReader:
    """Cuts what arrives on a pipe into messages."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._partial = bytearray()
        self._waiting: deque[dict[str, Any]] = deque()

    def next_waiting(self) -> dict[str, Any] | None:
        """Return a message that has been read already, None if there is none."""
        return self._waiting.popleft() if self._waiting else None

    def read(self) -> bool:
        """Read once, blocking until something arrives; False where the other end is gone."""
        chunk = os.read(self.descriptor, _CHUNK)
        self._partial += chunk
        if b"\n" in chunk:
            *lines, rest = bytes(self._partial).split(b"\n")
            self._partial = bytearray(rest)
            self._waiting.extend(json.loads(line) for line in lines)
        return bool(chunk)
