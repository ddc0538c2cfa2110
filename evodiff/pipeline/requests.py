"""What a person or the world wants of a run: small files, written before anything is triggered, consumed by ``open``.

A request is named by the digest of its cause (a form, the generation before, a tick of a clock, an alert), so that the
same wish written twice, by twins or after a crash, is one request.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from evodiff.errors import LedgerError
from evodiff.pipeline.lease import pending_requests

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evodiff.pipeline.run import Run


@dataclass(frozen=True)
class Request:
    """``cause`` says what it is known by, ``steering`` what it changes from then on, ``at`` when it was written (UTC).

    ``id`` is the first 16 hex digits of the SHA-256 of the cause.
    """

    id: str
    cause: Mapping[str, Any]
    steering: Mapping[str, Any]
    at: str


def submit(run: Run, cause: Mapping[str, Any], steering: Mapping[str, Any], now: datetime) -> Request:
    """Write a request, or return the one that the same cause wrote before.

    It comes after all that are there, though a clock was set back or is behind another's: the last word must be last.
    """
    identifier = request_id(cause)
    written = requests(run)
    at = now.astimezone(UTC)
    if written:
        at = max(at, datetime.fromisoformat(written[-1].at) + timedelta(milliseconds=1))
    content = {"cause": dict(cause), "steering": dict(steering), "at": at.isoformat(timespec="milliseconds")}
    run.ledger.publish(_name(identifier), json.dumps(content, sort_keys=True).encode() + b"\n")
    return _read(run, identifier, run.ledger.read(_name(identifier)) or b"")


def request_id(cause: Mapping[str, Any]) -> str:
    """Return the id of the request that a cause writes."""
    return hashlib.sha256(json.dumps(cause, sort_keys=True).encode()).hexdigest()[:16]


def requests(run: Run) -> list[Request]:
    """Read every request of a run, in the order in which they were written."""
    folder = run.path / "requests"
    names = sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []
    contents = [(name, run.ledger.read(_name(name))) for name in names]
    found = [_read(run, name, content) for name, content in contents if content is not None]  # None: removed meanwhile
    return sorted(found, key=lambda request: (request.at, request.id))


def pending(run: Run) -> list[Request]:
    """Return the requests that no generation has consumed yet."""
    waiting = set(pending_requests(run))
    return [request for request in requests(run) if request.id in waiting]


def request_path(run: Run, identifier: str) -> Path:
    """Return the file of a request."""
    return run.path / _name(identifier)


def _name(identifier: str) -> str:
    return f"requests/{identifier}.json"


def _read(run: Run, identifier: str, content: bytes) -> Request:
    try:
        found = json.loads(content)
        at = datetime.fromisoformat(found["at"]).astimezone(UTC).isoformat(timespec="milliseconds")
        return Request(identifier, dict(found["cause"]), dict(found["steering"]), at)
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"Damaged request {request_path(run, identifier)}: expected cause, steering and at, found {error}.",
            remedy="Remove the file and ask again.",
        ) from error
