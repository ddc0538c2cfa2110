"""Evolve for a number of generations: the loop that the command line drives."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evodiff.engine.convergence import plateaued
from evodiff.engine.fitness_course import with_fitness_shown
from evodiff.pipeline.deployment import record_deployment
from evodiff.pipeline.generation import QUIET, Listener, plan, select, train_and_evaluate
from evodiff.pipeline.lease import open_generation
from evodiff.pipeline.reuse import reuse_evaluations

if TYPE_CHECKING:
    from collections.abc import Callable

    from evodiff.pipeline.run import Run
    from evodiff.workers import WorkerPool


@dataclass(frozen=True)
class Watcher:
    """Who follows a search: ``planned`` (generation, trials), ``selected`` (``result.json``, with the fitness to be
    shown), and each trial."""

    planned: Callable[[int, int], None] = lambda generation, trials: None
    selected: Callable[[dict[str, Any]], None] = lambda result: None
    trials: Listener = QUIET


UNWATCHED = Watcher()


def evolve(
    run: Run,
    pool: WorkerPool,
    *,
    generations: int,
    holder: str,
    watcher: Watcher = UNWATCHED,
    deadline: float | None = None,
    stop_on_plateau: bool = False,
    siblings: tuple[Run, ...] = (),
) -> int:
    """Work until ``generations`` generations are closed; adopt an unfinished one first. Return how many are closed.

    ``deadline`` is a reading of ``time.monotonic``: no generation is opened that, going by the one before, would end
    after it. With ``stop_on_plateau`` none is opened once the search :func:`has_plateaued`. ``siblings`` are runs over
    the same inputs, whose evaluations of the very same trials are taken over.

    Raises:
        Interrupted: the pool was asked to stop; everything done is stored.
    """
    longest = 0.0
    while (generation := run.ledger.closed) < generations:
        late = deadline is not None and time.monotonic() + longest > deadline
        if (late or (stop_on_plateau and has_plateaued(run))) and not run.ledger.started(generation):
            break
        started = time.monotonic()
        if not evolve_generation(run, pool, f"{holder}-g{generation:04d}", watcher, siblings):
            break
        longest = time.monotonic() - started
    return run.ledger.closed


def has_plateaued(run: Run) -> bool:
    """Return whether the closed generations of a run say that its search has converged."""
    return plateaued(run.evolution().history())


def evolve_generation(
    run: Run, pool: WorkerPool, holder: str, watcher: Watcher = UNWATCHED, siblings: tuple[Run, ...] = ()
) -> bool:
    """Do all steps of the generation whose turn it is; return False where the space has nothing left to try."""
    lease = open_generation(run, holder)
    record_deployment(run, lease.generation)
    trials = plan(run, lease.generation)
    watcher.planned(lease.generation, len(trials))
    if not trials:
        return False
    for sibling in siblings:
        reuse_evaluations(run, lease.generation, sibling)
    train_and_evaluate(run, lease.generation, pool, listener=watcher.trials)
    watcher.selected(with_fitness_shown(run.ledger, select(run, lease.generation)))
    return True
