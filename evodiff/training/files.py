"""Files and folders that appear whole or not at all: written beside their place first, then moved."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from glob import escape
from typing import TYPE_CHECKING

from evodiff.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to, and remove what is left there in the end.

    Raises:
        LedgerError: the file system refuses (full, read-only); what stood at ``path`` is intact.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        remedy = "Free space" if error.errno in _FULL else "Put the run on a writable file system"
        raise LedgerError(
            f"Could not store {path}: {error.strerror}.",
            remedy=f"{remedy} and resume: what was stored before is intact.",
        ) from error
    finally:
        _remove(temporary)


def remove_abandoned(path: Path) -> None:
    """Remove what processes killed in the middle of :func:`staged` left beside ``path``."""
    for temporary in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        _remove(temporary)


def write_flushed(path: Path, content: bytes) -> None:
    """Write a file and have it reach the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Have the names in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # not there, or not to be reached: nothing that could be removed
            path.unlink()
