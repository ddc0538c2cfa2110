"""Carry out a contest of rivals, going on where an earlier one stopped, and store what the report shows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from evodiff.architecture.cost import memory_mb, operations, parameter_count
from evodiff.architecture.graph import resolve
from evodiff.engine.encoding import encode_document
from evodiff.errors import Interrupted, LedgerError
from evodiff.hardware.latency import predict_ms
from evodiff.pipeline.final import run_one
from evodiff.pipeline.generation import QUIET, Listener
from evodiff.pipeline.inputs import PATIENCE_SECONDS
from evodiff.pipeline.rivals import (
    BUDGETS,
    VALIDATION,
    Budget,
    Contest,
    Rival,
    contest_file,
    stored_document,
    stored_score,
)
from evodiff.workers import Task, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRESS: Final = "rivals"

_TRAIN = "evodiff.pipeline.rival_tasks:train_and_score"
_TIME = "evodiff.pipeline.rival_tasks:measure_rivals"
_AGAIN = "Give the same command again: what is trained and judged is not done twice."


def hold_contest(contest: Contest, pool: WorkerPool, listener: Listener = QUIET) -> dict[str, Any]:
    """Train and judge whatever is left to do, time the networks, store and return the result.

    A training that a worker lost, by a crash or its time-out, is no result: it is named in ``lost`` and tried again the
    next time. What is done is not done again, and neither is the result written if nothing is new.

    Raises:
        Interrupted: the pool was asked to stop; what is done is stored.
        LedgerError: a worker could not store its work.
    """
    lost = _train(contest, pool, listener)
    _measure(contest, pool, listener)
    content = _result(contest, lost)
    encoded = encode_document(content)
    if contest.run.ledger.read(contest_file(contest.candidate)) != encoded:
        contest.run.ledger.replace(contest_file(contest.candidate), encoded)
    return content


def _train(contest: Contest, pool: WorkerPool, listener: Listener) -> dict[str, str]:
    """Have what is left trained and judged; return the causes of those that were lost, by task."""
    left = contest.open_trainings()
    titles = {f"{rival.candidate}.seed{seed}": f"{rival.name}, seed {seed}" for rival, seed, _ in left}
    tasks = [_task(contest, rival, seed, stages) for rival, seed, stages in left]

    def progress(task: str, content: Mapping[str, Any]) -> None:
        listener.progress(task, {"title": titles[task], **content})

    lost: dict[str, str] = {}
    interrupted = False
    if tasks:
        listener.progress(PROGRESS, {"done": 0, "total": len(tasks)})
    for done, outcome in enumerate(pool.run(tasks, on_progress=progress), start=1):
        interrupted |= outcome.interrupted
        listener.done(outcome.id)
        listener.progress(PROGRESS, {"done": done, "total": len(tasks)})
        if outcome.failure is None:
            continue
        if outcome.failure.cause == "storage":
            raise LedgerError(
                f"A worker could not store its work: {outcome.failure.detail}",
                remedy=f"Free space or mend the permissions. {_AGAIN}",
            )
        lost[titles[outcome.id]] = f"{outcome.failure.cause}: {outcome.failure.detail}".rstrip(": ")
    if interrupted:
        raise Interrupted(f"The contest in {contest.run.name} was stopped; what it had done is stored.", remedy=_AGAIN)
    return lost


def _task(contest: Contest, rival: Rival, seed: int, stages: list[int]) -> Task:
    payload = {
        "run": str(contest.run.path.resolve()),
        "candidate": rival.candidate,
        "genome": contest.run.space.to_json(rival.genome),
        "seed": seed,
        "stages": stages,
        "samples": contest.samples,
    }
    return Task(f"{rival.candidate}.seed{seed}", _TRAIN, payload, contest.seconds(rival, stages))


def _measure(contest: Contest, pool: WorkerPool, listener: Listener) -> None:
    """Time the networks in turns, by themselves: latency is never measured while something else runs."""
    genomes = {rival.candidate: contest.run.space.to_json(rival.genome) for rival in contest.rivals}
    if len(genomes) < 2 or genomes.keys() <= _measured(contest).keys():
        return
    payload = {"run": str(contest.run.path.resolve()), "genomes": genomes}
    task = Task("latency of the rivals", _TIME, payload, predicted_seconds=PATIENCE_SECONDS)
    run_one(contest.run, pool, task, listener)


def _measured(contest: Contest) -> dict[str, Any]:
    found = stored_document(contest.run, f"{VALIDATION}/latency.json").get("networks", {})
    return found if isinstance(found, dict) else {}


def _result(contest: Contest, lost: Mapping[str, str]) -> dict[str, Any]:
    run = contest.run
    measured = _measured(contest)
    return {
        "candidate": contest.candidate,
        "steps": contest.steps,
        "seeds": contest.seeds,
        "samples": contest.samples,
        "budget_flops": contest.budget_flops,
        "target": run.settings["target"],
        "serving_batch": run.evaluation.serving_batch,
        "networks": [_network(contest, rival, measured.get(rival.candidate)) for rival in contest.rivals],
        "left_out": dict(contest.left_out),
        "lost": dict(lost),
    }


def _network(contest: Contest, rival: Rival, measured: Mapping[str, Any] | None) -> dict[str, Any]:
    run, resolved = contest.run, resolve(rival.genome, contest.run.shape)
    batch = run.evaluation.serving_batch
    steps = contest.steps_of(rival)
    return {
        "name": rival.name,
        "candidate": rival.candidate,
        "stock": rival.stock,
        "parameters": parameter_count(resolved),
        "memory_mb": memory_mb(resolved, batch),
        "predicted_ms": predict_ms(operations(resolved, batch), run.calibration),
        "measured": None if measured is None else dict(measured),
        "step_flops": contest.step_flops(rival),
        "budgets": {
            budget: {"steps": steps[budget], "trainings": _trainings(contest, rival, budget)} for budget in BUDGETS
        },
    }


def _trainings(contest: Contest, rival: Rival, budget: Budget) -> list[dict[str, Any] | None]:
    """Return what is known of each seed's training, None where it was lost."""
    steps = contest.steps_of(rival)[budget]
    kept = ("kid", "kid_standard_error", "label_accuracy", "failure")
    found = (stored_score(contest.run, rival, steps, seed, contest.samples) for seed in range(contest.seeds))
    return [None if score is None else {name: score[name] for name in kept if name in score} for score in found]
