"""What the workers hold, made to agree with the release: loaded, swapped, routed and unloaded as the state says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evodiff.deployment.observation import Arm
from evodiff.deployment.release.entries import version_name
from evodiff.deployment.release.state import Phase, same_version
from evodiff.deployment.smoke_report import SmokeTestFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from evodiff.deployment.release.contracts import Fleet, SmokeReport
    from evodiff.deployment.release.state import Entry, ReleaseState

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A version in an arm, with what its smoke test found."""

    entry: Entry
    smoke: SmokeReport


@dataclass(frozen=True)
class _Work:
    """What goes on beside: an arm being loaded with ``entry``, or emptied where it is None."""

    arm: Arm
    entry: Entry | None
    task: asyncio.Task[None]


class Arms:
    """The fleet, with what it holds; :meth:`settle` moves it towards a state as far as it can be moved at once.

    Loading and unloading go on beside it, one at a time; ``wake`` is called when a load has ended. Those that failed
    are in ``failures`` until somebody takes them out, and are tried again ``retry_seconds`` later. A champion whose
    very weights cannot be had any more, for it was trained on since, is loaded as it is now: there is nobody else to
    answer.
    """

    def __init__(self, fleet: Fleet, *, wake: Callable[[], None], retry_seconds: float) -> None:
        self.held: dict[Arm, Loaded] = {}
        self.failures: list[tuple[Entry, Exception]] = []
        self._fleet = fleet
        self._routed: tuple[str, float] = ("", 0.0)
        self._barred: str | None = None
        self._wake, self._retry_seconds = wake, retry_seconds
        self._not_before = 0.0
        self._work: _Work | None = None
        self._unpinned: set[str] = set()
        self._failed: str | None = None  # the version that could not be loaded last
        self._settling = asyncio.Lock()

    @property
    def weight(self) -> float:
        """The share of clients that the canary has."""
        return self._routed[1]

    def bar(self, rollout: str | None) -> None:
        """Take the traffic of a rollout away at once, whatever the release says of it; None bars none any more."""
        self._barred = rollout
        if rollout is not None:
            self._route("", 0.0)

    def route(self, state: ReleaseState) -> None:
        """Give the canary the weight that a state says, if it holds the challenger; 0 if not."""
        rollout, held = state.rollout, self.held.get(Arm.CANARY)
        runs = rollout is not None and rollout.phase is Phase.RUNNING and rollout.id != self._barred
        if rollout is not None and runs and held is not None and same_version(held.entry, state.challenger):
            self._route(rollout.id, rollout.weight)
        elif held is None or not same_version(held.entry, state.champion):
            self._route("", 0.0)
        # A challenger that has become the champion keeps its clients until the arms are swapped.

    async def settle(self, state: ReleaseState) -> None:
        """Swap and route as the state says, and begin to unload and load what has to be."""
        self.route(state)
        async with self._settling:
            await self._swap(state)
            self.route(state)
            self._begin(state)

    def rename(self, entry: Entry) -> None:
        """Take note that more is known of a version that is held, such as its digest."""
        for arm, held in self.held.items():
            if version_name(held.entry) == version_name(entry) and held.smoke.digest == entry.get("digest"):
                self.held[arm] = replace(held, entry=entry)

    async def close(self) -> None:
        """Give up what goes on beside."""
        if self._work is not None:
            await _cancelled(self._work.task)
            self._work = None

    async def _swap(self, state: ReleaseState) -> None:
        canary, stable = self.held.get(Arm.CANARY), self.held.get(Arm.STABLE)
        if canary is None or not same_version(canary.entry, state.champion):
            return
        if stable is not None and same_version(stable.entry, state.champion):
            return
        await self._fleet.swap()
        self._routed = ("", 0.0)
        self.held = {Arm.STABLE: canary, **({} if stable is None else {Arm.CANARY: stable})}

    def _begin(self, state: ReleaseState) -> None:
        """Begin the next thing that takes long, if there is one; stop what is no longer wanted."""
        wanted = self._next(state)
        work = self._work
        if work is not None and work.entry is not None and not _wants(state, work.entry):
            self._start(work.arm, None, self._empty(work.arm, work.task))
        elif work is None and wanted is not None:
            arm, entry = wanted
            if entry is None:
                self._start(arm, None, self._empty(arm, None))
            elif time.monotonic() >= self._not_before:
                self._start(arm, entry, self._load(arm, entry))

    def _next(self, state: ReleaseState) -> tuple[Arm, Entry | None] | None:
        """Return the arm to load with an entry, or to empty (None), so that it comes nearer to what the state says."""
        stable, canary = self.held.get(Arm.STABLE), self.held.get(Arm.CANARY)
        if state.champion is not None and stable is None:
            beside = _beside(state)
            if canary is None and beside is not None and self._failed == version_name(state.champion):
                return Arm.CANARY, beside  # that one may serve instead
            return Arm.STABLE, state.champion
        served = state.champion is None or (stable is not None and same_version(stable.entry, state.champion))
        beside = _beside(state) if served else state.champion  # swapped once it is there
        if canary is not None:
            return None if same_version(canary.entry, beside) else (Arm.CANARY, None)
        return None if beside is None else (Arm.CANARY, beside)

    def _start(self, arm: Arm, entry: Entry | None, coroutine: Coroutine[None, None, None]) -> None:
        name = f"empty {arm}" if entry is None else f"load {version_name(entry)}"
        self._work = _Work(arm, entry, asyncio.create_task(coroutine, name=name))

    async def _empty(self, arm: Arm, loading: asyncio.Task[None] | None) -> None:
        if loading is not None:
            await _cancelled(loading)
        self.held.pop(arm, None)
        try:
            await self._fleet.unload(arm)
        except Exception:
            _LOG.exception("%s could not be unloaded", arm)
        self._work = None
        self._wake()

    async def _load(self, arm: Arm, entry: Entry) -> None:
        free = arm is Arm.STABLE and version_name(entry) in self._unpinned
        wanted = {name: value for name, value in entry.items() if not (free and name == "digest")}
        try:
            smoke = await self._fleet.load(wanted, arm)
        except Exception as error:  # whatever a version or a worker does, the router goes on
            _LOG.warning("%s could not be loaded as %s: %s", version_name(entry), arm, error)
            self._not_before = time.monotonic() + self._retry_seconds
            self.failures.append((entry, error))
            self._failed = version_name(entry)
            if isinstance(error, SmokeTestFailure):
                self._unpinned.add(version_name(entry))
        else:
            self._failed = None if self._failed == version_name(entry) else self._failed
            self.held[arm] = Loaded(entry, smoke)
            self._unpinned.discard(version_name(entry))
        self._work = None
        self._wake()

    def _route(self, rollout: str, weight: float) -> None:
        if (rollout, weight) != self._routed:
            self._fleet.route(rollout, weight)
            self._routed = (rollout, weight)


def _beside(state: ReleaseState) -> Entry | None:
    """Return what is held beside the champion: the challenger, or what can be gone back to."""
    return state.challenger if state.rollout is not None else state.previous if state.reversible else None


def _wants(state: ReleaseState, entry: Entry) -> bool:
    return same_version(entry, state.champion) or same_version(entry, _beside(state))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
