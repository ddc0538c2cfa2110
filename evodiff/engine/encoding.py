"""How the ledger writes JSON: sorted keys, floats by ``repr``, no NaN or infinity, a newline at the end."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def encode_line(content: object) -> bytes:
    """Return one compact line.

    Raises:
        ValueError: a number is not finite.
        TypeError: a value has no JSON form.
    """
    text = json.dumps(content, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"


def encode_document(content: object) -> bytes:
    """Return an indented document; raises as :func:`encode_line` does."""
    return json.dumps(content, sort_keys=True, allow_nan=False, ensure_ascii=False, indent=1).encode() + b"\n"


def decode_lines(content: bytes) -> list[Any]:
    """Return what the lines hold.

    Raises:
        ValueError: a line is not JSON, or the last one was cut short.
    """
    if content and not content.endswith(b"\n"):
        raise ValueError("the last line has no end")
    return [json.loads(line) for line in content.splitlines()]


def digest(content: bytes) -> str:
    """Return the SHA-256 of some bytes in hex digits."""
    return hashlib.sha256(content).hexdigest()
