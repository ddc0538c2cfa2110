"""The controller of rollouts: looks at the evidence every few seconds, decides, writes it down, and moves the traffic.

What is to be is in the release file; every look makes the workers agree with it, so a restart is a look like any other.
Nothing here needs MLflow, Airflow or Prometheus.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from evodiff.deployment.observation import Arm, Outcome
from evodiff.deployment.release.arms import Arms
from evodiff.deployment.release.commands import obey
from evodiff.deployment.release.entries import version_name
from evodiff.deployment.release.rollout_options import RolloutOptions
from evodiff.deployment.release.state import (
    Phase,
    ReleaseConflict,
    advance,
    forget_previous,
    judge,
    loaded,
    overdue,
    proceed,
    recognise,
    reload_champion,
    roll_back,
    same_version,
    take_pending,
    withdraw,
)
from evodiff.deployment.release.watch import ReleaseWatch
from evodiff.deployment.smoke_report import SmokeTestFailure
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evodiff.deployment.release.commands import Command
    from evodiff.deployment.release.contracts import Analyses, Decision, Fleet, Probe
    from evodiff.deployment.release.file import ReleaseFile
    from evodiff.deployment.release.state import ReleaseState

    Transition = Callable[[ReleaseState], ReleaseState]

_LOG = logging.getLogger(__name__)
_BAD = (Outcome.FAILED, Outcome.NOT_FINITE, Outcome.BLANK)
_GAP_SECONDS = 0.1  # between two looks, however much there is to look at
_URGENT_SECONDS = 0.75  # that a failing canary keeps its traffic while the release file keeps its end waiting
_LOADS = 3  # tries to load a challenger that fails for no fault of its own


class RolloutController:
    """Moves one version at a time into traffic. :meth:`run` goes on until it is cancelled.

    Args:
        file: the release, of which this is the only writer but for what waits.
        fleet: the workers; its observers are joined by :meth:`observe`.
        analyses: makes the analysis of each rollout.
        options: steps and times.
        probe: synthetic load for the first champion; None relies on its smoke test.
        clock: UNIX seconds.
        new_id: makes the id of a rollout.
    """

    def __init__(
        self,
        file: ReleaseFile,
        fleet: Fleet,
        analyses: Analyses,
        options: RolloutOptions | None = None,
        *,
        probe: Probe | None = None,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self.file, self.fleet, self.options = file, fleet, options or RolloutOptions()
        self.last_poll_at: float | None = None
        self.trouble: str | None = None
        self.on_change: list[Callable[[ReleaseState], None]] = []
        self._probe, self._clock, self._new_id = probe, clock, new_id
        self._state = file.read()
        self._watch = ReleaseWatch(file, analyses)
        self._writing = asyncio.Lock()
        self._awake = asyncio.Event()
        self._proving: asyncio.Task[None] | None = None
        self._failed_loads = 0
        self._owed: tuple[str, Transition] | None = None  # a rollout's id, and its end, which is to be written
        self.arms = Arms(fleet, wake=self._awake.set, retry_seconds=self.options.retry_seconds)
        fleet.observers.append(self.observe)

    @property
    def state(self) -> ReleaseState:
        """What held at the last look."""
        return self._state

    def loaded(self) -> dict[str, str]:
        """Return the names of the versions that the arms hold."""
        return {str(arm): version_name(held.entry) for arm, held in self.arms.held.items()}

    def evidence(self) -> Decision | None:
        """Return what the evidence on the rollout at hand says now; None where there is none."""
        return self._watch.decide(self._clock())

    def observe(self, observation: Any) -> None:
        """Take in a request, a rating or a worker; what is not of the rollout at hand says nothing about it.

        What speaks against the canary is looked at at once.
        """
        self._watch.observe(observation)
        if getattr(observation, "outcome", None) in _BAD and observation.arm is Arm.CANARY:
            self._awake.set()

    async def run(self) -> None:
        """Look every ``poll_interval_seconds``, and at once after a command; what goes wrong is tried again.

        The interval is that between the beginnings of two looks: what a look takes does not delay the next one.
        """
        loop, interval = asyncio.get_running_loop(), self.options.poll_interval_seconds
        try:
            while True:
                due = loop.time() + interval
                self._awake.clear()
                await self.poll()
                await asyncio.sleep(min(_GAP_SECONDS, interval))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._awake.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop what goes on beside; what is loaded stays, and the release as it is."""
        await self._stop_proving()
        await self.arms.close()
        with contextlib.suppress(EvodiffError, OSError):
            await self._watch.keep()

    async def poll(self) -> None:
        """Look once: decide what the evidence asks for, make the workers agree, then keep the evidence.

        What goes wrong, a full disk, a damaged file or a worker's trouble, ends nothing: the look is repeated.
        """
        self.last_poll_at = self._clock()
        troubles = []
        for part, failed in (
            (self._look, "The release could not be looked after"),
            (self._settle, "The workers could not be brought to what the release says"),
            (self._watch.keep, "The evidence could not be kept"),
        ):
            try:
                await part()
            except Exception as error:
                troubles.append(str(error))
                _LOG.exception(failed)
        self.trouble = troubles[0] if troubles else None

    async def _settle(self) -> None:
        await self.arms.settle(self._state)

    async def command(self, command: Command) -> dict[str, Any]:
        """Obey a command and return the answer; when this returns it is on record, and its weight holds.

        Raises:
            ReleaseConflict: it does not fit what serves now.
            LedgerError: it cannot be written down. A rollback of the rollout at hand, at no revision or the one that is
                known here, stops its traffic all the same, and is written as soon as it can be.
        """
        answers: list[dict[str, Any]] = []
        seen = self._seen()

        def transition(state: ReleaseState, *, bound: bool = True) -> ReleaseState:
            at_hand = state.rollout.id if state.rollout is not None else ""
            done, answer = obey(state, command, self._clock(), seen.get(at_hand), bound=bound)
            answers.append(answer)
            return done

        rollout = self._state.rollout
        if command.action == "rollback" and rollout and command.revision in (None, self._state.revision):
            await self._end_urgently(rollout.id, transition, partial(transition, bound=False))
        else:
            await self._change(transition)
        self.arms.route(self._state)
        await self._watch.follow(self._state)
        self._awake.set()
        return answers[-1]

    def _seen(self) -> dict[str, Mapping[str, Any]]:
        """Return the evidence on the rollout at hand by its id; where there is none, no command waits for it."""
        rollout = self._state.rollout
        try:
            found = self.evidence() if rollout is not None else None
        except Exception:
            _LOG.exception("The evidence could not be looked at")
            return {}
        return {rollout.id: dict(found.evidence)} if rollout is not None and found is not None else {}

    async def _look(self) -> None:
        for worker in self.fleet.workers():
            self._watch.observe(worker)
        await self._pay()
        if self._fails():
            await self._judge()  # before anything else that a file may keep waiting
        await self._change(lambda state: state)
        await self._take_failures()
        await self._take_champion()
        await self._recognise()
        if self._state.rollout is None:
            await self._stop_proving()
            await self._begin()
        else:
            await self._take_loaded()
            await self._judge()
        await self._watch.follow(self._state)

    async def _begin(self) -> None:
        """Begin with what waits, if anything does."""
        if self._state.pending is not None:
            rollout = self._new_id()
            await self._change(lambda state: take_pending(state, self._clock(), self.options, rollout))
            self._failed_loads = 0

    async def _take_failures(self) -> None:
        """Go on from versions that could not be loaded."""
        while self.arms.failures:
            entry, error = self.arms.failures.pop(0)
            reason = f"{version_name(entry)} could not be loaded: {error}"
            _LOG.warning(reason)
            self._failed_loads += 1
            faulty = isinstance(error, SmokeTestFailure)
            tired = self._failed_loads >= _LOADS

            def transition(
                state: ReleaseState,
                entry: Any = entry,
                reason: str = reason,
                faulty: bool = faulty,
                tired: bool = tired,
            ) -> ReleaseState:
                now = self._clock()
                if state.rollout is not None and same_version(entry, state.challenger) and (faulty or tired):
                    return roll_back(state, now, reason) if faulty else withdraw(state, now, reason)
                if state.reversible and same_version(entry, state.previous) and (faulty or tired):
                    return forget_previous(state, now, reason)
                return state

            await self._change(transition)

    async def _take_champion(self) -> None:
        """Put on record that the champion had to be loaded with other weights than those that were promoted."""
        held = self.arms.held.get(Arm.STABLE)
        if held is None or not same_version(held.entry, self._state.champion):
            return
        smoke, now = held.smoke, self._clock()
        digest = smoke.digest
        if (self._state.champion or {}).get("digest") not in (None, digest):
            found = {"version": smoke.version, "experiment": smoke.experiment}
            await self._change(lambda state: reload_champion(state, now, held.entry, digest, **found))
            self.arms.rename(self._state.champion or held.entry)

    async def _recognise(self) -> None:
        """Complete what the release knows of the versions that are held by what loading them has shown."""
        for held in list(self.arms.held.values()):
            known = partial(
                recognise,
                now=self._clock(),
                entry=held.entry,
                version=held.smoke.version,
                experiment=held.smoke.experiment,
            )
            if known(self._state) is not self._state:
                await self._change(known)

    async def _take_loaded(self) -> None:
        """Go on from a challenger that is loaded: to its first step where it is new, where it was after a restart."""
        held = self.arms.held.get(Arm.CANARY)
        if held is None or self._state.rollout is None or not same_version(held.entry, self._state.challenger):
            return
        smoke = held.smoke

        def transition(state: ReleaseState) -> ReleaseState:
            if state.rollout is None or state.rollout.phase is not Phase.LOADING:
                return state
            now = self._clock()
            after = loaded(
                state, now, smoke.digest, smoke.to_json(), version=smoke.version, experiment=smoke.experiment
            )
            if after.rollout is None or after.rollout.phase is not Phase.RUNNING:
                return after
            return proceed(after, now, "its first step", {})

        await self._change(transition)
        rollout, challenger = self._state.rollout, self._state.challenger
        if rollout is None or challenger is None:
            return
        self.arms.rename(challenger)
        await self._watch.open(self._state, smoke)
        if rollout.phase is Phase.PROVING and self._proving is None:
            self._proving = asyncio.create_task(self._prove(rollout.id), name="synthetic load")

    async def _judge(self) -> None:
        """Decide what the evidence asks for; without any yet, only whether the rollout has taken too long."""
        rollout, now = self._state.rollout, self._clock()
        found = self._watch.decide(now)
        proven, failed = self._proving is not None and self._proving.done(), _is_failure(found)

        def transition(state: ReleaseState) -> ReleaseState:
            if state.rollout is None or rollout is None or state.rollout.id != rollout.id:
                return state
            if state.rollout != rollout and not failed:  # somebody has spoken meanwhile: look again
                return state
            after, evidence = state, {} if found is None else dict(found.evidence)
            if found is not None:
                after = judge(state, now, str(found.verdict), found.reason, self.options, evidence=evidence)
                after = self._proven(state, now, found) if after is state and proven else after
            return overdue(after, now, self.options, evidence=evidence) if after is state else after

        if failed and rollout is not None:
            await self._end_urgently(rollout.id, transition, transition)
        else:
            await self._change(transition)
        if self._state.weight < self.arms.weight:
            self.arms.route(self._state)  # now that it is on record, before anything else that takes time

    def _fails(self) -> bool:
        return self._state.rollout is not None and _is_failure(self._watch.decide(self._clock()))

    def _proven(self, state: ReleaseState, now: float, found: Decision) -> ReleaseState:
        """Have the first champion serve once all of the synthetic load is answered, and nothing spoke against it."""
        assert self._proving is not None
        wanted = 0 if self._probe is None else self.options.synthetic_requests
        seen, error, evidence = self._watch.requests, self._proving.exception(), dict(found.evidence)
        if error is not None or seen < wanted:
            what = f"{seen} of {wanted} synthetic requests were answered{'' if error is None else f': {error}'}"
            return withdraw(state, now, what, evidence=evidence)
        return advance(state, now, f"stood {seen} synthetic requests", evidence=evidence)

    async def _change(self, transition: Transition) -> None:
        """Apply a transition to what is stored.

        Raises:
            ReleaseConflict: the transition does not fit.
            LedgerError: it cannot be written.
        """
        async with self._writing:
            before = self._state
            self._state = await asyncio.to_thread(self.file.change, transition)
        if self._state.revision != before.revision:
            for tell in self.on_change:
                tell(self._state)

    async def _end_urgently(self, rollout: str, transition: Transition, again: Transition) -> None:
        """Apply a transition that ends a rollout, whose canary has no traffic from then on, or before.

        Before, where the release cannot be written or keeps it waiting: then ``again`` is applied as soon as it can be.

        Raises:
            ReleaseConflict: the transition does not fit.
            LedgerError: it cannot be written.
        """
        late = asyncio.get_running_loop().call_later(_URGENT_SECONDS, self._owe, rollout, again)
        try:
            await self._change(transition)
        except ReleaseConflict:
            self._settle_debt(again)
            raise
        except Exception:
            self._owe(rollout, again)
            raise
        else:
            self._settle_debt(again)
        finally:
            late.cancel()

    def _owe(self, rollout: str, again: Transition) -> None:
        """Take the traffic of a rollout whose end is still to be written; the first who ends it does."""
        if self._owed is None or self._owed[0] != rollout:
            self._owed = rollout, again
        self.arms.bar(rollout)

    def _settle_debt(self, again: Transition) -> None:
        if self._owed is not None and self._owed[1] is again:
            self._owed = None
            self.arms.bar(None)  # the release alone says who has traffic

    async def _pay(self) -> None:
        """Write down the end that is owed to a rollout, if it is on still."""
        if self._owed is None:
            return
        rollout, again = self._owed

        def transition(state: ReleaseState) -> ReleaseState:
            return again(state) if state.rollout is not None and state.rollout.id == rollout else state

        with contextlib.suppress(ReleaseConflict):
            await self._change(transition)
        self._settle_debt(again)

    async def _prove(self, rollout: str) -> None:
        """Have the first champion answer synthetic requests, which the analysis sees like any others."""
        if self._probe is not None:
            await self._probe(rollout, self.options.synthetic_requests)
        self._awake.set()

    async def _stop_proving(self) -> None:
        task, self._proving = self._proving, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def _is_failure(found: Decision | None) -> bool:
    return found is not None and str(found.verdict) == "fail"
