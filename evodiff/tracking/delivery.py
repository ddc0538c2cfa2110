"""Bring MLflow up to what the ledger holds: closed generations, and the registrations that were asked for."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evodiff.pipeline.scratch import awaits_scratch
from evodiff.tracking import outbox
from evodiff.tracking.generations import open_experiment, track_generation, tracked_generations
from evodiff.tracking.records import RunRecords
from evodiff.tracking.registry import RegisteredCandidate, register_new_members
from evodiff.tracking.server import TrackingError, TrackingUnreachable, check_address, connected

if TYPE_CHECKING:
    from evodiff.pipeline.run import Run


@dataclass(frozen=True)
class TrackingResult:
    """What a call of :func:`track_run` did.

    ``generations`` are those that it brought into MLflow, ``registered`` what had waited to be registered. ``waiting``
    says why everything else has to wait; it is empty where nothing does.
    """

    generations: tuple[int, ...] = ()
    registered: tuple[RegisteredCandidate, ...] = ()
    waiting: str = ""

    def __str__(self) -> str:
        tracked = ", ".join(map(str, self.generations)) or "none that was missing"
        said = [f"generations tracked: {tracked}", *map(str, self.registered)]
        return "; ".join([*said, f"the rest waits: {self.waiting}"] if self.waiting else said)


def track_run(run: Run, tracking_uri: str) -> TrackingResult:
    """Log every closed generation that MLflow does not hold whole, and what else waits in the outbox.

    Where MLflow cannot be reached a note stays in ``RUN/outbox``, and a later call does what is missing, once. A
    registration waits there until it is done, whatever keeps it from that.

    Raises:
        SettingsError: ``tracking_uri`` is no address of a server.
        TrackingError: the server refuses, or holds another run of this name.
    """
    return _deliver(run, tracking_uri, registrations=())


def register_front(run: Run, generation: int, tracking_uri: str) -> list[RegisteredCandidate]:
    """Register the new members of a closed generation's front, at most three, those of largest fitness first.

    What is registered already is returned, not registered again. Members whose weights are gone are left out with a
    warning; those that inherited weights wait until they were trained from scratch. Until it is done a note stays in
    ``RUN/outbox``, so that a later call of this function or of :func:`track_run` does it; where MLflow cannot be
    reached the list is empty.

    Raises:
        LedgerError: the generation is not closed.
        SettingsError: ``tracking_uri`` is no address of a server.
        TrackingError: the server refuses, or holds another run of this name.
    """
    RunRecords(run).result(generation)
    result = _deliver(run, tracking_uri, registrations=(generation,))
    if result.waiting:
        warnings.warn(f"Generation {generation} of {run.name} is not registered yet: {result.waiting}", stacklevel=2)
    return [item for item in result.registered if item.generation == generation]


def _deliver(run: Run, tracking_uri: str, registrations: tuple[int, ...]) -> TrackingResult:
    check_address(tracking_uri)
    for generation in registrations:
        outbox.ask_registration(run, generation)
    tracked: list[int] = []
    registered: list[RegisteredCandidate] = []
    untracked = True
    try:
        with outbox.delivering(run), connected(tracking_uri) as client:
            experiment = open_experiment(client, run)
            _track(client, experiment, run, tracked)
            outbox.take_away(run, outbox.TRACK)
            untracked = False
            _register(client, experiment, run, registered)
    except TrackingUnreachable as error:
        if untracked:
            outbox.leave(run, outbox.TRACK, error.headline)
        return TrackingResult(tuple(tracked), tuple(registered), error.headline)
    return TrackingResult(tuple(tracked), tuple(registered))


def _register(client: Any, experiment: str, run: Run, registered: list[RegisteredCandidate]) -> None:
    """Do the registrations that wait; one that is refused waits on, and does not keep back the others.

    Raises:
        TrackingError: the first refusal.
    """
    records = RunRecords(run)
    refusals = []
    for generation in outbox.waiting_registrations(run):
        note = outbox.register_note(generation)
        try:
            registered += register_new_members(client, experiment, run, generation)
            if any(awaits_scratch(run, candidate) for candidate in records.new_members(generation)):
                reason = "members inherited weights and wait to be trained from scratch"
                outbox.wait_on(run, note, reason, on_purpose=True)
            else:
                outbox.take_away(run, note)
        except TrackingError as error:
            outbox.wait_on(run, note, error.headline, on_purpose=False)
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _track(client: Any, experiment: str, run: Run, tracked: list[int]) -> None:
    records = RunRecords(run)
    known = tracked_generations(client, experiment, records)
    for generation in range(run.ledger.closed):
        if generation not in known:
            track_generation(client, experiment, records, generation)
            tracked.append(generation)
