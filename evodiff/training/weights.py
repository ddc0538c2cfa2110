"""Weights as they are published: a folder with ``weights.safetensors``, ``config.json`` and their digests.

A folder appears whole or not at all, and the first one to appear stays: a twin of the trial that comes later gets the
digest of what is there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

from evodiff.errors import LedgerError
from evodiff.training.state import TrainingState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

FORMAT = 1
WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
STATE = "training_state.safetensors"
DIGESTS = "digests.json"

_CANNOT_STORE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def save_weights(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    *,
    training_state: TrainingState | None = None,
) -> str:
    """Publish ``tensors`` and ``config`` (JSON) as ``folder``, and return the digest of what is there afterwards.

    That is what was given, or what a twin published first. ``training_state`` goes along for trials that may be
    promoted to a longer training; the digest covers it. A damaged folder in that place is replaced.

    Raises:
        LedgerError: the disk is full or read-only; what was stored before is intact.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _storing(folder):
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
        try:
            _write(temporary, tensors, config, training_state)
            if not _publish(temporary, folder) and _damage(folder):
                shutil.rmtree(folder)
                _publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return weights_digest(folder)


def load_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and config of a published folder, after comparing them with its digests.

    Raises:
        LedgerError: the folder is missing or damaged.
    """
    _check(folder)
    config: dict[str, Any] = json.loads((folder / CONFIG).read_bytes())
    return {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}, config


def load_training_state(folder: Path) -> TrainingState | None:
    """Return the state that was published with the weights, None if there was none.

    Raises:
        LedgerError: the folder is missing or damaged.
    """
    _check(folder)
    if not (folder / STATE).exists():
        return None
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / STATE).items()}
    return TrainingState(len(tensors["losses/all"]), tensors)


def weights_digest(folder: Path) -> str:
    """Return the digest under which an evaluation names these weights: SHA-256 over the digests of the files.

    Raises:
        LedgerError: the folder is missing, or its list of digests cannot be read.
    """
    files = _digests(folder)
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _write(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], state: TrainingState | None) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, sort_keys=True, indent=1, allow_nan=False) + "\n")
    if state is not None:
        save_file(dict(state.tensors), folder / STATE)
    digests = {path.name: _file_digest(path) for path in sorted(folder.iterdir())}
    (folder / DIGESTS).write_text(json.dumps({"format": FORMAT, "files": digests}, sort_keys=True, indent=1) + "\n")
    folder.chmod(0o755)  # mkdtemp makes it private
    for path in (*folder.iterdir(), folder):
        _flush(path)


def _publish(temporary: Path, folder: Path) -> bool:
    """Move the folder to its place, unless there is one already."""
    try:
        temporary.rename(folder)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            return False
        raise
    _flush(folder.parent)
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check(folder: Path) -> None:
    damage = _damage(folder)
    if damage:
        raise LedgerError(
            f"Weights {folder}: {damage}.", remedy="Remove the folder; the trial is trained again when it is needed."
        )


def _damage(folder: Path) -> str:
    """Say what is wrong with a folder, "" if nothing is."""
    try:
        files = _digests(folder)
    except LedgerError as error:
        return error.headline
    for name in {WEIGHTS, CONFIG, *files}:
        path = folder / name
        if not path.is_file():
            return f"expected the file {name}, found none"
        if _file_digest(path) != files.get(name):
            return f"expected {name} with digest {str(files.get(name))[:12]}, found {_file_digest(path)[:12]}"
    return ""


def _digests(folder: Path) -> dict[str, str]:
    try:
        content = json.loads((folder / DIGESTS).read_bytes())
        files = content["files"] if content["format"] == FORMAT else None
    except (OSError, ValueError, TypeError, KeyError):
        files = None
    if not isinstance(files, dict):
        raise LedgerError(
            f"expected published weights with a {DIGESTS} of format {FORMAT} in {folder}, found none that can be read",
            remedy="Remove the folder; the trial is trained again when it is needed.",
        )
    return {str(name): str(digest) for name, digest in files.items()}


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _storing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_STORE:
            raise
        raise LedgerError(
            f"Weights {folder} cannot be stored: {error.strerror}; what was stored before is intact.",
            remedy="Free space or mend the permissions, and resume.",
        ) from error
