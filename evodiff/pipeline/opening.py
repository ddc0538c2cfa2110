"""Open a generation for a scheduler: by a form that a person filled in, or as the successor of the one before.

A scheduler knows which of its own runs are alive, and says so by ``is_active``. Everything else is read from the run
folder, so each function may be called again, by another process, at any time.
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evodiff.errors import EvodiffError, LedgerError, SettingsError
from evodiff.pipeline.chain import ATTEMPTS, generation_run_id
from evodiff.pipeline.control import State, next_step, set_state, state
from evodiff.pipeline.create import check_settings, create_run
from evodiff.pipeline.frozen import contradictions
from evodiff.pipeline.lease import leases, open_generation
from evodiff.pipeline.prepare import prepare
from evodiff.pipeline.requests import submit, withdraw
from evodiff.pipeline.run import Run
from evodiff.pipeline.session import open_workers
from evodiff.pipeline.shards import log_listener
from evodiff.pipeline.steering import Steering, check_steering, end_reason, record_steering, steering
from evodiff.pipeline.warm_start import open_source, starts_from
from evodiff.settings import load_settings, setting_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from evodiff.pipeline.generation import Listener
    from evodiff.settings import Settings
    from evodiff.workers import WorkerPool


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
        SettingsError: the name is none that a folder below ``runs_dir`` can have.
    """
    if not name or name.startswith((".", "-")) or not all(part.isalnum() or part in "._-" for part in name):
        raise SettingsError(
            f"Not a name for an experiment: {name!r}.", remedy="Use letters, digits, dots, dashes and underscores."
        )
    return settings.runs_dir / name


def open_form(
    form: Form,
    holder: str,
    *,
    now: datetime,
    is_active: Callable[[str], bool],
    say: Callable[[str], None],
) -> Opened:
    """Open the generation that a form asks for, creating its experiment where there is none.

    ``holder`` is the scheduler's id of the run that asks; ``say`` gets a line for each thing that is prepared.

    Raises:
        AlreadyLooping: a driver that is alive works on the experiment.
        NothingToDo: the experiment has ended, and the form does not extend it.
        SettingsError: the form contradicts what the experiment froze, or has a value that cannot be used.
    """
    settings = load_settings(dict(form.frozen))
    path = experiment_folder(form.experiment, settings)
    if (path / "experiment.json").exists():
        run = Run.open(path)
        check_frozen(run, settings, form.frozen)
        check_steering(form.steering, [objective.name for objective in run.objectives])
    else:
        check_settings(settings)
        check_steering(form.steering, settings.objectives)
        source = None if form.transfer_from is None else open_source(experiment_folder(form.transfer_from, settings))
        with open_workers(settings, say) as workers:
            run = create_or_open(settings, path, workers, log_listener(say), source)
    _refuse_when_looping(run, holder, is_active)
    if all(lease.holder != holder for lease in leases(run)):
        ended = end_reason(run, steering(run, form.steering))
        if ended is not None:
            raise NothingToDo(f"{run.name}: {ended}.", remedy="Ask for more generations or a larger budget.")
        request = submit(run, {"form": holder}, form.steering, now)
        if state(run) is not State.RUNNING:
            set_state(run, State.RUNNING)
        try:
            return _open(run, holder, now, is_active)
        except AlreadyLooping:  # another form was faster by a moment
            withdraw(run, request)
            raise
    return _open(run, holder, now, is_active)


def open_chained(
    experiment: str,
    holder: str,
    *,
    now: datetime,
    is_active: Callable[[str], bool],
) -> Opened:
    """Open the generation that an experiment wants now, for a run that another run or a timer started.

    Raises:
        AlreadyLooping: another driver that is alive has it.
        NothingToDo: none is wanted.
    """
    return _open(Run.open(experiment_folder(experiment, load_settings({}))), holder, now, is_active)


def _open(run: Run, holder: str, now: datetime, is_active: Callable[[str], bool]) -> Opened:
    """Take or adopt the generation that is wanted now."""
    if all(lease.holder != holder for lease in leases(run)):
        step = next_step(run, now)
        if not step.wanted:
            raise NothingToDo(f"{run.name}: {step.reason}.", remedy="Nothing has to be done.")
    lease = open_generation(run, holder)
    if lease.holder != holder and is_active(lease.holder):
        raise AlreadyLooping(
            f"{run.name}: generation {lease.generation} is being worked on by {lease.holder}.",
            remedy="Look at that run; this one has consumed nothing.",
        )
    record_steering(run, lease.generation)
    return Opened(str(run.path.resolve()), lease.generation)


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


def create_or_open(
    settings: Settings, path: Path, pool: WorkerPool, listener: Listener, source: Run | None = None
) -> Run:
    """Create a run whole, at once, or open the one that a twin has created meanwhile.

    The front of ``source``, another run, is tried first.

    Raises:
        GateFailed: the dataset is bad; nothing was created.
    """
    inputs = prepare(settings, pool, listener.progress).inputs
    starts = () if source is None else starts_from(source, settings, inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        create_run(settings, making, inputs, warm_start=starts)
        making.rename(path)
    except OSError as error:
        if not (path / "experiment.json").exists():
            raise LedgerError(f"Could not create {path}: {error.strerror}.", remedy="Free that name.") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Run.open(path)


def _refuse_when_looping(run: Run, holder: str, is_active: Callable[[str], bool]) -> None:
    drivers = {lease.holder for lease in leases(run)}
    drivers |= {generation_run_id(run, run.ledger.closed, attempt + 1) for attempt in range(ATTEMPTS)}
    for other in sorted(drivers - {holder}):
        if is_active(other):
            raise AlreadyLooping(
                f"{run.name} is already looping: {other} is running or waits its turn.",
                remedy=f"Let it go on, or end it first: evodiff stop {run.path}",
            )
