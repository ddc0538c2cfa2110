"""Take over evaluations between runs that froze the same inputs, settings and seed: the same trial, the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from evodiff.pipeline.create import link_or_copy
from evodiff.pipeline.generation import planned_trials, reference_curve
from evodiff.pipeline.heritage import inherits

if TYPE_CHECKING:
    from evodiff.pipeline.run import Run

# A trial's result is decided by these, its genome and its seed. Early stopping reads the generation before as well.
_DECIDING = ("training", "evaluation", "image_shape", "digests", "device", "working_set_mb")


def reuse_evaluations(run: Run, generation: int, sibling: Run) -> list[str]:
    """Tell ``run`` what ``sibling`` found out about trials of ``generation`` that are the same there; return their ids.

    Only runs on the CPU are so exact that this may be done.
    """
    if sibling.path == run.path or not _comparable(run, sibling):
        return []
    evolution = run.evolution()
    rows = [*run.ledger.plan(generation), *sibling.ledger.plan(generation)]
    heirs = {row["id"] for row in rows if inherits(row)}  # the weights of their parents are another run's
    taken = []
    for trial in planned_trials(run, generation):
        found = sibling.ledger.evaluations(generation).get(trial.id) if generation < sibling.ledger.closed else None
        if (
            found is None
            or found.failure is not None
            or trial.id in heirs
            or trial.id in run.ledger.evaluations(generation)
        ):
            continue
        if reference_curve(run, generation, trial.rung) != reference_curve(sibling, generation, trial.rung):
            continue
        source, target = sibling.ledger.weights_folder(trial), run.ledger.weights_folder(trial)
        if source.is_dir() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target, copy_function=lambda a, b: link_or_copy(Path(a), Path(b)))
        evolution.tell(
            trial.id, found.objectives, violations=found.violations, weights=found.weights, details=found.details
        )
        taken.append(trial.id)
    run.ledger.telemetry("reused", run=sibling.name, trials=taken)
    return taken


def _comparable(run: Run, sibling: Run) -> bool:
    if run.settings["device"] != "cpu" or run.experiment["seed"] != sibling.experiment["seed"]:
        return False
    if run.experiment["rungs"] != sibling.experiment["rungs"]:
        return False
    return all(run.settings.get(name) == sibling.settings.get(name) for name in _DECIDING)
