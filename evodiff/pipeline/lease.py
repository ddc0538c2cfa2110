"""Which generation is worked on, and by whom: ``open``, the first step of a generation.

``RUN/leases/0003.json`` is published first-wins. A driver that asks again under the same name gets its generation
back; an unfinished generation is adopted before a new one opens; so a command line and a scheduler meet on one run
without doing a generation twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evodiff.errors import LedgerError

if TYPE_CHECKING:
    from pathlib import Path

    from evodiff.pipeline.run import Run


@dataclass(frozen=True)
class Lease:
    """``generation`` is the one to work on, ``holder`` who took it first, ``requests`` what asked for it."""

    generation: int
    holder: str
    requests: tuple[str, ...]


def open_generation(run: Run, holder: str) -> Lease:
    """Take the lease of the next generation that has to be worked on, or adopt the unfinished one.

    Pending requests (``RUN/requests/ID.json`` that no lease names) are consumed by the lease of a new generation.
    """
    own = next((lease for lease in leases(run) if lease.holder == holder), None)
    if own is not None:
        return own
    generation = run.ledger.closed
    requests = tuple(pending_requests(run))
    content = {"generation": generation, "holder": holder, "requests": list(requests)}
    path = _lease_path(run, generation)
    run.ledger.publish(path, json.dumps(content, sort_keys=True).encode() + b"\n")
    return _read_lease(path)


def pending_requests(run: Run) -> list[str]:
    """Ids of the requests that no generation has consumed yet, in the order of their names."""
    folder = run.path / "requests"
    wanted = sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []
    consumed = {request for lease in leases(run) for request in lease.requests}
    return [request for request in wanted if request not in consumed]


def leases(run: Run) -> list[Lease]:
    """Read every lease of a run, oldest generation first."""
    folder = run.path / "leases"
    return [_read_lease(path) for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []


def _lease_path(run: Run, generation: int) -> Path:
    return run.path / "leases" / f"{generation:04d}.json"


def _read_lease(path: Path) -> Lease:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Lease(int(content["generation"]), str(content["holder"]), tuple(map(str, content["requests"])))
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"Damaged lease {path}: expected generation, holder and requests, found {error}.",
            remedy="Remove the file; the next driver takes the generation again.",
        ) from error
