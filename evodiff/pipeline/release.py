"""The release file: what serves (``champion``, ``challenger``, ``previous``), what waits to (``pending``), and why.

All that write it share its format and its lock. The pipeline writes ``pending``, where the newest wins, and ``asked``,
the last word of a run on what it would like to see in traffic; all else is decided by whoever routes the traffic
(:mod:`evodiff.deployment.release.state`).
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from evodiff.engine.storage import FolderStorage
from evodiff.errors import LedgerError
from evodiff.pipeline.choice import Choice, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from evodiff.engine import Evaluation
    from evodiff.pipeline.run import Run

FORMAT: Final = 2
ROLES: Final = ("champion", "challenger", "previous", "pending")
EMPTY: Final[dict[str, Any]] = {
    "format": FORMAT,
    "revision": 0,
    **dict.fromkeys(ROLES),
    "reversible": False,
    "rollout": None,
    "quarantine": [],
    "decisions": [],
    "answers": [],
    "asked": None,
}
_FORMAT_1: Final = {"format", "revision", *ROLES}
_PATIENCE_SECONDS: Final = 5.0


def request_release(
    run: Run, generation: int, file: Path, *, remeasure: Callable[[Run, str], Evaluation] | None = None
) -> dict[str, Any]:
    """Write the candidate of a run that is worth a release as pending, and why, or why none is, as ``asked``.

    One that serves or waits already is not asked for again. Where it serves, or nothing on the front beats what does,
    an older candidate of the same run that waits is wanted no longer. ``remeasure`` is as for
    :func:`~evodiff.pipeline.choice.choose`. Returns what the file holds then.
    """
    while True:
        before = read_release(file)
        champion = before["champion"]
        choice = choose(run, champion, remeasure=remeasure, barred=rolled_back(before))
        with release_locked(file):
            release = read_release(file)
            if release["champion"] != champion:
                continue  # it was promoted meanwhile: compare with what serves now
            asked = {"run": run.name, "candidate": choice.candidate, "generation": generation, "reason": choice.reason}
            changed = {**release, "pending": _pending(release, asked, choice), "asked": asked}
            if changed["pending"] != release["pending"]:
                changed["revision"] += 1
            if changed != release:
                write_release(file, changed)
            return changed


def rolled_back(release: Mapping[str, Any]) -> set[str]:
    """Return the names of the versions that were rolled back, and may not be released again by themselves."""
    return {str(item["version"]) for item in release["quarantine"]}


def _pending(release: Mapping[str, Any], asked: Mapping[str, Any], choice: Choice) -> Any:
    """Return what waits after a run has asked for a candidate, or for none."""
    pending = release["pending"]
    wanted = {name: asked[name] for name in ("run", "candidate", "generation")}
    serves = any(_same(release[role], wanted, "run", "candidate") for role in ("champion", "challenger"))
    if choice.candidate is None or serves:
        return None if choice.settled and _same(pending, wanted, "run") else pending
    return pending if _same(pending, wanted, "run", "candidate") else wanted


def _same(entry: Mapping[str, Any] | None, wanted: Mapping[str, Any], *keys: str) -> bool:
    return entry is not None and all(entry.get(key) == wanted[key] for key in keys)


def read_release(file: Path) -> dict[str, Any]:
    """Return what a release file holds; one that does not exist says that nothing serves.

    A file of format 1, which knew no rollouts, is read as one of this format.

    Raises:
        LedgerError: the file is damaged or of another format.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return dict(EMPTY)
    except ValueError as error:
        raise LedgerError(
            f"Damaged release file {file}: {error}.", remedy="Restore it from a copy: it rules the traffic."
        ) from error
    if isinstance(content, dict) and content.get("format") == 1 and set(content) == _FORMAT_1:
        content = {**EMPTY, **content, "format": FORMAT}
    if not isinstance(content, dict) or content.get("format") != FORMAT or set(content) != set(EMPTY):
        raise LedgerError(
            f"{file} is no release file of format {FORMAT}.", remedy="Name another by EVODIFF_RELEASE_FILE."
        )
    return content


def write_release(file: Path, release: Mapping[str, Any]) -> None:
    """Write a release file whole, under its lock; when this returns it has reached the disk."""
    write_durably(file, json.dumps(release, sort_keys=True, indent=1).encode() + b"\n")


def write_durably(file: Path, content: bytes) -> None:
    """Write a file whole, and have its folder know of it, before this returns.

    Raises:
        LedgerError: the file system refuses; what was stored before is intact.
    """
    FolderStorage(file.parent).replace(file.name, content)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # a rename is only sure to outlive a power cut when the folder is written too
    finally:
        os.close(folder)


@contextmanager
def release_locked(file: Path) -> Iterator[None]:
    """Keep other writers on this machine out.

    Raises:
        LedgerError: another writer keeps the file locked for longer than a write takes.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + _PATIENCE_SECONDS
    with file.with_name(f".{file.name}.lock").open("w") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise LedgerError(
                        f"{file} is locked by another process.", remedy="End the process that holds it, or wait for it."
                    ) from error
                time.sleep(0.01)
        yield
