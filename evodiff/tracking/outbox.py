"""What MLflow has yet to hear of a run, while it cannot be reached: files so small because the ledger has the rest.

``RUN/outbox/track.json`` says that closed generations are missing, ``RUN/outbox/register-0003.json`` that the new
members of that generation's front are. Each tells since when, and why. ``RUN/outbox/lock`` is held by whoever delivers:
processes on this machine take turns, and the kernel frees it when its holder dies.
"""

from __future__ import annotations

import fcntl
import json
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evodiff.pipeline.run import Run

FOLDER = "outbox"
TRACK = "track.json"
_REGISTER = re.compile(r"register-(\d{4,})\.json")


def register_note(generation: int) -> str:
    """Return the name of the note that a registration waits."""
    return f"register-{generation:04d}.json"


def leave(run: Run, name: str, reason: str) -> None:
    """Leave a note, unless there is one of that name; ``reason`` says why it waits."""
    content = {"since": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason}
    run.ledger.publish(f"{FOLDER}/{name}", json.dumps(content, sort_keys=True).encode() + b"\n")


def take_away(run: Run, name: str) -> None:
    """Remove a note that has been seen to."""
    (run.path / FOLDER / name).unlink(missing_ok=True)


def waiting_registrations(run: Run) -> list[int]:
    """Return the generations whose registration waits, oldest first."""
    folder = run.path / FOLDER
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for name in names if (match := _REGISTER.fullmatch(name)))


@contextmanager
def delivering(run: Run) -> Iterator[None]:
    """Wait for other processes that deliver for this run, and keep them out."""
    folder = run.path / FOLDER
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
