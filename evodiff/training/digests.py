"""Digests of published weights: whether a folder is whole, and the name of what it holds; asking takes no torch."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from evodiff.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = 1
WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
DIGESTS = "digests.json"


def weights_digest(folder: Path) -> str:
    """Return the digest under which an evaluation names these weights: SHA-256 over the digests of the files.

    Raises:
        LedgerError: the folder is missing, or its list of digests cannot be read.
    """
    digests = _digests(folder)
    if digests is None:
        raise damaged_weights(folder, f"it has no {DIGESTS} that can be read")
    return sha256(encode_json(digests))


def weights_damage(folder: Path) -> str:
    """Say what is wrong with a published folder, "" if nothing is."""
    digests = _digests(folder)
    if digests is None:
        return f"it has no {DIGESTS} that can be read"
    for name in (WEIGHTS, CONFIG):
        file = folder / name
        found = sha256(file.read_bytes()) if file.is_file() else "no such file"
        if found != digests.get(name):
            return f"{name} was published with digest {str(digests.get(name))[:12]}, found {found[:12]}"
    return ""


def read_weights(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the safetensors and the config of a published folder, after comparing them with its digests.

    Raises:
        LedgerError: the folder is missing or damaged.
    """
    damage = weights_damage(folder)
    if damage:
        raise damaged_weights(folder, damage)
    config: dict[str, Any] = json.loads((folder / CONFIG).read_bytes())
    return (folder / WEIGHTS).read_bytes(), config


def published_steps(folder: Path) -> int:
    """Return after how many training steps the weights in a folder were published, 0 where none are whole there."""
    return 0 if weights_damage(folder) else int(json.loads((folder / CONFIG).read_bytes())["steps"])


def damaged_weights(folder: Path, damage: str) -> LedgerError:
    """Return the error that names a folder and what is wrong with it."""
    return LedgerError(
        f"Expected published weights in {folder}, but {damage}.",
        remedy="Remove the folder; its trial is trained again where that is needed.",
    )


def encode_json(content: Mapping[str, Any]) -> bytes:
    """Return the bytes that are published, and digested, for a document."""
    return json.dumps(content, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"


def sha256(content: bytes) -> str:
    """Return the SHA-256 as hex digits."""
    return hashlib.sha256(content).hexdigest()


def _digests(folder: Path) -> dict[str, str] | None:
    try:
        content = json.loads((folder / DIGESTS).read_bytes())
        return dict(content["files"]) if content["format"] == FORMAT else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
