"""What MLflow has yet to hear of a run: files so small because the ledger has the rest.

``RUN/outbox/track.json`` says that closed generations are missing, for MLflow cannot be reached;
``RUN/outbox/register-0003.json`` that the new members of that generation's front are not registered, from the moment
when it is closed until they are. Each tells since when, and why; ``on_purpose`` that nothing is broken, for it waits
until members that inherited weights are trained from scratch. ``RUN/outbox/lock`` is held by whoever delivers:
processes on this machine take turns, and the kernel frees it when its holder dies.
"""

from __future__ import annotations

import fcntl
import json
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final

from evodiff.pipeline.archive.commands import again
from evodiff.tracking.server import TrackingUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evodiff.pipeline.run import Run

FOLDER = "outbox"
TRACK = "track.json"
PATIENCE_SECONDS: Final = 900.0  # a first delivery of a long run takes minutes
_REGISTER = re.compile(r"register-(\d{4,})\.json")


def ask_registration(run: Run, generation: int) -> None:
    """Leave a note that the new members of a generation's front are to be registered, once it is closed."""
    leave(run, register_note(generation), "nobody has registered its new members yet")


def register_note(generation: int) -> str:
    """Return the name of the note that a registration waits."""
    return f"register-{generation:04d}.json"


def leave(run: Run, name: str, reason: str) -> None:
    """Leave a note, unless there is one of that name; ``reason`` says why it waits."""
    run.ledger.publish(f"{FOLDER}/{name}", _note(reason))


def wait_on(run: Run, name: str, reason: str, *, on_purpose: bool) -> None:
    """Say of a note for what it waits now, and whether nothing is broken; ``since`` is of the last change."""
    before = _read(run, name)
    if bool(before.get("on_purpose")) != on_purpose or before.get("reason") != reason:
        run.ledger.replace(f"{FOLDER}/{name}", _note(reason, **({"on_purpose": True} if on_purpose else {})))


def _read(run: Run, name: str) -> dict[str, Any]:
    try:
        content = json.loads((run.path / FOLDER / name).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _note(reason: str, **more: Any) -> bytes:
    content = {"since": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason, **more}
    return json.dumps(content, sort_keys=True).encode() + b"\n"


def take_away(run: Run, name: str) -> None:
    """Remove a note that has been seen to."""
    (run.path / FOLDER / name).unlink(missing_ok=True)


def waiting_registrations(run: Run) -> list[int]:
    """Return the closed generations whose registration waits, oldest first."""
    folder = run.path / FOLDER
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    noted = sorted(int(match[1]) for name in names if (match := _REGISTER.fullmatch(name)))
    return [generation for generation in noted if generation < run.ledger.closed]


@contextmanager
def delivering(run: Run) -> Iterator[None]:
    """Wait for other processes that deliver for this run, and keep them out.

    Raises:
        TrackingUnreachable: one of them went on delivering for longer than anybody waits.
    """
    folder = run.path / FOLDER
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as stream:
        _take(stream, run.name)
        yield


def _take(stream: IO[str], name: str) -> None:
    for _ in again(PATIENCE_SECONDS):
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return
    raise TrackingUnreachable(
        f"Another process has been delivering for {name} for more than {PATIENCE_SECONDS:g} seconds.",
        remedy=f"End it if it hangs: its process holds {stream.name}; then run `evodiff track` again.",
    )
