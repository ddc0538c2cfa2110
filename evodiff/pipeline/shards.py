"""The trials of a generation, dealt out to the tasks of a scheduler: one worker process and one log a shard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evodiff.pipeline.generation import Listener, evaluate, has_weights, planned_trials, take_shard, train, untold
from evodiff.pipeline.session import open_workers, worker_count
from evodiff.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from evodiff.engine import Evaluation
    from evodiff.pipeline.generation import PlannedTrial
    from evodiff.pipeline.run import Run
    from evodiff.workers import WorkerPool


def deal_shards(run: Run, generation: int) -> list[dict[str, Any]]:
    """Return how the trials of a generation are dealt out: for each task ``shard``, ``size`` and ``candidates``."""
    trials = planned_trials(run, generation)
    count = min(worker_count(load_settings({})), len(trials))
    names = [f"{index + 1}/{count}" for index in range(count)]
    dealt = {name: take_shard(run, trials, name) for name in names}
    return [
        {"shard": name, "size": len(part), "candidates": [trial.candidate for trial in part]}
        for name, part in dealt.items()
    ]


def train_shard(run: Run, generation: int, shard: str, say: Callable[[str], None]) -> None:
    """Train the trials of a shard, in one worker, until each has weights or has failed for good."""
    if _untrained(run, generation, shard):
        with _one_worker(run, say) as pool:
            while _untrained(run, generation, shard):
                train(run, generation, pool, shard=shard, listener=log_listener(say))


def evaluate_shard(run: Run, generation: int, shard: str, say: Callable[[str], None]) -> None:
    """Judge the trials of a shard, in one worker, until each has a result."""
    if _untold_of(run, generation, shard):
        with _one_worker(run, say) as pool:
            while _untold_of(run, generation, shard):
                evaluate(run, generation, pool, shard=shard, listener=log_listener(say))


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


def _one_worker(run: Run, say: Callable[[str], None]) -> AbstractContextManager[WorkerPool]:
    """Open a worker with one worker's share of the memory: those of the other shards run beside it."""
    return open_workers(load_settings({"device": run.settings["device"]}), say, at_most=1)
