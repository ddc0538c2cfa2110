"""After the search: choose the champion, train it on, draw its pictures, time the front on the real device."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from evodiff.architecture.cost import training_flops
from evodiff.architecture.graph import resolve
from evodiff.errors import CandidateNotFound, EvodiffError, Interrupted, PoolError
from evodiff.pipeline.generation import QUIET, Listener, resume_hint
from evodiff.pipeline.inputs import PATIENCE_SECONDS
from evodiff.pipeline.preference import parse_preference
from evodiff.pipeline.scratch import front_from_scratch
from evodiff.pipeline.served_latency import as_served, latency_factor
from evodiff.pipeline.steering import preference
from evodiff.training.digests import published_steps
from evodiff.workers import Outcome, Task, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.engine import Candidate
    from evodiff.pipeline.run import Run

CHAMPION_FILE = "final/champion.json"
LATENCY_FILE = "final/latency.json"
PICTURES_FILE = "pictures.safetensors"
VALIDATION_FILE = "validation.json"
ROBUSTNESS_FILE = "robustness.json"
PICTURES = 100
FINAL_FACTORS = (5, 20)  # a champion's final training, in trainings of a trial

_TRAIN = "evodiff.pipeline.trial:train_final"
_DRAW = "evodiff.pipeline.judge:draw_pictures"
_TIME = "evodiff.pipeline.judge:measure_front"
_VALIDATE = "evodiff.pipeline.judge:validate_candidate"
_BEAR = "evodiff.pipeline.judge:judge_robustness"


def champion(run: Run) -> Candidate[ArchitectureGenome] | None:
    """Return the feasible candidate of the front with the largest fitness inside the run's preference, if there is one.

    Fitness has people's preference in it, and limits on latency are held against the latency as it is where candidates
    serve, if the last closed generation joined such.

    What it reaches from scratch counts: a member of the front that inherited weights is none before
    :func:`~evodiff.pipeline.scratch.retrain_front` has tried it.
    """
    limits = parse_preference(preference(run), [objective.name for objective in run.objectives])
    factor = latency_factor(run) if limits else 1.0
    eligible = [
        candidate
        for candidate in front_from_scratch(run)
        if candidate.evaluation is not None
        and candidate.evaluation.feasible
        and all(limit.holds(as_served(candidate.evaluation.objectives, factor)) for limit in limits)
    ]
    return max(eligible, key=lambda candidate: (candidate.fitness_score or 0.0, candidate.id), default=None)


def finish(
    run: Run, pool: WorkerPool, *, steps: int, listener: Listener = QUIET
) -> Candidate[ArchitectureGenome] | None:
    """Train the champion to ``steps`` steps, draw its pictures, time the front; all of it goes to ``RUN/final``.

    Returns the champion, None where no candidate is feasible and inside the preference.
    """
    best = champion(run)
    if best is None:
        return None
    train_candidate(run, best.id, pool, steps=steps, listener=listener)
    # By itself: latency is never measured while something else runs.
    timing = {"run": str(run.path.resolve())}
    run_one(run, pool, Task("latency of the front", _TIME, timing, predicted_seconds=PATIENCE_SECONDS), listener)
    content = {"champion": best.id, "steps": trained_steps(run, best.id), "prefer": preference(run)}
    run.ledger.replace(CHAMPION_FILE, json.dumps(content, sort_keys=True).encode() + b"\n")
    return best


def final_steps(run: Run) -> int:
    """Return for how many steps the champion is trained: on the compute of one generation's trials, within bounds.

    A small champion gets more steps than a large one; all get 5 to 20 times those of a trial.
    """
    best = champion(run)
    if best is None or run.ledger.closed == 0:
        return run.training.steps
    spent = sum(
        training_flops(resolve(run.space.from_json(row["genome"]), run.shape), run.training.batch_size)
        * run.added_steps(row)
        for row in run.ledger.plan(run.ledger.closed - 1)
    )
    a_step = training_flops(resolve(best.genome, run.shape), run.training.batch_size)
    fewest, most = FINAL_FACTORS
    return min(most * run.training.steps, max(fewest * run.training.steps, round(spent / a_step)))


def train_candidate(run: Run, candidate: str, pool: WorkerPool, *, steps: int, listener: Listener = QUIET) -> None:
    """Train a candidate to ``steps`` steps into ``RUN/final/ID``, with pictures; a longer training there stays.

    What is there and whole is not made again.
    """
    row = trial_row(run, candidate)
    seconds = run.predicted_seconds(run.space.from_json(row["genome"]), steps)
    payload = {"run": str(run.path.resolve()), "trial": row, "steps": steps, "count": PICTURES}
    if trained_steps(run, candidate) < steps:
        run_one(run, pool, Task(candidate, _TRAIN, payload, predicted_seconds=seconds), listener)
    if pictures(run, candidate) is None:
        run_one(run, pool, Task(candidate, _DRAW, payload, predicted_seconds=seconds), listener)


def trained_steps(run: Run, candidate: str) -> int:
    """Return the steps of the long training of a candidate, 0 where there is none that is whole."""
    return published_steps(run.final_folder(candidate))


def pictures(run: Run, candidate: str) -> dict[str, NDArray[Any]] | None:
    """Return the images that a candidate's long training generated; None where there are none that can be read.

    ``images`` are uint8 (n, channels, size, size), ``labels``, where there are classes, int64 (n,).
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = run.ledger.read(run.final_folder(candidate) / PICTURES_FILE)
    try:
        found = load(content or b"")
    except SafetensorError:
        return None
    images, labels = found.get("images"), found.get("labels")
    shape = (run.shape.channels, run.shape.size, run.shape.size)
    if images is None or images.dtype != np.uint8 or images.shape[1:] != shape:
        return None
    return found if labels is None or labels.shape == images.shape[:1] else None


def validate_candidate(
    run: Run,
    candidate: str,
    pool: WorkerPool,
    *,
    samples: int,
    steps: int | None = None,
    thorough: bool = False,
    listener: Listener = QUIET,
) -> dict[str, Any]:
    """Judge a candidate by test images and the second feature net; the result is stored beside its weights too.

    It is trained to ``steps`` first (by default those of a trial), unless there is a training as long. Other ways of
    sampling are judged after it, into ``robustness.json``; not quickly, but by as many images as a score, if
    ``thorough``.
    """
    identifier = named_candidate(run, candidate)
    train_candidate(run, identifier, pool, steps=steps or run.training.steps, listener=listener)
    payload = {"run": str(run.path.resolve()), "trial": trial_row(run, identifier)}
    judging = Task(identifier, _VALIDATE, {**payload, "count": samples}, predicted_seconds=PATIENCE_SECONDS)
    found = run_one(run, pool, judging, listener)
    bearing = Task("robustness", _BEAR, {**payload, "thorough": thorough}, predicted_seconds=PATIENCE_SECONDS)
    run_one(run, pool, bearing, listener)
    return found


def named_candidate(run: Run, name: str) -> str:
    """Return the id that ``name`` stands for: ``champion``, an id, or a unique prefix of one.

    Raises:
        CandidateNotFound: there is no such candidate, or there are several.
    """
    if name != "champion":
        return run.ledger.find(name)
    best = champion(run)
    if best is None:
        raise CandidateNotFound(
            f"{run.name} has no champion: expected a feasible candidate inside the preference "
            f"{run.settings['prefer'] or '(none)'}, found none.",
            remedy="Name a candidate by its id; `evodiff trials` lists them.",
        )
    return best.id


def trial_row(run: Run, candidate: str) -> Mapping[str, Any]:
    """Return the first row of the plans that tried a candidate on the highest rung that it was tried on."""
    plans = (run.ledger.plan(generation) for generation in range(run.ledger.generations))
    rows = [row for plan in plans for row in plan if row["candidate"] == candidate]
    if rows:
        return max(rows, key=lambda row: row["rung"])
    raise EvodiffError(f"{candidate} was never tried in {run.name}.", remedy="List the trials with `evodiff trials`.")


def run_one(run: Run, pool: WorkerPool, task: Task, listener: Listener) -> dict[str, Any]:
    """Have one task done and return its value.

    Raises:
        Interrupted: the pool was asked to stop.
        PoolError: its worker was lost; another try may do.
        EvodiffError: the task failed.
    """
    (outcome,) = pool.run([task], on_progress=listener.progress)
    return _value(run, outcome)


def _value(run: Run, outcome: Outcome) -> dict[str, Any]:
    if outcome.interrupted:
        raise Interrupted(f"{run.name} was stopped; what it had done is stored.", remedy=resume_hint(run))
    if outcome.failure is not None:
        raise (PoolError if outcome.failure.kind == "environment" else EvodiffError)(
            f"{outcome.id}: {outcome.failure.cause}. {outcome.failure.detail}".strip(), remedy=resume_hint(run)
        )
    return outcome.value or {}
