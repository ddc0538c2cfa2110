"""Weights as they are published: a folder with ``weights.safetensors``, ``config.json`` and their digests.

A folder appears whole or not at all, and the first one to appear stays: a twin of the trial that comes later gets the
digest of what is there.
"""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING, Any

from safetensors.torch import load, save

from evodiff.training.digests import (
    CONFIG,
    DIGESTS,
    FORMAT,
    WEIGHTS,
    encode_json,
    read_weights,
    sha256,
    weights_damage,
    weights_digest,
)
from evodiff.training.files import flush_folder, remove_abandoned, staged, write_flushed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}


def save_weights(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """Publish ``tensors`` and ``config`` (JSON) as ``folder``, and return the digest of what is there afterwards.

    That is what was given, or what a twin published first. A damaged folder in that place is replaced.

    Raises:
        LedgerError: the disk is full or read-only; what was stored before is intact.
    """
    contents = {
        WEIGHTS: save({name: tensor.contiguous() for name, tensor in tensors.items()}),
        CONFIG: encode_json(config),
    }
    contents[DIGESTS] = encode_json(
        {"format": FORMAT, "files": {name: sha256(data) for name, data in contents.items()}}
    )
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
    content, config = read_weights(folder)
    return load(content), config


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
