"""What serves, what is on its way to, and why: a pure state machine whose every transition is a decision on record.

    pending -> loading -> running (weight 0, then step by step) -> champion
                       -> proving (no champion yet: synthetic load) -> champion
    loading, proving, running -> rolled back (quarantined) or withdrawn (out of time, replaced, could not be loaded)

Transitions take a state and return another; the same object where nothing changes. ``now`` is in UNIX seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from evodiff.deployment.release.entries import entry_named, names_of, served_as, version_name
from evodiff.errors import EvodiffError, LedgerError
from evodiff.pipeline.release import EMPTY, FORMAT

if TYPE_CHECKING:
    from evodiff.deployment.release.rollout_options import RolloutOptions

DECISIONS: Final = 200  # decisions that are kept
ANSWERS: Final = 100  # answers to commands that are kept
QUARANTINE: Final = 1000

Entry = Mapping[str, Any]
_STRICT = ConfigDict(extra="forbid")


class ReleaseConflict(EvodiffError):  # noqa: N818 - reads as the fact it states
    """A command does not fit what serves now; nothing was changed."""


class Phase(StrEnum):
    """Where a rollout is; ``PROVING`` is the first champion's, under synthetic load."""

    LOADING = "loading"
    PROVING = "proving"
    RUNNING = "running"


class Wait(StrEnum):
    """What a rollout waits for a person for."""

    APPROVAL = "approval"
    INCONCLUSIVE = "inconclusive"


@checked(frozen=True, config=_STRICT)
class Rollout:
    """The challenger's way to all of the traffic.

    ``steps`` are weights, shares of clients that ascend to 1; ``step`` is the index of the one that holds, -1 before
    the first. ``approval`` says that a person is asked before the last step.
    """

    id: str
    steps: tuple[float, ...]
    started_at: float
    step_started_at: float
    phase: Phase = Phase.LOADING
    step: int = -1
    paused: bool = False
    approval: bool = False
    approved: bool = False
    waits_for: Wait | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where the parts contradict each other."""
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[-1] != 1 or self.steps[0] < 0:
            raise ValueError(f"steps that do not ascend from at least 0 to 1: {self.steps}")
        if not -1 <= self.step < len(self.steps) or (self.phase is not Phase.RUNNING and self.step != -1):
            raise ValueError(f"no step {self.step} in phase {self.phase}")

    @property
    def weight(self) -> float:
        """The canary's share of clients."""
        return self.steps[self.step] if self.step >= 0 else 0.0

    @property
    def last(self) -> bool:
        """Whether all clients are the canary's."""
        return self.step == len(self.steps) - 1

    @property
    def held(self) -> bool:
        """Whether a person has to speak before it goes on."""
        return self.paused or self.waits_for is not None


@checked(frozen=True, config=_STRICT)
class Quarantined:
    """A version that was rolled back: by its name, and by the digest of its weights where that was known."""

    version: str
    at: float
    reason: str
    digest: str | None = None


@checked(frozen=True, config=_STRICT)
class DecisionRecord:
    """A decision, and the evidence for it; ``weight`` is what holds after it."""

    revision: int
    at: float
    action: str
    reason: str
    by: str
    version: str | None = None
    rollout: str | None = None
    weight: float = 0.0
    evidence: Mapping[str, Any] = field(default_factory=dict)


@checked(frozen=True, config=_STRICT)
class ReleaseState:
    """What ``release.json`` holds. ``reversible`` says that ``previous`` is loaded still and can be gone back to."""

    revision: int = 0
    champion: Mapping[str, Any] | None = None
    challenger: Mapping[str, Any] | None = None
    previous: Mapping[str, Any] | None = None
    pending: Mapping[str, Any] | None = None
    reversible: bool = False
    rollout: Rollout | None = None
    quarantine: tuple[Quarantined, ...] = ()
    decisions: tuple[DecisionRecord, ...] = ()
    answers: tuple[Mapping[str, Any], ...] = ()
    asked: Mapping[str, Any] | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Raise ValueError where the parts contradict each other."""
        if (self.challenger is None) != (self.rollout is None):
            raise ValueError("a challenger and its rollout come together, and one is missing")
        if self.reversible and (self.previous is None or self.rollout is not None):
            raise ValueError("nothing can be gone back to during a rollout, or without a previous version")

    @property
    def weight(self) -> float:
        """The canary's share of clients."""
        return self.rollout.weight if self.rollout is not None else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; the rollout's weight is in it for readers."""
        data = asdict(self)
        if self.rollout is not None:
            data["rollout"]["weight"] = self.rollout.weight
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ReleaseState:
        """Read what :meth:`to_json` wrote.

        Raises:
            LedgerError: the data are not those of a release.
        """
        content = {**EMPTY, **data}
        if isinstance(content["rollout"], dict):
            content["rollout"] = {name: value for name, value in content["rollout"].items() if name != "weight"}
        try:
            return _READER.validate_python(content)
        except ValidationError as error:
            first = error.errors()[0]
            raise LedgerError(
                f"Damaged release at {'.'.join(map(str, first['loc'])) or 'its top'}: {first['msg']}.",
                remedy="Restore the release file from a copy: it rules the traffic.",
            ) from error


_READER = TypeAdapter(ReleaseState)


def same_version(first: Entry | None, second: Entry | None) -> bool:
    """Return whether two entries are one version: by a name, and by the weights' digest where both are known."""
    if first is None or second is None:
        return first is second
    digests = {first.get("digest"), second.get("digest")} - {None}
    return bool(names_of(first) & names_of(second)) and len(digests) <= 1


def quarantined(state: ReleaseState, entry: Entry) -> Quarantined | None:
    """Return the quarantine that an entry falls under, None where it falls under none.

    By digest where it is known on both sides; otherwise by name.
    """
    names, digest = names_of(entry), entry.get("digest")
    for item in reversed(state.quarantine):
        known = digest is not None and item.digest is not None
        if (item.digest == digest) if known else (item.version in names):
            return item
    return None


def decide(
    state: ReleaseState,
    now: float,
    action: str,
    reason: str,
    *,
    by: str,
    evidence: Mapping[str, Any] | None = None,
    about: Entry | None = None,
    **changes: Any,
) -> ReleaseState:
    """Return the state after a decision: one revision on, with the decision in its history."""
    changed = replace(state, **changes, revision=state.revision + 1)
    rollout = changed.rollout or state.rollout
    subject = about or changed.challenger or state.challenger
    record = DecisionRecord(
        revision=changed.revision,
        at=now,
        action=action,
        reason=reason,
        by=by,
        version=version_name(subject) if subject else None,
        rollout=rollout.id if rollout else None,
        weight=changed.weight,
        evidence=dict(evidence or {}),
    )
    return replace(changed, decisions=(*state.decisions, record)[-DECISIONS:])


def take_pending(state: ReleaseState, now: float, options: RolloutOptions, rollout: str) -> ReleaseState:
    """Begin the rollout of what waits, unless there is one already; what is in quarantine is dropped."""
    entry = state.pending
    if entry is None or state.rollout is not None:
        return state
    name, held = version_name(entry), quarantined(state, entry)
    if held is not None:
        reason = f"{name} was rolled back before: {held.reason}"
        return decide(state, now, "refuse", reason, by="controller", about=entry, pending=None)
    if same_version(state.champion, entry):
        return decide(state, now, "refuse", f"{name} serves already", by="controller", about=entry, pending=None)
    approval = bool(entry.get("approval", options.approval))
    steps = options.steps if state.champion is not None else (1.0,)
    begun = Rollout(rollout, steps, now, now, approval=approval)
    reason = "the first champion" if state.champion is None else f"challenges {version_name(state.champion)}"
    return decide(
        state, now, "begin", reason, by="controller", challenger=entry, pending=None, rollout=begun, reversible=False
    )


def loaded(
    state: ReleaseState,
    now: float,
    digest: str | None,
    evidence: Mapping[str, Any],
    *,
    version: str | None = None,
    experiment: str | None = None,
) -> ReleaseState:
    """Go on from a challenger that is loaded and has passed its smoke test.

    ``digest`` is that of its weights, ``version`` the RUN/ID that it was found to be, ``experiment`` the identity of
    that run: the release says them from then on.
    """
    rollout = _rollout(state)
    if rollout.phase is not Phase.LOADING:
        return state
    entry = _completed(
        {**(state.challenger or {}), **({} if digest is None else {"digest": digest})}, version, experiment
    )
    held = quarantined(state, entry)
    if held is not None:
        after = withdraw(state, now, f"these weights were rolled back before: {held.reason}")
        known = {item.version for item in state.quarantine}
        unknown = [Quarantined(name, now, held.reason, digest) for name in sorted(names_of(entry) - known)]
        return replace(after, quarantine=(*state.quarantine, *unknown)[-QUARANTINE:])
    if same_version(entry, state.champion):
        return withdraw(state, now, "these weights serve already")
    phase = Phase.PROVING if state.champion is None else Phase.RUNNING
    moved = replace(rollout, phase=phase, step_started_at=now)
    unjudged = "" if evidence.get("kid") is not None else "; nothing was at hand to judge its images by"
    reason = f"passed its smoke test{unjudged}"
    return decide(
        state, now, "loaded", reason, by="controller", evidence=evidence, rollout=moved, challenger=entry
    )  # fmt: skip


def advance(
    state: ReleaseState, now: float, reason: str, *, by: str = "controller", evidence: Mapping[str, Any] | None = None
) -> ReleaseState:
    """Move a rollout to its next step; from its last, and from proving, the challenger becomes the champion."""
    rollout = _rollout(state)
    if rollout.phase is Phase.PROVING or rollout.last:
        return decide(
            state, now, "promote", reason, by=by, evidence=evidence, champion=state.challenger, challenger=None,
            previous=state.champion, rollout=None, reversible=state.champion is not None,
        )  # fmt: skip
    moved = replace(rollout, step=rollout.step + 1, step_started_at=now, waits_for=None, paused=False)
    return decide(state, now, "step", reason, by=by, evidence=evidence, rollout=moved)


def hold(state: ReleaseState, now: float, wait: Wait, reason: str, evidence: Mapping[str, Any]) -> ReleaseState:
    """Have a rollout wait for a person; it is said once."""
    rollout = _rollout(state)
    if rollout.waits_for is wait:
        return state
    moved = replace(rollout, waits_for=wait)
    return decide(state, now, "hold", reason, by="controller", evidence=evidence, rollout=moved)


def roll_back(
    state: ReleaseState,
    now: float,
    reason: str,
    *,
    by: str = "controller",
    evidence: Mapping[str, Any] | None = None,
) -> ReleaseState:
    """End a rollout at weight 0, or swap back to ``previous`` where there is none; what served badly is quarantined.

    Raises:
        ReleaseConflict: there is no rollout, and nothing to go back to.
    """
    bad = state.challenger if state.rollout is not None else state.champion
    if bad is None or (state.rollout is None and not state.reversible):
        raise ReleaseConflict(
            "There is nothing to roll back: no rollout, and no previous version that is loaded.",
            remedy="Start the version that should serve: evodiff release start RUN/ID.",
        )
    items = [Quarantined(name, now, reason, bad.get("digest")) for name in sorted(names_of(bad))]
    quarantine = (*state.quarantine, *items)[-QUARANTINE:]
    if state.rollout is not None:
        back: dict[str, Any] = {"challenger": None, "rollout": None}
    else:
        back = {"champion": state.previous, "previous": None, "reversible": False}
    return decide(
        state, now, "roll back", reason, by=by, evidence=evidence, about=bad, quarantine=quarantine, **back
    )  # fmt: skip


def withdraw(
    state: ReleaseState, now: float, reason: str, *, by: str = "controller", evidence: Mapping[str, Any] | None = None
) -> ReleaseState:
    """End a rollout at weight 0 without a verdict: nothing speaks against the version, which may be started again."""
    _rollout(state)
    return decide(state, now, "withdraw", reason, by=by, evidence=evidence, challenger=None, rollout=None)


def forget_previous(state: ReleaseState, now: float, reason: str) -> ReleaseState:
    """Say that ``previous`` cannot be gone back to any more."""
    if not state.reversible:
        return state
    return decide(
        state, now, "forget previous", reason, by="controller", about=state.previous, reversible=False
    )  # fmt: skip


def recognise(
    state: ReleaseState, now: float, entry: Entry, version: str | None, experiment: str | None
) -> ReleaseState:
    """Complete what the release says of a version by the RUN/ID that it was found to be and the identity of that run.

    Releases of a program before this one say less, and votes, alerts and production would not find what they name.
    """
    roles = {"champion": state.champion, "previous": state.previous}
    if state.rollout is not None and state.rollout.phase is not Phase.LOADING:  # one that loads is completed after it
        roles["challenger"] = state.challenger
    known = {role: held for role, held in roles.items() if held is not None and same_version(held, entry)}
    found = {role: _completed(held, version, experiment) for role, held in known.items()}
    if found == known:
        return state
    added = {role: {key: value for key, value in found[role].items() if key not in known[role]} for role in known}
    reason = "loading it has shown what the release did not say of it"
    return decide(state, now, "recognise", reason, by="controller", evidence=added, about=entry, **found)


def _completed(entry: Entry, version: str | None, experiment: str | None) -> dict[str, Any]:
    """Return an entry with the run and the candidate that it was found to be, and that run's identity."""
    named = {} if version is None or served_as(entry) is not None else entry_named(version)
    known = {} if experiment is None or "experiment" in entry else {"experiment": experiment}
    return {**entry, **named, **known}


def reload_champion(
    state: ReleaseState,
    now: float,
    entry: Entry,
    digest: str,
    *,
    version: str | None = None,
    experiment: str | None = None,
) -> ReleaseState:
    """Take note that a champion serves with other weights than it was promoted with; see :func:`loaded`.

    They may be another run's; those of a registered model may be another candidate's too.
    """
    if state.champion is None or not same_version(state.champion, entry):
        return state
    shown = {"experiment", *(("run", "candidate", "generation") if "model" in state.champion else ())}
    kept = {name: value for name, value in state.champion.items() if name not in shown}
    champion = _completed({**kept, "digest": digest}, version, experiment)
    reason = "the weights that were promoted cannot be had any more; those that there are now passed the smoke test"
    return decide(state, now, "reload", reason, by="controller", about=champion, champion=champion)


def overdue(
    state: ReleaseState, now: float, options: RolloutOptions, *, evidence: Mapping[str, Any] | None = None
) -> ReleaseState:
    """Withdraw a rollout that has taken longer than one may, with what is known of it by then."""
    rollout = state.rollout
    if rollout is None or now - rollout.started_at <= options.max_rollout_seconds:
        return state
    hours = options.max_rollout_seconds / 3600
    return withdraw(state, now, f"no verdict in {hours:g} h at weight {rollout.weight:g}", evidence=evidence)


def judge(
    state: ReleaseState,
    now: float,
    verdict: str,
    reason: str,
    options: RolloutOptions,
    *,
    evidence: Mapping[str, Any],
) -> ReleaseState:
    """Go on from the verdict of the analysis, ``pass``, ``fail``, ``inconclusive`` or ``wait``, and its reason.

    A failure ends the rollout whatever it waits for; all else leaves one alone that is held.
    """
    rollout = _rollout(state)
    if verdict == "fail":
        return roll_back(state, now, reason, evidence=evidence)
    if rollout.phase is not Phase.RUNNING or rollout.paused or rollout.waits_for is Wait.APPROVAL:
        return state
    if verdict == "inconclusive":
        return _inconclusive(state, now, reason, options, evidence)
    baked = not rollout.last or now - rollout.step_started_at >= options.bake_seconds
    if verdict != "pass" or not baked:
        return state
    return proceed(state, now, reason, evidence)


def proceed(state: ReleaseState, now: float, reason: str, evidence: Mapping[str, Any]) -> ReleaseState:
    """Move to the next step, or ask a person first where that is wanted before the last."""
    rollout = _rollout(state)
    if rollout.step == len(rollout.steps) - 2 and rollout.approval and not rollout.approved:
        return hold(state, now, Wait.APPROVAL, "a person is asked before all traffic goes over", evidence)
    return advance(state, now, reason, evidence=evidence)


def _inconclusive(
    state: ReleaseState, now: float, reason: str, options: RolloutOptions, evidence: Mapping[str, Any]
) -> ReleaseState:
    if options.on_inconclusive == "rollback":
        return roll_back(state, now, f"inconclusive: {reason}", evidence=evidence)
    return hold(state, now, Wait.INCONCLUSIVE, reason, evidence)


def _rollout(state: ReleaseState) -> Rollout:
    if state.rollout is None:
        raise ReleaseConflict("No rollout is going on.", remedy="Start one: evodiff release start RUN/ID.")
    return state.rollout
