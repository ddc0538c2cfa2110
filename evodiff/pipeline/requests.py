"""What a person or the world wants of a run: small files, written before anything is triggered, consumed by ``open``.

A request is named by the digest of its cause (a form, the generation before, a tick of a clock, an alert), so that the
same wish written twice, by twins or after a crash, is one request.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evodiff.errors import LedgerError
from evodiff.pipeline.lease import pending_requests

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

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
    """Write a request, or return the one that the same cause wrote before."""
    identifier = request_id(cause)
    content = {"cause": dict(cause), "steering": dict(steering), "at": now.isoformat(timespec="milliseconds")}
    run.ledger.publish(_name(identifier), json.dumps(content, sort_keys=True).encode() + b"\n")
    return _read(run, identifier)


def withdraw(run: Run, request: Request) -> None:
    """Take a request back, for one that was refused after it was written."""
    (run.path / _name(request.id)).unlink(missing_ok=True)


def request_id(cause: Mapping[str, Any]) -> str:
    """Return the id of the request that a cause writes."""
    return hashlib.sha256(json.dumps(cause, sort_keys=True).encode()).hexdigest()[:16]


def requests(run: Run) -> list[Request]:
    """Read every request of a run, in the order in which they were written."""
    folder = run.path / "requests"
    names = sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []
    return sorted((_read(run, name) for name in names), key=lambda request: (request.at, request.id))


def pending(run: Run) -> list[Request]:
    """Return the requests that no generation has consumed yet."""
    waiting = set(pending_requests(run))
    return [request for request in requests(run) if request.id in waiting]


def _name(identifier: str) -> str:
    return f"requests/{identifier}.json"


def _read(run: Run, identifier: str) -> Request:
    try:
        content = json.loads(run.ledger.read(_name(identifier)) or b"")
        return Request(identifier, dict(content["cause"]), dict(content["steering"]), str(content["at"]))
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"Damaged request {run.path / _name(identifier)}: expected cause, steering and at, found {error}.",
            remedy="Remove the file and ask again.",
        ) from error
