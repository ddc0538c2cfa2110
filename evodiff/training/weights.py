"""Weights as they are published: a folder with ``weights.safetensors``, ``config.json`` and their digests.

A folder appears whole or not at all, and the first one to appear stays: a twin of the trial that comes later gets the
digest of what is there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

from safetensors.torch import load, save

from evodiff.errors import LedgerError
from evodiff.training.files import flush_folder, remove_abandoned, staged, write_flushed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

FORMAT = 1
WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
DIGESTS = "digests.json"

_TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}


def save_weights(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """Publish ``tensors`` and ``config`` (JSON) as ``folder``, and return the digest of what is there afterwards.

    That is what was given, or what a twin published first. A damaged folder in that place is replaced.

    Raises:
        LedgerError: the disk is full or read-only; what was stored before is intact.
    """
    contents = {
        WEIGHTS: save({name: tensor.contiguous() for name, tensor in tensors.items()}),
        CONFIG: _encode(config),
    }
    contents[DIGESTS] = _encode({"format": FORMAT, "files": {name: _sha256(data) for name, data in contents.items()}})
    with staged(folder) as temporary:
        try:
            _write(temporary, contents)
            if not _publish(temporary, folder) and weights_damage(folder):
                shutil.rmtree(folder)
                _publish(temporary, folder)
        except FileNotFoundError:
            if not folder.exists():  # else a twin has published, and taken our files for abandoned ones
                raise
    remove_abandoned(folder)
    return weights_digest(folder)


def load_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and config of a published folder, after comparing them with its digests.

    Raises:
        LedgerError: the folder is missing or damaged.
    """
    damage = weights_damage(folder)
    if damage:
        raise _damaged(folder, damage)
    config: dict[str, Any] = json.loads((folder / CONFIG).read_bytes())
    return load((folder / WEIGHTS).read_bytes()), config


def weights_digest(folder: Path) -> str:
    """Return the digest under which an evaluation names these weights: SHA-256 over the digests of the files.

    Raises:
        LedgerError: the folder is missing, or its list of digests cannot be read.
    """
    digests = _digests(folder)
    if digests is None:
        raise _damaged(folder, f"it has no {DIGESTS} that can be read")
    return _sha256(_encode(digests))


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, content in contents.items():
        write_flushed(folder / name, content)
    flush_folder(folder)


def _publish(temporary: Path, folder: Path) -> bool:
    """Move the folder to its place, unless there is one already."""
    try:
        temporary.rename(folder)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    flush_folder(folder.parent)
    return True


def weights_damage(folder: Path) -> str:
    """Say what is wrong with a published folder, "" if nothing is."""
    digests = _digests(folder)
    if digests is None:
        return f"it has no {DIGESTS} that can be read"
    for name in (WEIGHTS, CONFIG):
        file = folder / name
        found = _sha256(file.read_bytes()) if file.is_file() else "no such file"
        if found != digests.get(name):
            return f"{name} was published with digest {str(digests.get(name))[:12]}, found {found[:12]}"
    return ""


def _digests(folder: Path) -> dict[str, str] | None:
    try:
        content = json.loads((folder / DIGESTS).read_bytes())
        return dict(content["files"]) if content["format"] == FORMAT else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _damaged(folder: Path, damage: str) -> LedgerError:
    return LedgerError(
        f"Expected published weights in {folder}, but {damage}.",
        remedy="Remove the folder; its trial is trained again where that is needed.",
    )


def _encode(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
