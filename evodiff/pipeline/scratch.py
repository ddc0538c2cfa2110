"""The front as it is without inheritance: members that inherited weights are trained once more, from their seeds.

What they reach then is what counts: the champion is chosen by it, and the report shows it beside what the search saw.
``RUN/scratch-front/ID/`` holds ``evaluation.json``, and ``weights/`` as they were judged.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from evodiff.engine import Evaluation
from evodiff.engine.candidate import Failure
from evodiff.errors import Interrupted, PoolError
from evodiff.pipeline.generation import QUIET, Listener, resume_hint
from evodiff.pipeline.heritage import from_scratch, inherits
from evodiff.workers import Outcome, Task, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.engine import Candidate
    from evodiff.pipeline.run import Run

FOLDER: Final = "scratch-front"

_RETRAIN: Final = "evodiff.pipeline.trial:train_from_scratch"


def retrain_front(
    run: Run, pool: WorkerPool, *, only: Collection[str] | None = None, listener: Listener = QUIET
) -> None:
    """Train and judge those members of the front from scratch that inherited weights; what is stored stays.

    All, or those that are named by ``only``, get the steps of a trial on the highest rung, and no training is stopped
    early.

    Raises:
        Interrupted: the pool was asked to stop; what was done is stored.
        PoolError: a worker was lost, or out of memory; another try may do.
    """
    heirs = heirs_of_front(run)
    wanted = heirs if only is None else heirs.keys() & only
    rows = {name: row for name, row in heirs.items() if name in wanted and scratch_evaluation(run, name) is None}
    tasks = [
        Task(
            id=candidate,
            function=_RETRAIN,
            payload={"run": str(run.path.resolve()), "trial": from_scratch(row), "steps": run.training.steps},
            predicted_seconds=run.predicted_seconds(run.space.from_json(row["genome"]), run.training.steps),
        )
        for candidate, row in rows.items()
    ]
    lost = None
    for outcome in pool.run(tasks, on_progress=listener.progress):
        if outcome.interrupted or (outcome.failure is not None and outcome.failure.kind == "environment"):
            lost = outcome
        else:
            _store(run, rows[outcome.id], outcome)
    if lost is not None:
        _raise(run, lost)


def evaluation_from_scratch(run: Run, trial: Mapping[str, Any]) -> Evaluation | None:
    """Return what a candidate's trial reached from scratch, None where nothing is known of it.

    Those are the values of the weights that serve: of a trial that inherited they are those of the training after it.
    """
    if inherits(trial):
        found = scratch_evaluation(run, trial["candidate"])
    else:
        found = run.ledger.evaluation(trial["generation"], trial["id"])
    return None if found is None or found.failure is not None else found


def heirs_of_front(run: Run) -> dict[str, Mapping[str, Any]]:
    """Return the members of the front whose values rest on inherited weights, each with the row of that trial."""
    if not run.inherits:
        return {}
    front = {candidate.id for candidate in run.evolution().front()}
    best: dict[str, Mapping[str, Any]] = {}
    for generation in range(run.ledger.generations):
        for row in run.ledger.plan(generation):
            known = best.get(row["candidate"])
            if row["candidate"] in front and (known is None or row["rung"] > known["rung"]):
                best[row["candidate"]] = row
    return {candidate: row for candidate, row in best.items() if inherits(row)}


def awaits_scratch(run: Run, candidate: str) -> bool:
    """Whether a member of the front rests on inherited weights, and was not trained from scratch yet."""
    return candidate in heirs_of_front(run) and scratch_evaluation(run, candidate) is None


def front_from_scratch(run: Run) -> list[Candidate[ArchitectureGenome]]:
    """Return the members of the front as they are from scratch, with the fitness that they have then.

    Those that inherited and were not trained from scratch yet are left out: nothing is known of them.
    """
    evolution = run.evolution()
    heirs = heirs_of_front(run)
    found = []
    for candidate in evolution.front():
        evaluation = scratch_evaluation(run, candidate.id) if candidate.id in heirs else candidate.evaluation
        if candidate.id not in heirs:
            found.append(candidate)
        elif evaluation is not None:
            score = evolution.fitness(candidate.id, evaluation)
            found.append(replace(candidate, evaluation=evaluation, fitness_score=score))
    return found


def scratch_evaluation(run: Run, candidate: str) -> Evaluation | None:
    """Return what a candidate reached from scratch, None where it was not tried, or where that cannot be read."""
    try:
        return Evaluation.from_json(json.loads(run.ledger.read(_file(candidate)) or b""))
    except (ValueError, KeyError, TypeError):
        return None


def scratch_weights(run: Run, candidate: str) -> Path:
    """Return where the weights of a candidate's training from scratch are."""
    return run.path / FOLDER / candidate / "weights"


def _file(candidate: str) -> str:
    return f"{FOLDER}/{candidate}/evaluation.json"


def _store(run: Run, row: Mapping[str, Any], outcome: Outcome) -> None:
    genome = run.space.from_json(row["genome"])
    if outcome.failure is not None:
        evaluation = Evaluation(failure=Failure(outcome.failure.cause, outcome.failure.detail, outcome.failure.kind))
    else:
        value = outcome.value or {}
        wanted = {objective.name for objective in run.objectives}
        costs = {name: cost for name, cost in run.space.costs(genome).items() if name in wanted}
        evaluation = Evaluation(
            objectives={**costs, **value["objectives"]},
            violations=run.violations(genome),
            weights=value["weights"],
            details=value["details"],
        )
    content = {"candidate": row["candidate"], "steps": run.training.steps, **evaluation.to_json()}
    run.ledger.replace(_file(row["candidate"]), json.dumps(content, sort_keys=True, indent=1).encode() + b"\n")


def _raise(run: Run, outcome: Outcome) -> None:
    if outcome.interrupted or outcome.failure is None:
        raise Interrupted(f"{run.name} was stopped; what it had done is stored.", remedy=resume_hint(run))
    raise PoolError(
        f"{outcome.id}, from scratch: {outcome.failure.cause}. {outcome.failure.detail}".strip(),
        remedy=resume_hint(run),
    )
