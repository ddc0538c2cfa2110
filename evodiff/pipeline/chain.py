"""Which of a scheduler's runs does which generation, and which is to be started next.

A generation has a run of its own, ``digits-g0007``; where that came to nothing, ``digits-g0007-attempt2`` begins it
again.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from evodiff.errors import EvodiffError
from evodiff.pipeline.control import next_step
from evodiff.pipeline.lease import holders
from evodiff.pipeline.requests import requests
from evodiff.pipeline.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from evodiff.settings import Settings

# How many runs for one generation may fail before a person has to look.
ATTEMPTS = 3


class Scheduler(Protocol):
    """What a scheduler knows of its own runs: how many of those that are named are what the method asks for."""

    def known(self, run_ids: Sequence[str]) -> int:
        """Count those that were ever started."""
        ...

    def active(self, run_ids: Sequence[str]) -> int:
        """Count those that are running or wait to."""
        ...

    def failed(self, run_ids: Sequence[str]) -> int:
        """Count those that ended by a failure."""
        ...


@dataclass
class Survey:
    """What experiments want: for each that wants a generation ``run_id`` and ``experiment`` of the run to start.

    There is a line on each experiment; ``damaged`` are the lines on those that could not be asked.
    """

    wanted: list[dict[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def experiments(runs_dir: Path) -> Iterator[Path]:
    """Yield the folders of all experiments, but for those that are being created, whose names begin with a dot."""
    for file in sorted(runs_dir.glob("*/experiment.json")):
        if not file.parent.name.startswith("."):
            yield file.parent


def survey(settings: Settings, *, now: datetime, scheduler: Scheduler) -> Survey:
    """Ask every experiment whether it wants a generation that nobody works on."""
    found = Survey()
    for path in experiments(settings.runs_dir):
        try:
            run_id, reason = _wanted_run(path, now, scheduler)
        except Exception as error:  # one damaged folder must not hold up the others, however it is damaged
            reason = str(error) if isinstance(error, EvodiffError) else f"{type(error).__name__}: {error}"
            found.damaged.append(f"{path.name}: {reason}")
            run_id = None
        found.lines.append(f"{path.name}: {reason}")
        if run_id is not None:
            found.wanted.append({"run_id": run_id, "experiment": path.name})
    return found


def _wanted_run(path: Path, now: datetime, scheduler: Scheduler) -> tuple[str | None, str]:
    run = Run.open(path)
    if not requests(run):
        return None, "not driven by a scheduler"
    step = next_step(run, now)
    if not step.wanted:
        return None, step.reason
    return successor(run, scheduler)


def successor(run: Run, scheduler: Scheduler) -> tuple[str | None, str]:
    """Return the id of the scheduler's run that is to do the next generation, or None, and the reason."""
    generation = run.ledger.closed
    attempts = started_runs(run, generation, scheduler)
    active = first_active(scheduler, [*holders(run, since=generation), *attempts])
    if active is not None:
        return None, f"{active} works on generation {generation} or waits its turn"
    if attempts and (failed := scheduler.failed(attempts)) >= ATTEMPTS:
        return None, (
            f"generation {generation} failed {failed} times; trigger the form for {run.name} again, clear the failed "
            f"task of {attempts[-1]}, or go on by hand: evodiff evolve --resume {run.path}"
        )
    run_id = generation_run_id(run, generation, len(attempts) + 1)
    return run_id, f"{run_id} is to do generation {generation}"


def started_runs(run: Run, generation: int, scheduler: Scheduler) -> list[str]:
    """Return the ids of the runs that were started for a generation, whatever came of them; not those of forms."""
    run_ids = (generation_run_id(run, generation, attempt) for attempt in itertools.count(1))
    return list(itertools.takewhile(lambda run_id: scheduler.known([run_id]), run_ids))


def first_active(scheduler: Scheduler, run_ids: Sequence[str]) -> str | None:
    """Return the first of these runs that is running or waits to, None where none is."""
    if not run_ids or not scheduler.active(run_ids):
        return None
    return next((run_id for run_id in run_ids if scheduler.active([run_id])), None)


def generation_run_id(run: Run, generation: int, attempt: int = 1) -> str:
    """Return the scheduler's id of the run that does a generation, ``digits-g0007``; later attempts are numbered."""
    return f"{run.name}-g{generation:04d}" + (f"-attempt{attempt}" if attempt > 1 else "")
