"""Which of a scheduler's runs does which generation, and which is to be started next.

A generation has a run of its own, ``digits-g0007``; where that failed, ``digits-g0007-attempt2`` begins it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.errors import EvodiffError
from evodiff.pipeline.control import next_step
from evodiff.pipeline.lease import leases
from evodiff.pipeline.requests import requests
from evodiff.pipeline.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from evodiff.settings import Settings

# How often a generation is begun again after its run failed, before a person has to look.
ATTEMPTS = 3


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
