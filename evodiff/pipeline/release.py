"""Ask for a release: the candidate that a run would like to see in traffic, written into the release file.

The file says what serves (``champion``, ``challenger``, ``previous``) and what waits to (``pending``). Only ``pending``
is written here, and the newest wins; what serves is decided by whoever routes the traffic.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from evodiff.engine.storage import FolderStorage
from evodiff.errors import LedgerError
from evodiff.pipeline.final import champion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from evodiff.pipeline.run import Run

FORMAT = 1
EMPTY: dict[str, Any] = {
    "format": FORMAT,
    "revision": 0,
    "champion": None,
    "challenger": None,
    "previous": None,
    "pending": None,
}


def request_release(run: Run, generation: int, file: Path) -> dict[str, Any]:
    """Write the champion of a run as pending, unless it serves or waits already; return what the file holds then.

    Where it serves, an older candidate of the same run that waits is wanted no longer.
    """
    best = champion(run)
    with _locked(file):
        release = read_release(file)
        if best is None:
            return release
        wanted = {"run": run.name, "candidate": best.id, "generation": generation}
        serves = any(_same(release[role], wanted, "run", "candidate") for role in ("champion", "challenger"))
        pending = None if serves and _same(release["pending"], wanted, "run") else release["pending"]
        if not serves and not _same(pending, wanted, "run", "candidate"):
            pending = wanted
        if pending == release["pending"]:
            return release
        release = {**release, "revision": release["revision"] + 1, "pending": pending}
        content = json.dumps(release, sort_keys=True, indent=1).encode() + b"\n"
        FolderStorage(file.parent).replace(file.name, content)
        return release


def _same(entry: Mapping[str, Any] | None, wanted: Mapping[str, Any], *keys: str) -> bool:
    return entry is not None and all(entry.get(key) == wanted[key] for key in keys)


def read_release(file: Path) -> dict[str, Any]:
    """Return what a release file holds; one that does not exist says that nothing serves.

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
    if not isinstance(content, dict) or content.get("format") != FORMAT or set(content) != set(EMPTY):
        raise LedgerError(
            f"{file} is no release file of format {FORMAT}.", remedy="Name another by EVODIFF_RELEASE_FILE."
        )
    return content


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Keep other writers on this machine out."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f".{file.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
