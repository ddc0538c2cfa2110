"""Which generation is worked on, and by whom: ``open``, the first step of a generation.

``RUN/leases/0003.json`` is published first-wins. A driver that asks again under the same name gets its generation
back; an unfinished generation is adopted before a new one opens; so a command line and a scheduler meet on one run
without doing a generation twice. Of a scheduler's drivers, whose lives can be asked for, the second on a generation
publishes ``0003.2.json``, and so on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evodiff.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from evodiff.pipeline.run import Run


@dataclass(frozen=True)
class Lease:
    """``generation`` is the one to work on, ``holder`` who took or adopted it, ``requests`` what is met by that."""

    generation: int
    holder: str
    requests: tuple[str, ...]


def open_generation(
    run: Run, holder: str, *, is_active: Callable[[str], bool] | None = None, asks: Sequence[str] = ()
) -> Lease:
    """Take the lease of the next generation that has to be worked on, or adopt the unfinished one.

    Pending requests (``RUN/requests/ID.json`` that no lease names) are consumed by the lease of a new generation, those
    that ``asks`` names, written or not, by that of an adopted one too. ``is_active`` tells whether a holder is alive:
    the lease of one that is comes back as it is. Without it everybody shares the first lease.
    """
    own = next((lease for lease in leases(run) if lease.holder == holder), None)
    if own is not None:
        return own
    generation = run.ledger.closed
    turn, lease = 1, _publish(run, generation, 1, holder, dict.fromkeys([*pending_requests(run), *asks]))
    while is_active is not None and lease.holder != holder and not is_active(lease.holder):
        turn += 1
        lease = _publish(run, generation, turn, holder, asks)
    return lease


def holders(run: Run, *, since: int) -> list[str]:
    """Return who took or adopted generation ``since`` or a later one, the newest first."""
    return [lease.holder for lease in reversed(leases(run)) if lease.generation >= since]


def pending_requests(run: Run) -> list[str]:
    """Ids of the requests that no generation has consumed yet, in the order of their names."""
    folder = run.path / "requests"
    wanted = sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []
    consumed = {request for lease in leases(run) for request in lease.requests}
    return [request for request in wanted if request not in consumed]


def leases(run: Run) -> list[Lease]:
    """Read every lease of a run, oldest generation first, and of a generation in the order of its drivers."""
    folder = run.path / "leases"
    return [_read_lease(path) for path in sorted(folder.glob("*.json"), key=_place)] if folder.is_dir() else []


def _publish(run: Run, generation: int, turn: int, holder: str, requests: Iterable[str]) -> Lease:
    """Publish a lease, unless there is one, and return the one that is there then."""
    content = {"generation": generation, "holder": holder, "requests": list(requests)}
    path = run.path / "leases" / (f"{generation:04d}.json" if turn == 1 else f"{generation:04d}.{turn}.json")
    run.ledger.publish(path, json.dumps(content, sort_keys=True).encode() + b"\n")
    return _read_lease(path)


def _place(path: Path) -> list[int]:
    """Return generation and turn: names alone would put 0003.2.json before 0003.json, and 10 before 2."""
    return [int(part) if part.isdigit() else 0 for part in path.stem.split(".")]


def _read_lease(path: Path) -> Lease:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Lease(int(content["generation"]), str(content["holder"]), tuple(map(str, content["requests"])))
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"Damaged lease {path}: expected generation, holder and requests, found {error}.",
            remedy="Remove the file; the next driver takes the generation again.",
        ) from error
