"""Open a generation for a scheduler: by a form that a person filled in, or as the successor of the one before.

A scheduler knows which of its own runs are alive (:class:`~evodiff.pipeline.chain.Scheduler`). Everything else is read
from the run folder, so each function may be called again, by another process, at any time.
"""

from __future__ import annotations

import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evodiff.errors import EvodiffError, LedgerError, SettingsError
from evodiff.pipeline.chain import first_active, started_runs
from evodiff.pipeline.control import State, is_unfinished, next_step, set_state, state
from evodiff.pipeline.create import check_settings, create_run
from evodiff.pipeline.deployment import record_deployment
from evodiff.pipeline.frozen import contradictions
from evodiff.pipeline.lease import Lease, holders, leases, open_generation
from evodiff.pipeline.prepare import prepare as prepare_inputs
from evodiff.pipeline.requests import request_id, request_path, submit
from evodiff.pipeline.run import Run
from evodiff.pipeline.session import open_workers
from evodiff.pipeline.shards import log_listener
from evodiff.pipeline.steering import Steering, check_steering, end_reason, record_steering, steering
from evodiff.pipeline.warm_start import check_source, open_source, starts_from
from evodiff.settings import load_settings, setting_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from evodiff.pipeline.chain import Scheduler
    from evodiff.pipeline.inputs import Announce
    from evodiff.pipeline.prepare import Prepared
    from evodiff.settings import Settings
    from evodiff.workers import WorkerPool

    Prepare = Callable[[Settings, WorkerPool, Announce], Prepared]

# What was left of a creation that was killed; no creation takes as long.
_ABANDONED_SECONDS = 24 * 3600.0


class AlreadyLooping(EvodiffError):  # noqa: N818 - an answer, not a fault
    """A form named an experiment that is being worked on; nothing was consumed."""


class NothingToDo(EvodiffError):  # noqa: N818 - an answer, not a fault
    """A run wants no further generation now; the message says why."""


@dataclass(frozen=True)
class Opened:
    """What a scheduler hands from task to task: the run folder and the generation that was opened."""

    run: str
    generation: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Form:
    """What a person filled in, without what was left blank.

    ``frozen`` goes into the experiment and has names of :class:`~evodiff.settings.Settings` (``steps`` for those of the
    training); ``steering`` may change later and has names of :class:`~evodiff.pipeline.steering.Steering`.
    """

    experiment: str
    frozen: Mapping[str, Any]
    steering: Mapping[str, Any]
    transfer_from: str | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Form:
        """Sort the fields of a form; None stands for blank."""
        filled = {name: value for name, value in fields.items() if value is not None}
        if "objectives" in filled:
            filled["objectives"] = tuple(filled["objectives"])
        steering_names = Steering.__dataclass_fields__
        return cls(
            experiment=filled.pop("experiment"),
            transfer_from=filled.pop("transfer_from", None),
            steering={name: filled[name] for name in filled if name in steering_names},
            frozen={name: filled[name] for name in filled if name not in steering_names},
        )


def experiment_folder(name: str, settings: Settings) -> Path:
    """Return where the experiment of a name lies.

    Raises:
        SettingsError: the name is none that a folder below ``runs_dir`` can have, where files such as
            ``release.json`` lie too.
    """
    if (
        not name
        or name.startswith((".", "-"))
        or name.lower().endswith(".json")
        or not all(part.isalnum() or part in "._-" for part in name)
    ):
        raise SettingsError(
            f"Not a name for an experiment: {name!r}.",
            remedy="Use letters, digits, dots, dashes and underscores, and no .json at the end.",
        )
    return settings.runs_dir / name


def open_form(
    form: Form,
    holder: str,
    *,
    now: datetime,
    scheduler: Scheduler,
    say: Callable[[str], None],
    prepare: Prepare = prepare_inputs,
) -> Opened:
    """Open the generation that a form asks for, creating its experiment where there is none.

    ``holder`` is the scheduler's id of the run that asks; ``say`` gets a line for each thing that is prepared, by
    ``prepare``.

    Raises:
        AlreadyLooping: a driver that is alive works on the experiment; nothing of the form was kept.
        NothingToDo: the experiment has ended, and the form does not extend it.
        SettingsError: the form contradicts what the experiment froze, or has a value that cannot be used.
        GateFailed: the dataset is bad; nothing was created.
    """
    settings = load_settings(dict(form.frozen))
    path = experiment_folder(form.experiment, settings)
    if not (path / "experiment.json").exists():
        _create(form, settings, path, say, prepare)
    run = Run.open(path)
    # Asked of a new one too: the form that was faster to create it may have had other values.
    check_frozen(run, settings, form.frozen)
    if form.transfer_from is not None:
        check_source(run, experiment_folder(form.transfer_from, settings))
    lease = next((lease for lease in leases(run) if lease.holder == holder), None)
    if lease is None:
        check_steering(form.steering, [objective.name for objective in run.objectives], steering(run))
        lease = _take(run, form, holder, scheduler)
    cause = {"form": holder}
    if not request_path(run, request_id(cause)).exists():  # the lease names it already: who is refused leaves none
        if state(run) is not State.RUNNING:
            say(f"{run.name} was {state(run)}; this form has it go on")
            set_state(run, State.RUNNING)
        submit(run, cause, form.steering, now)
    record_steering(run, lease.generation)
    record_deployment(run, lease.generation)
    return Opened(str(run.path.resolve()), lease.generation)


def open_chained(experiment: str, holder: str, *, now: datetime, scheduler: Scheduler) -> Opened:
    """Open the generation that an experiment wants now, for a run that another run or a timer started.

    Raises:
        AlreadyLooping: another driver that is alive has it.
        NothingToDo: none is wanted.
    """
    run = Run.open(experiment_folder(experiment, load_settings({})))
    if all(lease.holder != holder for lease in leases(run)):
        step = next_step(run, now)
        if not step.wanted:
            raise NothingToDo(f"{run.name}: {step.reason}.", remedy="Nothing has to be done.")
    lease = _lease(run, holder, scheduler)
    record_steering(run, lease.generation)
    record_deployment(run, lease.generation)
    return Opened(str(run.path.resolve()), lease.generation)


def _create(form: Form, settings: Settings, path: Path, say: Callable[[str], None], prepare: Prepare) -> None:
    check_settings(settings)
    check_steering(form.steering, settings.objectives)
    source = None if form.transfer_from is None else open_source(experiment_folder(form.transfer_from, settings))
    with open_workers(settings, say, at_most=2) as workers:
        inputs = prepare(settings, workers, log_listener(say).progress).inputs
    starts = () if source is None else starts_from(source, settings, inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    making = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        create_run(settings, making, inputs, warm_start=starts)
        making.rename(path)
    except OSError as error:
        if not (path / "experiment.json").exists():  # no twin has created it meanwhile
            raise LedgerError(f"Could not create {path}: {error.strerror}.", remedy="Free that name.") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Remove what creations of this experiment left behind that were killed."""
    for making in path.parent.glob(f".{path.name}.*"):
        with suppress(OSError):  # a twin was faster
            if making.is_dir() and making.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                shutil.rmtree(making)


def _take(run: Run, form: Form, holder: str, scheduler: Scheduler) -> Lease:
    """Take or adopt a generation for a form, unless somebody works on the experiment or it has ended."""
    closed = run.ledger.closed
    # Whoever closed the generation before may be about to start the run for the next one.
    drivers = [*holders(run, since=closed - 1), *started_runs(run, closed, scheduler)]
    other = first_active(scheduler, [driver for driver in drivers if driver != holder])
    if other is not None:
        raise AlreadyLooping(
            f"{run.name} is already looping: {other} is running or waits its turn.",
            remedy=f"Let it go on, or end it first: evodiff stop {run.path}",
        )
    ended = end_reason(run, steering(run, form.steering))
    if ended is not None and not is_unfinished(run):
        raise NothingToDo(f"{run.name}: {ended}.", remedy="Ask for more generations or a larger budget.")
    return _lease(run, holder, scheduler, asks=[request_id({"form": holder})])


def _lease(run: Run, holder: str, scheduler: Scheduler, asks: Sequence[str] = ()) -> Lease:
    lease = open_generation(run, holder, is_active=lambda other: scheduler.active([other]) > 0, asks=asks)
    if lease.holder != holder:
        raise AlreadyLooping(
            f"{run.name}: generation {lease.generation} is being worked on by {lease.holder}.",
            remedy="Look at that run; this one has consumed nothing.",
        )
    return lease


def check_frozen(run: Run, settings: Settings, given: Mapping[str, Any]) -> None:
    """Check that the values a form gives, as they are in ``settings``, are those that the run froze.

    Raises:
        SettingsError: one is not; the message says which.
    """
    wrong = [
        f"{item.name} is frozen at {item.frozen!r}, the form has {item.found!r}"
        for item in contradictions(run, settings, setting_names(given))
    ]
    if wrong:
        raise SettingsError(
            f"{run.name} exists with other values: {'; '.join(wrong)}.",
            remedy="Leave these fields blank to go on with it, or name another experiment.",
        )
