"""What a person may ask of a release: start, promote, roll back, pause; each at most once by its idempotency key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from evodiff.deployment.release.entries import version_name
from evodiff.deployment.release.state import (
    ANSWERS,
    Phase,
    ReleaseConflict,
    ReleaseState,
    Rollout,
    advance,
    decide,
    quarantined,
    roll_back,
    same_version,
    withdraw,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Evidence = Mapping[str, Any]


class StaleRevision(ReleaseConflict):
    """A command rests on a revision that is no longer the current one."""


class Quarantine(ReleaseConflict):
    """A version that was rolled back is not started again, unless a person says so."""


@dataclass(frozen=True)
class Command:
    """A command: ``action`` with its ``fields``, the ``revision`` that it rests on, an idempotency ``key``, by whom.

    ``rollback`` needs no revision; one that is given counts.
    """

    action: str
    key: str
    by: str
    revision: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of what is asked for, by which a key used for something else is found."""
        content = json.dumps([self.action, self.revision, dict(self.fields)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def obey(
    state: ReleaseState, command: Command, now: float, evidence: Evidence | None = None, *, bound: bool = True
) -> tuple[ReleaseState, dict[str, Any]]:
    """Return the state after a command, and the answer; a command that was done gets the answer that it got then.

    The ``evidence`` that there was on the rollout is written beside what a person decided, whatever it said. Where it
    is not ``bound``, its revision is not looked at again.

    Raises:
        StaleRevision: the release has moved on since the revision that the command rests on.
        Quarantine: what is to be started was rolled back before.
        ReleaseConflict: the command does not fit, or its key was used for another.
    """
    known = next((item for item in state.answers if item["key"] == command.key), None)
    if known is not None:
        if known["digest"] != command.digest:
            raise ReleaseConflict(
                f"The idempotency key {command.key!r} was used for another command.", remedy="Give a new key."
            )
        return state, dict(known["answer"])
    bound = bound and (command.action != "rollback" or command.revision is not None)
    if bound and command.revision != state.revision:
        raise StaleRevision(
            f"The release is at revision {state.revision}, and the command rests on {command.revision}.",
            remedy="Look at it again (evodiff release status), and give the command for what stands there now.",
        )
    done = _ACTIONS[command.action](state, command, now, evidence or {})
    answer = {
        "revision": done.revision,
        "action": command.action,
        "reason": done.decisions[-1].reason,
        "weight": done.weight,
    }
    kept = {"key": command.key, "digest": command.digest, "answer": answer}
    return replace(done, answers=(*state.answers, kept)[-ANSWERS:]), answer


def _start(state: ReleaseState, command: Command, now: float, evidence: Evidence) -> ReleaseState:
    entry, said = dict(command.fields["entry"]), command.fields
    name = version_name(entry)
    if same_version(state.champion, entry) or same_version(state.challenger, entry):
        raise ReleaseConflict(f"{name} serves already.", remedy="Start another version.")
    changes: dict[str, Any] = {"pending": entry}
    held = quarantined(state, entry)
    if held is not None:
        if not said.get("despite_quarantine"):
            raise Quarantine(
                f"{name} is in quarantine: {held.reason}.", remedy="Start it with --despite-quarantine if you know why."
            )
        changes["quarantine"] = tuple(
            item for item in state.quarantine if item.version != name and item.digest != (held.digest or "")
        )
    if state.rollout is not None and said.get("replace"):
        state = withdraw(state, now, f"replaced by {name}", by=command.by, evidence=evidence)
    waits = "waits for the rollout to end" if state.rollout is not None else "is next"
    return decide(state, now, "request", f"{name} {waits}", by=command.by, about=entry, **changes)


def _promote(state: ReleaseState, command: Command, now: float, evidence: Evidence) -> ReleaseState:
    rollout = state.rollout
    if rollout is None or rollout.phase is not Phase.RUNNING:
        raise ReleaseConflict(
            "There is nothing to promote: "
            + ("no rollout." if rollout is None else f"the version is {rollout.phase}."),
            remedy="Start a rollout, or wait until its first step.",
        )
    reason = f"{command.by} said so" + (f", while it waited for {rollout.waits_for}" if rollout.waits_for else "")
    return advance(_approved(state, rollout), now, reason, by=command.by, evidence=evidence)


def _approved(state: ReleaseState, rollout: Rollout) -> ReleaseState:
    next_is_last = rollout.step >= len(rollout.steps) - 2
    return replace(state, rollout=replace(rollout, approved=rollout.approved or next_is_last))


def _rollback(state: ReleaseState, command: Command, now: float, evidence: Evidence) -> ReleaseState:
    reason = str(command.fields.get("reason") or f"{command.by} said so")
    return roll_back(state, now, reason, by=command.by, evidence=evidence)


def _pause(state: ReleaseState, command: Command, now: float, evidence: Evidence) -> ReleaseState:
    rollout, wanted = state.rollout, bool(command.fields.get("paused", True))
    if rollout is None:
        raise ReleaseConflict("There is nothing to pause: no rollout.", remedy="Start one: evodiff release start.")
    action, reason = ("pause", "guards go on") if wanted else ("go on", f"{command.by} said so")
    moved = replace(rollout, paused=wanted)
    return decide(state, now, action, reason, by=command.by, evidence=evidence, rollout=moved)


_ACTIONS: dict[str, Callable[[ReleaseState, Command, float, Evidence], ReleaseState]] = {
    "start": _start,
    "promote": _promote,
    "rollback": _rollback,
    "pause": _pause,
}
