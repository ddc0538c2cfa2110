"""The steps of one generation: plan, train, evaluate, select. Each works on the run folder and is safe to run twice."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evodiff.architecture.genome import ArchitectureGenome
from evodiff.engine import Evaluation, Evolution, Trial
from evodiff.errors import Interrupted, LedgerError, SettingsError
from evodiff.pipeline.disk import require_free_space
from evodiff.pipeline.heritage import inherits
from evodiff.pipeline.prune import remove_weights, superfluous_weights
from evodiff.settings import load_settings
from evodiff.training.digests import weights_damage
from evodiff.workers import Outcome, Task, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from evodiff.pipeline.run import Run

PlannedTrial = Trial[ArchitectureGenome]

TRAIN = "evodiff.pipeline.trial:train_trial"
EVALUATE = "evodiff.pipeline.trial:evaluate_trial"
TRAIN_AND_EVALUATE = "evodiff.pipeline.trial:train_and_evaluate_trial"

# Judging costs about this share of a training of the usual length.
_SCORING_SHARE = 0.3


@dataclass(frozen=True)
class Listener:
    """Who hears of the work: ``progress`` (id of trial or task, what it reports), ``end`` (trial, its evaluation,
    seconds) and ``done`` (id of a task that is no trial)."""

    progress: Callable[[str, Mapping[str, Any]], None] = lambda trial, content: None
    end: Callable[[PlannedTrial, Evaluation | None, float], None] = lambda trial, evaluation, seconds: None
    done: Callable[[str], None] = lambda task: None


QUIET = Listener()


def plan(run: Run, generation: int) -> list[PlannedTrial]:
    """Write the plan of a generation, or read the one that is there; empty where the space has nothing left to try.

    Raises:
        LedgerError: it is not this generation's turn, or the disk has no room for it.
    """
    evolution = run.evolution()
    _check_turn(run, generation)
    if not run.ledger.plan(generation):
        require_free_space(run, generation)
    if evolution.generation == generation:
        evolution.ask(evolution.population_size)
        if evolution.exhausted:
            return []
    return planned_trials(run, generation)


def planned_trials(run: Run, generation: int) -> list[PlannedTrial]:
    """Read the trials of a generation, all of them, from its plan.

    Raises:
        LedgerError: the generation is not planned.
    """
    rows = run.ledger.plan(generation)
    if not rows:
        raise LedgerError(
            f"Generation {generation} of {run.name} has no plan.",
            remedy=f"Run `evodiff generation plan --run {run.path} --generation {generation}` first.",
        )
    return [Trial.from_json(row, run.space.from_json(row["genome"])) for row in rows]


def train(run: Run, generation: int, pool: WorkerPool, *, shard: str = "1/1", listener: Listener = QUIET) -> None:
    """Train the trials of a shard (``2/3`` is the second of three) that have neither weights nor a result."""
    trials = untold(run, take_shard(run, planned_trials(run, generation), shard))
    _work(run, pool, TRAIN, [trial for trial in trials if not has_weights(run, trial)], listener)


def evaluate(run: Run, generation: int, pool: WorkerPool, *, shard: str = "1/1", listener: Listener = QUIET) -> None:
    """Judge the trials of a shard that have no result yet.

    Raises:
        LedgerError: one of them is not trained.
    """
    trials = untold(run, take_shard(run, planned_trials(run, generation), shard))
    missing = [trial.id for trial in trials if not has_weights(run, trial)]
    if missing:
        raise LedgerError(
            f"Expected every trial of generation {generation} to have weights; none have {', '.join(missing[:3])}.",
            remedy=f"Run `evodiff generation train --run {run.path} --generation {generation}` first.",
        )
    _work(run, pool, EVALUATE, trials, listener)


def train_and_evaluate(run: Run, generation: int, pool: WorkerPool, *, listener: Listener = QUIET) -> None:
    """Do both, trial by trial, until every trial of the generation has a result."""
    trials = planned_trials(run, generation)
    while open_trials := untold(run, trials):
        try:
            _work(run, pool, TRAIN_AND_EVALUATE, open_trials, listener)
        except LedgerError:
            if run.ledger.closed <= generation:
                raise
            return  # another driver closed it meanwhile, and dropped weights that its trials start from


def select(run: Run, generation: int) -> dict[str, Any]:
    """Close a generation whose trials all have a result, drop what nothing needs any more, return ``result.json``.

    Raises:
        LedgerError: trials are open.
    """
    evolution = run.evolution()
    _check_turn(run, generation)
    _ask_registration(run, generation)
    evolution.close_generation()
    result = run.ledger.result(generation)
    if result is None:
        left = [trial.id for trial in untold(run, planned_trials(run, generation))]
        raise LedgerError(
            f"Generation {generation} is not done: {len(left)} trials have no result, such as {left[:3]}.",
            remedy=f"Run `evodiff generation train` and `evaluate` with --run {run.path} --generation {generation}.",
        )
    remove_weights(run, superfluous_weights(run))
    trained_on = evolution.promotable(2 * evolution.population_size)
    drop_checkpoints(run, keep={*trained_on, *(candidate.id for candidate in evolution.front())})
    return result


def _ask_registration(run: Run, generation: int) -> None:
    """Say, where models are registered, that those of a generation are to be, before its weights may be dropped."""
    if load_settings({}).tracking_uri is not None:
        from evodiff.tracking.outbox import ask_registration

        ask_registration(run, generation)


def take_shard(run: Run, trials: Sequence[PlannedTrial], shard: str) -> list[PlannedTrial]:
    """Return the trials of one shard: predicted work is dealt out, the longest first, to the lightest shard.

    Give it the whole plan: then every worker computes the same division at any time.

    Raises:
        SettingsError: ``shard`` is not of the form ``2/3``.
    """
    index, count = _parse_shard(shard)
    loads = [0.0] * count
    dealt: list[list[PlannedTrial]] = [[] for _ in range(count)]
    for trial in sorted(trials, key=lambda trial: (-predicted_seconds(run, trial), trial.id)):
        lightest = loads.index(min(loads))
        loads[lightest] += predicted_seconds(run, trial)
        dealt[lightest].append(trial)
    return dealt[index - 1]


def predicted_seconds(run: Run, trial: PlannedTrial) -> float:
    """Predict how long training and judging a trial takes; for the order of work and time-outs, never for a result."""
    return run.predicted_seconds(trial.genome, run.steps(trial.rung)) * (1 + _SCORING_SHARE)


def drop_checkpoints(run: Run, keep: Collection[str]) -> None:
    """Remove the checkpoints of all candidates but those in ``keep``, which a longer training may go on from."""
    for path in (run.path / "scratch").glob("*.safetensors"):
        if path.name.partition(".")[0] not in keep:
            path.unlink(missing_ok=True)


def reference_curve(run: Run, generation: int, rung: int = 0, *, inherited: bool = False) -> list[float] | None:
    """Return the median learning curve on ``rung`` in the generation before, None where there is none to compare with.

    Trials from scratch are compared with their like alone, for who starts from trained weights is far ahead; those that
    inherit with others that did, or where there were none with those from scratch. It comes from a closed generation,
    so it is the same however trials were sharded.
    """
    if generation == 0:
        return None
    heirs = {row["id"] for row in run.ledger.plan(generation - 1) if inherits(row)}
    curves: dict[bool, list[list[float]]] = {True: [], False: []}
    for trial, evaluation in run.ledger.evaluations(generation - 1).items():
        curve = evaluation.details.get("loss_curve")
        if trial.split(".")[1] == f"r{rung}" and evaluation.failure is None and curve:
            curves[trial in heirs].append(curve)
    chosen = (curves[True] if inherited else None) or curves[False]
    return [statistics.median(points) for points in zip(*chosen, strict=True)] if chosen else None


def _work(run: Run, pool: WorkerPool, function: str, trials: Sequence[PlannedTrial], listener: Listener) -> None:
    """Have trials worked on and tell what came out as it comes."""
    by_id = {trial.id: trial for trial in trials}
    kinds = {(trial.generation, trial.rung, bool(trial.inherits_from)) for trial in trials}
    curves = {kind: reference_curve(run, kind[0], kind[1], inherited=kind[2]) for kind in kinds}
    tasks = [
        Task(
            id=trial.id,
            function=function,
            payload={
                "run": str(run.path.resolve()),
                "trial": trial.to_json(run.space.to_json(trial.genome)),
                "steps": run.steps(trial.rung),
                "reference_curve": curves[trial.generation, trial.rung, bool(trial.inherits_from)],
            },
            predicted_seconds=predicted_seconds(run, trial),
        )
        for trial in trials
    ]
    evolution = run.evolution()
    attempts = {trial.id: evolution.attempt(trial.id) for trial in trials}
    interrupted = False
    for outcome in pool.run(tasks, on_progress=listener.progress):
        if outcome.interrupted:
            interrupted = True
            continue
        _check_storage(run, outcome)
        _tell(run, evolution, by_id[outcome.id], outcome, attempts[outcome.id])
        run.ledger.telemetry("trial", trial=outcome.id, step=function.rpartition(":")[2], seconds=outcome.seconds)
        listener.end(by_id[outcome.id], evolution.evaluation(outcome.id), outcome.seconds)
    if interrupted:
        raise Interrupted(f"{run.name} was stopped; what it had done is stored.", remedy=resume_hint(run))


def resume_hint(run: Run) -> str:
    """Return how to go on with a run."""
    return f"Go on with: evodiff evolve --resume {run.path}"


def _check_storage(run: Run, outcome: Outcome) -> None:
    """A disk that is full says nothing about a trial: the trial stays open, and the run stops.

    Raises:
        LedgerError: a worker could not store what it had.
    """
    if outcome.failure is not None and outcome.failure.cause == "storage":
        raise LedgerError(
            f"A worker could not store its work: {outcome.failure.detail}",
            remedy=f"Free space or mend the permissions; what was stored is intact. {resume_hint(run)}",
        )


def _tell(
    run: Run, evolution: Evolution[ArchitectureGenome], trial: PlannedTrial, outcome: Outcome, attempt: int
) -> None:
    failure = outcome.failure
    if failure is not None:
        evolution.tell_failure(trial.id, failure.cause, detail=failure.detail, kind=failure.kind, attempt=attempt)
    elif outcome.value is not None and "objectives" in outcome.value:
        value = outcome.value
        evolution.tell(
            trial.id,
            value["objectives"],
            violations=run.violations(trial.genome),
            weights=value["weights"],
            details=value["details"],
        )


def untold(run: Run, trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """Return those trials of one generation that have no result yet."""
    told = run.ledger.evaluations(trials[0].generation) if trials else {}
    return [trial for trial in trials if trial.id not in told]


def has_weights(run: Run, trial: PlannedTrial) -> bool:
    """Return whether the weights of a trial are published, and whole."""
    return not weights_damage(run.ledger.weights_folder(trial))


def _check_turn(run: Run, generation: int) -> None:
    turn = run.ledger.closed
    if generation > turn:
        raise LedgerError(
            f"It is not the turn of generation {generation}: {run.name} has {turn} closed generations.",
            remedy=f"Finish generation {turn} first.",
        )


def _parse_shard(shard: str) -> tuple[int, int]:
    index, slash, count = shard.partition("/")
    if not slash or not index.isdigit() or not count.isdigit() or not 1 <= int(index) <= int(count):
        raise SettingsError(
            f"Not a shard: expected INDEX/COUNT such as 2/3, found {shard!r}.", remedy="Count shards from 1."
        )
    return int(index), int(count)
