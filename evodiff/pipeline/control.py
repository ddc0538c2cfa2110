"""Whether a run is to go on, and why: what a driver that never sleeps asks again and again.

Nothing here remembers what it decided before: the answer follows from the run folder and the time, so a driver that was
down, paused or killed comes back to the same answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from evodiff.errors import LedgerError
from evodiff.pipeline.lease import holders, pending_requests
from evodiff.pipeline.requests import requests, submit
from evodiff.pipeline.steering import Policy, Steering, end_reason, is_exhausted, last_tick, steering

if TYPE_CHECKING:
    from evodiff.pipeline.run import Run

_FILE = "control.json"


class State(StrEnum):
    """What a person said about a run: go on, hold until ``resume``, or end after the generation at hand."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True)
class NextStep:
    """Whether generation ``generation`` is wanted now, and the reason in words."""

    wanted: bool
    reason: str
    generation: int


def state(run: Run) -> State:
    """Return what was last said about a run."""
    content = run.ledger.read(_FILE)
    if content is None:
        return State.RUNNING
    try:
        return State(json.loads(content)["state"])
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"Damaged {run.path / _FILE}: expected a state of {', '.join(State)}, found {error}.",
            remedy=f"Say it again: evodiff resume {run.path}",
        ) from error


def set_state(run: Run, wanted: State) -> None:
    """Say that a run is to go on, to hold, or to end; a generation that is being worked on is finished first."""
    content: dict[str, Any] = {"state": wanted.value}
    run.ledger.replace(_FILE, json.dumps(content, sort_keys=True).encode() + b"\n")


def next_step(run: Run, now: datetime) -> NextStep:
    """Decide whether a run wants its next generation, and write the request where its policy makes one.

    In this order: what a person said; an unfinished generation, which is always finished, unless it is one for which
    nothing is left to try; the ends; requests that wait; the policy. A run without any request belongs to whoever
    started it and is never continued from here.
    """
    generation = run.ledger.closed
    said = state(run)
    if said is not State.RUNNING:
        return NextStep(False, f"{run.name} is {said}", generation)
    if not requests(run):
        return NextStep(False, f"nobody asked for {run.name} to be continued", generation)
    if is_unfinished(run):
        return NextStep(True, f"generation {generation} is unfinished", generation)
    steered = steering(run)
    ended = end_reason(run, steered)
    if ended is not None:
        return NextStep(False, ended, generation)
    waiting = pending_requests(run)
    if waiting:
        return NextStep(True, f"asked for by {', '.join(waiting)}", generation)
    cause = _due(run, steered, now)
    if cause is None:
        return NextStep(False, _waiting(steered), generation)
    request = submit(run, cause, {}, now)
    return NextStep(True, f"asked for by {request.id} ({steered.policy})", generation)


def is_unfinished(run: Run) -> bool:
    """Return whether somebody took the next generation and something is left to try in it."""
    return bool(holders(run, since=run.ledger.closed)) and not is_exhausted(run)


def _due(run: Run, steered: Steering, now: datetime) -> dict[str, Any] | None:
    """Return the cause of a request that the policy makes now, None where it makes none."""
    if steered.policy is Policy.CONTINUOUS:
        return {"predecessor": run.ledger.closed - 1}
    if steered.policy is Policy.CRON and steered.cron is not None:
        tick = last_tick(steered.cron, now)
        return {"tick": tick.isoformat()} if all(tick > moment for moment in _ticked(run, now)) else None
    return None


def _ticked(run: Run, now: datetime) -> list[datetime]:
    """Return the times before which no tick counts: ticks that were followed, and when the cron was chosen.

    One in the future was written while a clock was wrong; it stops nothing.
    """
    moments = []
    for request in requests(run):
        if "tick" in request.cause:
            moments.append(datetime.fromisoformat(request.cause["tick"]))
        elif "cron" in request.steering or "policy" in request.steering:
            moments.append(datetime.fromisoformat(request.at))
    return [moment for moment in moments if moment <= now]


def _waiting(steered: Steering) -> str:
    if steered.policy is Policy.CRON:
        return f"waiting for the next tick of {steered.cron!r}"
    return "waiting for an alert"
