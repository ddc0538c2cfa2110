"""What a scheduler calls: a form opens a generation, shards of it are trained and judged, the next one is asked for.

A scheduler knows which of its own runs are alive; it says so by ``is_active``. Everything else is read from the run
folder, so every function may be called again, by another process, at any time.
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evodiff.errors import EvodiffError, LedgerError, SettingsError
from evodiff.pipeline.control import State, next_step, set_state, state
from evodiff.pipeline.create import check_settings, create_run
from evodiff.pipeline.generation import Listener, has_weights, planned_trials, take_shard, untold
from evodiff.pipeline.generation import evaluate as evaluate_trials
from evodiff.pipeline.generation import train as train_trials
from evodiff.pipeline.inputs import gather_inputs
from evodiff.pipeline.lease import Lease, leases, open_generation
from evodiff.pipeline.requests import requests, submit
from evodiff.pipeline.run import Run
from evodiff.pipeline.session import open_workers, worker_count
from evodiff.pipeline.steering import check_steering, end_reason, record_steering, steering
from evodiff.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from evodiff.engine import Evaluation
    from evodiff.pipeline.generation import PlannedTrial
    from evodiff.settings import Settings
    from evodiff.workers import WorkerPool

# How often a generation is begun again after its driver failed, before a person has to look.
ATTEMPTS = 3


class AlreadyLooping(EvodiffError):  # noqa: N818 - an answer, not a fault
    """A form named an experiment that is being worked on; nothing was consumed."""


class NothingToDo(EvodiffError):  # noqa: N818 - an answer, not a fault
    """A run wants no further generation now; the message says why."""


@dataclass(frozen=True)
class Form:
    """What a person filled in, without what was left blank.

    ``frozen`` goes into the experiment and has names of :class:`~evodiff.settings.Settings` (``steps`` for those of the
    training); ``steering`` may change later and has names of :class:`~evodiff.pipeline.steering.Steering`.
    """

    experiment: str
    frozen: Mapping[str, Any]
    steering: Mapping[str, Any]


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
) -> tuple[Run, Lease]:
    """Open the generation that a form asks for, creating its experiment where there is none.

    ``say`` gets a line for each thing that is prepared for a new experiment.

    Raises:
        AlreadyLooping: a driver that is alive works on the experiment.
        NothingToDo: the experiment has ended, and the form does not extend it.
        SettingsError: the form contradicts what the experiment froze, or has a value that cannot be used.
    """
    check_steering(form.steering)
    settings = load_settings(dict(form.frozen))
    path = experiment_folder(form.experiment, settings)
    if (path / "experiment.json").exists():
        run = Run.open(path)
        check_frozen(run, form.frozen)
    else:
        check_settings(settings)
        with open_workers(settings, say) as workers:
            run = create_or_open(settings, path, workers, log_listener(say))
    _refuse_when_looping(run, holder, is_active)
    if all(lease.holder != holder for lease in leases(run)):
        ended = end_reason(run, steering(run, form.steering))
        if ended is not None:
            raise NothingToDo(f"{run.name}: {ended}.", remedy="Ask for more generations or a larger budget.")
        submit(run, {"form": holder}, form.steering, now)
        if state(run) is not State.RUNNING:
            set_state(run, State.RUNNING)
    return run, open_for(run, holder, now=now, is_active=is_active)


def open_for(run: Run, holder: str, *, now: datetime, is_active: Callable[[str], bool]) -> Lease:
    """Take or adopt the generation that is wanted now.

    Raises:
        AlreadyLooping: another driver that is alive has it.
        NothingToDo: none is wanted.
    """
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
    return lease


def check_frozen(run: Run, given: Mapping[str, Any]) -> None:
    """Check that the values a form gives are those that the run froze.

    Raises:
        SettingsError: one is not; the message says which.
    """
    frozen = run.options()
    wrong = [
        f"{name} is frozen at {frozen[name]!r}, the form has {value!r}"
        for name, value in given.items()
        if name in frozen and value != frozen[name]
    ]
    if wrong:
        raise SettingsError(
            f"{run.name} exists with other values: {'; '.join(wrong)}.",
            remedy="Leave these fields blank to go on with it, or name another experiment.",
        )


def create_or_open(settings: Settings, path: Path, pool: WorkerPool, listener: Listener) -> Run:
    """Create a run whole, at once, or open the one that a twin has created meanwhile."""
    inputs = gather_inputs(settings, pool, listener.progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        create_run(settings, making, inputs)
        making.rename(path)
    except OSError as error:
        if not (path / "experiment.json").exists():
            raise LedgerError(f"Could not create {path}: {error.strerror}.", remedy="Free that name.") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Run.open(path)


def shards(run: Run, generation: int) -> list[dict[str, Any]]:
    """Return how the trials of a generation are dealt out: for each task ``shard``, ``size`` and ``candidates``."""
    trials = planned_trials(run, generation)
    count = min(steering(run).shards or worker_count(load_settings({})), len(trials))
    names = [f"{index + 1}/{count}" for index in range(count)]
    dealt = {name: take_shard(run, trials, name) for name in names}
    return [
        {"shard": name, "size": len(part), "candidates": [trial.candidate for trial in part]}
        for name, part in dealt.items()
    ]


def train_shard(run: Run, generation: int, shard: str, say: Callable[[str], None]) -> None:
    """Train the trials of a shard, in one worker, until each has weights or has failed for good."""
    if _untrained(run, generation, shard):
        with open_workers(_one_worker(run), say) as pool:
            while _untrained(run, generation, shard):
                train_trials(run, generation, pool, shard=shard, listener=log_listener(say))


def evaluate_shard(run: Run, generation: int, shard: str, say: Callable[[str], None]) -> None:
    """Judge the trials of a shard, in one worker, until each has a result."""
    if _untold_of(run, generation, shard):
        with open_workers(_one_worker(run), say) as pool:
            while _untold_of(run, generation, shard):
                evaluate_trials(run, generation, pool, shard=shard, listener=log_listener(say))


def wanted_runs(
    settings: Settings, *, now: datetime, is_active: Callable[[str], bool], is_known: Callable[[str], bool]
) -> tuple[list[dict[str, str]], list[str]]:
    """Return for every experiment that wants a generation the scheduler's run to start, and a line on each experiment.

    ``is_known`` tells whether a scheduler's run of that id was ever started. The first are dictionaries with ``run_id``
    and ``experiment``.
    """
    wanted, lines = [], []
    for path in sorted(settings.runs_dir.glob("*/experiment.json")):
        try:
            run_id, reason = _wanted_run(path.parent, now, is_active, is_known)
        except EvodiffError as error:
            run_id, reason = None, str(error)  # one damaged folder must not hold up the others
        lines.append(f"{path.parent.name}: {reason}")
        if run_id is not None:
            wanted.append({"run_id": run_id, "experiment": path.parent.name})
    return wanted, lines


def _wanted_run(
    path: Path, now: datetime, is_active: Callable[[str], bool], is_known: Callable[[str], bool]
) -> tuple[str | None, str]:
    run = Run.open(path)
    if not requests(run):
        return None, "not driven by a scheduler"
    step = next_step(run, now)
    if not step.wanted:
        return None, step.reason
    return successor(run, is_active=is_active, is_known=is_known)


def successor(run: Run, *, is_active: Callable[[str], bool], is_known: Callable[[str], bool]) -> tuple[str | None, str]:
    """Return the id of the scheduler's run that is to do the next generation, or None, and the reason."""
    generation = run.ledger.closed
    holder = next((lease.holder for lease in leases(run) if lease.generation == generation), None)
    if holder is not None and is_active(holder):
        return None, f"{holder} works on generation {generation}"
    for attempt in range(1, ATTEMPTS + 1):
        run_id = generation_run_id(run, generation, attempt)
        if is_active(run_id):
            return None, f"{run_id} is on its way"
        if not is_known(run_id):
            return run_id, f"{run_id} is to do generation {generation}"
    return None, (
        f"generation {generation} failed {ATTEMPTS} times; clear the failed task of {run_id}, "
        f"or go on by hand: evodiff evolve --resume {run.path}"
    )


def generation_run_id(run: Run, generation: int, attempt: int = 1) -> str:
    """Return the scheduler's id of the run that does a generation, ``digits-g0007``; later attempts are numbered."""
    return f"{run.name}-g{generation:04d}" + (f"-attempt{attempt}" if attempt > 1 else "")


def log_listener(say: Callable[[str], None]) -> Listener:
    """Follow work by a line for each trial, for a log."""

    def progress(name: str, content: Mapping[str, Any]) -> None:
        if not content:
            say(f"{name} ...")

    def end(trial: PlannedTrial, evaluation: Evaluation | None, seconds: float) -> None:
        if evaluation is None:
            say(f"{trial.candidate} worked on for {seconds:.1f} s")
        elif evaluation.failure is not None:
            say(f"{trial.candidate} failed: {evaluation.failure.cause}. {evaluation.failure.detail}")
        else:
            scores = ", ".join(f"{name} {value:.4g}" for name, value in evaluation.objectives.items())
            say(f"{trial.candidate} {scores} ({seconds:.1f} s)")

    return Listener(progress, end)


def _untrained(run: Run, generation: int, shard: str) -> list[str]:
    return [trial.id for trial in _untold_of(run, generation, shard) if not has_weights(run, trial)]


def _untold_of(run: Run, generation: int, shard: str) -> list[PlannedTrial]:
    return untold(run, take_shard(run, planned_trials(run, generation), shard))


def _one_worker(run: Run) -> Settings:
    return load_settings({"device": run.settings["device"], "workers": 1})


def _refuse_when_looping(run: Run, holder: str, is_active: Callable[[str], bool]) -> None:
    generation = run.ledger.closed
    drivers = {lease.holder for lease in leases(run)} - {holder}
    drivers |= {generation_run_id(run, generation, attempt) for attempt in range(1, ATTEMPTS + 1)}
    for other in sorted(drivers - {holder}):
        if is_active(other):
            raise AlreadyLooping(
                f"{run.name} is already looping: {other} is running or waits its turn.",
                remedy=f"Let it go on, or end it first: evodiff stop {run.path}",
            )
