"""The working copy of an archive: created where there is none, one process at a time, mended after a kill.

The lock is the one that DVC itself takes, so that a person's ``dvc gc`` in the archive and a generation on its way into
it wait for each other.
"""

from __future__ import annotations

import fcntl
import filecmp
import json
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from evodiff.errors import EvodiffError
from evodiff.pipeline.archive.commands import PATIENCE_SECONDS, Commands, again
from evodiff.pipeline.archive.entries import Entries, write_entries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import TextIOWrapper
    from pathlib import Path

MARKER = "evodiff-archive.json"
FORMAT = "evodiff-archive-1"

# A lock that a killed git left is removed after this time; nobody holds it so long who is alive and not at a keyboard.
_ABANDONED_SECONDS = 3.0

# What the mark of a process that works in an archive says after an error; nothing in it means that it was killed.
_FAILED = "failed"

_SKELETON = {
    ".gitattributes": "* -text\n",
    ".gitignore": "/.remote/\n",
    ".dvcignore": "/.remote\n.rebuild\n",
    ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
    "archive/.gitignore": (
        "/datasets/*/dataset.safetensors\n/*/g[0-9]*/plan.jsonl\n/*/g[0-9]*/evaluations/\n/*/.rebuild/\n"
    ),
}


@dataclass(frozen=True)
class Repository:
    """An archive whose lock is held by this process."""

    path: Path
    commands: Commands

    @property
    def remote(self) -> str:
        """Where its data are pushed to: the URL it was created with, by default a folder of its own."""
        return _read_marker(self.path)["remote"] or str(self.own_remote)

    @property
    def cache(self) -> Path:
        """Where DVC keeps the data."""
        return self.path / ".dvc" / "cache"

    @property
    def own_remote(self) -> Path:
        """The folder of its own that data are pushed to where no other remote is named."""
        return self.path / ".remote"

    def share_remote(self) -> None:
        """Make one file of what lies both in the cache and in the archive's own remote, where the disk can.

        Neither is ever written to in place: DVC and :mod:`.garbage` put whole files there and take them away.
        """
        for file in (self.own_remote / "files" / "md5").glob("[0-9a-f][0-9a-f]/*"):
            twin = self.cache / file.relative_to(self.own_remote)
            if twin.is_file() and not file.samefile(twin) and filecmp.cmp(file, twin, shallow=False):
                _link(twin, file)

    def last_commit(self, path: str) -> str | None:
        """Return the id of the last commit that touched ``path``, None where there is none."""
        return self.commands.git("log", "-1", "--format=%H", "--", path).strip() or None

    def tracks(self, path: str) -> bool:
        """Tell whether git knows a file."""
        return bool(self.commands.git("ls-files", "--", path))

    def commit(self, message: str, *paths: str) -> None:
        """Commit what is at ``paths``."""
        self.commands.git("add", "--", *paths)
        self.commands.git("commit", "--quiet", "--message", message)


def create_archive(path: Path, remote: str | None = None, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Create an archive in the new or empty folder ``path``; nothing happens where it is one.

    ``remote`` is a URL that DVC can push to, such as ``s3://bucket/archive``; None takes the setting
    ``archive_remote``, and without that the folder ``.remote`` in the archive.

    Raises:
        EvodiffError: ``path`` holds something else, or git is missing.
    """
    with opened(path, remote, patience_seconds=patience_seconds):
        pass


@contextmanager
def opened(
    path: Path, remote: str | None = None, *, patience_seconds: float = PATIENCE_SECONDS
) -> Iterator[Repository]:
    """Hold an archive, created where there is none and mended where a process was killed in it.

    Raises:
        EvodiffError: ``path`` holds something else, or its lock is held all the time.
    """
    path = path.resolve()
    _check_place(path)
    busy = path / ".dvc" / "tmp" / "evodiff-archiving"
    busy.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path / ".dvc" / "tmp" / "lock", patience_seconds) as lock:
        repository = Repository(path, Commands(path, lock, patience_seconds))
        if busy.exists():
            _mend(repository, killed=busy.read_text(encoding="utf-8") != _FAILED)
        busy.write_text("", encoding="utf-8")
        try:
            if not _has_commit(path):
                _create(repository, remote)
            write_config(repository)
            yield repository
        except EvodiffError:
            busy.write_text(_FAILED, encoding="utf-8")
            raise
        busy.unlink()


def write_config(repository: Repository) -> None:
    """Write the configuration of DVC that the archive and its clones share."""
    text = f"""\
[core]
    analytics = false
    check_update = false
    remote = archive
[cache]
    type = "reflink,hardlink,copy"
[remote "archive"]
    url = "{repository.remote}"
"""
    (repository.path / ".dvc").mkdir(exist_ok=True)
    (repository.path / ".dvc" / "config").write_text(text, encoding="utf-8")


def _check_place(path: Path) -> None:
    """Take a new or empty folder by a marker; refuse one that holds anything else, such as a person's checkout."""
    if not (path / MARKER).exists():
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise EvodiffError(
                f"{path} is not an archive: expected {MARKER} in it, or an empty folder.",
                remedy="Name another folder by --archive or EVODIFF_ARCHIVE; an archive is a working copy of its own.",
            )
        path.mkdir(parents=True, exist_ok=True)
        (path / MARKER).touch()


def _read_marker(path: Path) -> dict[str, Any]:
    marker: dict[str, Any] = json.loads((path / MARKER).read_bytes())
    if marker.get("format") != FORMAT:
        raise EvodiffError(
            f"{path} is an archive of another format: expected {FORMAT!r}, found {marker.get('format')!r}.",
            remedy="Archive with the version of evodiff that created it, or into another folder.",
        )
    return marker


def _create(repository: Repository, remote: str | None) -> None:
    from evodiff.settings import load_settings

    path, git = repository.path, repository.commands.git
    remote = remote or load_settings({}).archive_remote
    (path / MARKER).write_text(json.dumps({"format": FORMAT, "remote": remote}, indent=1) + "\n", encoding="utf-8")
    git("init", "--quiet", "--template=", "--initial-branch=main")
    for name, text in _SKELETON.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text, encoding="utf-8")
    for name in ("dvc.yaml", "README.md"):
        (path / name).write_bytes(skeleton(name))
    write_entries(path, Entries())
    write_config(repository)
    repository.commit("Create the archive", ".")


def skeleton(name: str) -> bytes:
    """Return a file that every archive begins with."""
    return files("evodiff.pipeline.archive").joinpath("skeleton", name).read_bytes()


@contextmanager
def _locked(file: Path, patience_seconds: float) -> Iterator[int]:
    with file.open("a+", encoding="utf-8") as stream:
        _take(stream, patience_seconds)
        try:
            yield stream.fileno()
        finally:
            fcntl.flock(stream, fcntl.LOCK_UN)


def _take(stream: TextIOWrapper, patience_seconds: float) -> None:
    for _ in again(patience_seconds):
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return
    raise EvodiffError(
        f"{stream.name} was held by another process for {patience_seconds:g} seconds.",
        remedy="Wait until DVC, or another evodiff, has ended its work in the archive, and archive again.",
    )


def _mend(repository: Repository, *, killed: bool) -> None:
    """Put back what the last commit holds, after a process that failed, or was killed, between two steps."""
    if killed:
        for lock in _git_locks(repository.path):
            _remove_abandoned(lock)
    if _has_commit(repository.path):
        repository.commands.git("reset", "--quiet", "--hard")


def _has_commit(path: Path) -> bool:
    heads = path / ".git" / "refs" / "heads"
    return (path / ".git" / "packed-refs").exists() or (heads.is_dir() and any(heads.iterdir()))


def _link(source: Path, target: Path) -> None:
    """Put a second name of ``source`` in the place of ``target``, unless the file system has none."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    with suppress(OSError):
        os.link(source, partial)
        partial.replace(target)


def _git_locks(path: Path) -> list[Path]:
    return [*(path / ".git").glob("*.lock"), *(path / ".git" / "refs").rglob("*.lock")]


def _remove_abandoned(lock: Path) -> None:
    """Remove a lock of git unless somebody turns out to be working with it."""
    before = _identity(lock)
    time.sleep(_ABANDONED_SECONDS)
    if before is not None and _identity(lock) == before:
        lock.unlink(missing_ok=True)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
