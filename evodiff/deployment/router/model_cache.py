"""Copies of models while they are served, in a folder of this router's own; those of routers that are gone go too."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import IO

_PREFIX = "router-"


class ModelCache:
    """A folder below ``root`` that a lock marks as in use for as long as this process lives."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned(root)
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        self._lock: IO[str] = (self.folder / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._count = 0

    def new_folder(self) -> Path:
        """Return the name of a folder that does not exist yet."""
        self._count += 1
        return self.folder / f"model-{self._count:06d}"

    def close(self) -> None:
        """Remove the copies."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    @staticmethod
    def _remove_abandoned(root: Path) -> None:
        for folder in root.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError), (folder / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
