"""Where a ledger's bytes live: a folder, or memory. Publication is create-if-absent, so that of two twins one wins."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from evodiff.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Half-written files wait here, apart from what two runs are compared by.
_PUBLISHING = "scratch/publishing"
_ABANDONED_SECONDS = 24 * 3600.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Storage(Protocol):
    """Named bytes; names are relative paths with forward slashes."""

    def read(self, name: str) -> bytes | None:
        """Return the content, or None where there is none."""
        ...

    def exists(self, name: str) -> bool:
        """Return whether there is such a name."""
        ...

    def publish(self, name: str, content: bytes) -> bool:
        """Create ``name`` whole, at once; return False, and change nothing, where it exists."""
        ...

    def replace(self, name: str, content: bytes) -> None:
        """Write ``name`` whole, at once, whether it exists or not: for derived files only."""
        ...

    def append(self, name: str, content: bytes) -> None:
        """Add to the end of ``name``: for telemetry only."""
        ...

    def move(self, name: str, to: str) -> None:
        """Move ``name`` away; nothing happens where another process has done so."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of what lies directly in ``folder``; none where it does not exist."""
        ...


class MemoryStorage:
    """Bytes in memory, for a search that needs no record."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, bytes]] = {}

    def read(self, name: str) -> bytes | None:
        """Return the content, or None."""
        folder, _, leaf = name.rpartition("/")
        return self._folders.get(folder, {}).get(leaf)

    def exists(self, name: str) -> bool:
        """Return whether there is such a name."""
        return self.read(name) is not None

    def publish(self, name: str, content: bytes) -> bool:
        """Create ``name``, or return False."""
        folder, _, leaf = name.rpartition("/")
        files = self._folders.setdefault(folder, {})
        if leaf in files:
            return False
        files[leaf] = content
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Write ``name``."""
        folder, _, leaf = name.rpartition("/")
        self._folders.setdefault(folder, {})[leaf] = content

    def append(self, name: str, content: bytes) -> None:
        """Add to ``name``."""
        self.replace(name, (self.read(name) or b"") + content)

    def move(self, name: str, to: str) -> None:
        """Move ``name`` to ``to``."""
        folder, _, leaf = name.rpartition("/")
        content = self._folders.get(folder, {}).pop(leaf, None)
        if content is not None:
            self.replace(to, content)

    def names(self, folder: str) -> list[str]:
        """Return the names in ``folder``."""
        return sorted(self._folders.get(folder, {}))


class FolderStorage:
    """Bytes in a folder of a file system that knows hard links.

    Every method raises :class:`LedgerError` when the file system refuses (full, read-only); what was stored before is
    intact then.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes | None:
        """Return the content, or None."""
        try:
            return self._path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LedgerError(
                f"Cannot read {self._path(name)}: {error.strerror}.", remedy="Make it readable and try again."
            ) from error

    def exists(self, name: str) -> bool:
        """Return whether there is such a name."""
        return self._path(name).exists()

    def publish(self, name: str, content: bytes) -> bool:
        """Create ``name`` by a temporary file, fsync and a hard link; return False where it exists."""
        target = self._path(name)
        if target.exists():
            return False
        with self._storing(target), self._temporary(target.name, content) as temporary:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Write ``name`` by a temporary file, fsync and a rename."""
        target = self._path(name)
        with self._storing(target), self._temporary(target.name, content) as temporary:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)

    def append(self, name: str, content: bytes) -> None:
        """Add to ``name`` in one write, so that lines of several processes do not mix."""
        target = self._path(name)
        with self._storing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                _write_all(descriptor, content)
            finally:
                os.close(descriptor)

    def move(self, name: str, to: str) -> None:
        """Move ``name`` to ``to``."""
        target = self._path(to)
        with self._storing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._path(name).replace(target)
            except FileNotFoundError:
                return

    def names(self, folder: str) -> list[str]:
        """Return the names in ``folder``."""
        try:
            return sorted(os.listdir(self._path(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def sweep(self, now: float) -> None:
        """Remove temporary files that a killed process left a day ago or earlier; ``now`` in seconds of the epoch."""
        for name in self.names(_PUBLISHING):
            path = self._path(f"{_PUBLISHING}/{name}")
            try:
                if now - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()
            except OSError:
                continue  # its owner, or another sweep, was faster; or the folder is there to be read only

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/"):
            raise LedgerError(
                f"Expected a path inside the run folder, found {name!r}.", remedy="Name a file of the run."
            )
        return self.root.joinpath(*parts)

    @contextmanager
    def _temporary(self, stem: str, content: bytes) -> Iterator[Path]:
        folder = self._path(_PUBLISHING)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem}.{os.getpid()}.{secrets.token_hex(6)}"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                _write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _storing(self, target: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = (
                "Free space and resume: what was stored before is intact."
                if error.errno in _FULL
                else "Use a writable file system with hard links and resume: what was stored before is intact."
            )
            raise LedgerError(f"Could not store {target}: {error.strerror}.", remedy=remedy) from error


def open_storage(where: Path | str | Storage | None) -> Storage:
    """Return the storage of a folder (which need not exist yet), memory for None, or the storage itself."""
    if where is None:
        return MemoryStorage()
    if not isinstance(where, Path | str):
        return where
    return FolderStorage(Path(where))


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
