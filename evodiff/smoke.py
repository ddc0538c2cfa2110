"""The smoke test of a search: its dataset and settings tried in a minute, before hours are spent on them.

Everything that a search does is done once, in a temporary folder: the dataset is read and passes its gate, feature nets
and operator times are made (and stay in the cache for the search), and a generation of two candidates is opened,
planned, trained for a few steps, judged by few images, selected and archived. The two are those of the search's own
first generation that cost most and least. From the plan of that generation follows what it will take.
"""

from __future__ import annotations

import importlib.util
import resource
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evodiff import gates
from evodiff.errors import EvodiffError
from evodiff.hardware.memory import physical_memory_mb
from evodiff.pipeline.create import check_settings, create_run
from evodiff.pipeline.disk import disk_mb
from evodiff.pipeline.generation import (
    QUIET,
    Listener,
    evaluate,
    has_weights,
    plan,
    predicted_seconds,
    select,
    train,
    untold,
)
from evodiff.pipeline.lease import open_generation
from evodiff.pipeline.session import MEMORY_SHARE, open_workers, worker_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from evodiff.data.gate_result import GateResult
    from evodiff.pipeline.generation import PlannedTrial
    from evodiff.pipeline.run import Run
    from evodiff.settings import Settings
    from evodiff.workers import WorkerPool

STEPS: Final = 5
SAMPLER_STEPS: Final = 2
_MEGABYTE: Final = 1e6


@dataclass(frozen=True)
class SmokeResult:
    """What a smoke test took, and what a generation of the search will take.

    Attributes:
        seconds: of each step, by name, in order.
        gate: what the dataset's gate found.
        workers: how many the settings ask for.
        trials: how many the first generation has.
        generation_seconds: predicted for that generation on these workers, from the operator times.
        longest_seconds: predicted for its most expensive trial.
        worker_mb: most memory, 10^6 bytes, that a worker took with the most and the least expensive trial.
        memory_mb: the same for all workers at once.
        available_mb: what all workers may take together.
        disk_mb: predicted for that generation while it runs.
        notes: what could not be tried.
    """

    seconds: dict[str, float]
    gate: GateResult
    workers: int
    trials: int
    generation_seconds: float
    longest_seconds: float
    worker_mb: float
    memory_mb: float
    available_mb: float
    disk_mb: float
    notes: tuple[str, ...] = ()


def smoke(settings: Settings, *, say: Callable[[str], None], listener: Listener = QUIET) -> SmokeResult:
    """Try everything that a search with these settings does, with two candidates, in a temporary folder.

    Raises:
        GateFailed: the dataset is bad.
        EvodiffError: anything else is wrong, such as a setting, a trial that fails, or memory that will not do.
    """
    check_settings(settings)
    timer = _Timer()
    with tempfile.TemporaryDirectory(prefix="evodiff-smoke-") as name:
        folder = Path(name)
        with open_workers(settings, say) as pool:
            with timer.step("dataset, feature nets, operator times"):
                prepared = gates.prepare(settings, pool, listener.progress)
            run = create_run(settings, folder / "search", prepared.inputs)
            trials = plan(run, 0)
            extremes = _extremes(run, trials)
            small = create_run(
                _small(settings), folder / "smoke", prepared.inputs, warm_start=[trial.genome for trial in extremes]
            )
            _generation(small, pool, timer, listener)
        worker_mb = _largest_child_mb()  # known once the workers have ended
        notes = _archive(small, folder / "archive", timer)
        result = _result(settings, run, trials, timer, prepared.gate, worker_mb, notes)
    _check_room(settings, result)
    return result


class _Timer:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started


def _small(settings: Settings) -> Settings:
    """Shorten what takes time and keep what decides about memory: batches have the size that they will have."""
    training = settings.training.model_copy(update={"steps": min(STEPS, settings.training.steps)})
    samples = min(settings.evaluation.samples, settings.evaluation.batch_size)
    evaluation = settings.evaluation.model_copy(update={"samples": samples, "sampler_steps": SAMPLER_STEPS})
    # The first candidates of all are on the full rung; for more than that one such steps may be too few.
    small = {"population": 2, "rungs": 1, "training": training, "evaluation": evaluation}
    return settings.model_copy(update=small)


def _extremes(run: Run, trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    ordered = sorted(trials, key=lambda trial: predicted_seconds(run, trial))
    return [ordered[-1], ordered[0]]


def _generation(run: Run, pool: WorkerPool, timer: _Timer, listener: Listener) -> None:
    with timer.step("open and plan"):
        generation = open_generation(run, "smoke").generation
        trials = plan(run, generation)
    with timer.step("train"):
        while any(not has_weights(run, trial) for trial in untold(run, trials)):
            train(run, generation, pool, listener=listener)
    with timer.step("evaluate"):
        while untold(run, trials):
            evaluate(run, generation, pool, listener=listener)
    for trial, evaluation in run.ledger.evaluations(generation).items():
        if evaluation.failure is not None:
            raise EvodiffError(
                f"A trial of the search would fail, {trial}: {evaluation.failure.cause}. {evaluation.failure.detail}",
                remedy="Change what it names: a smaller batch or image size for memory, a lower learning rate for "
                "numbers that are not finite.",
            )
    with timer.step("select"):
        select(run, generation)


def _archive(run: Run, folder: Path, timer: _Timer) -> tuple[str, ...]:
    from evodiff.pipeline.archive import archive_run, create_archive

    if importlib.util.find_spec("dvc") is None or shutil.which("git") is None:
        return ("archiving was not tried: git or DVC is not installed",)
    with timer.step("archive"):
        create_archive(folder, str(folder.with_name("remote")))
        archive_run(run, folder)
    return ()


def _result(
    settings: Settings,
    run: Run,
    trials: Sequence[PlannedTrial],
    timer: _Timer,
    gate: GateResult,
    worker_mb: float,
    notes: tuple[str, ...],
) -> SmokeResult:
    workers = min(worker_count(settings), len(trials))
    loads = [0.0] * workers
    for seconds in sorted((predicted_seconds(run, trial) for trial in trials), reverse=True):
        loads[loads.index(min(loads))] += seconds
    return SmokeResult(
        seconds=timer.seconds,
        gate=gate,
        workers=workers,
        trials=len(trials),
        generation_seconds=max(loads),
        longest_seconds=max(predicted_seconds(run, trial) for trial in trials),
        worker_mb=worker_mb,
        memory_mb=worker_mb * workers,
        available_mb=MEMORY_SHARE * physical_memory_mb(),
        disk_mb=disk_mb(run, [trial.genome for trial in trials]),
        notes=notes,
    )


def _check_room(settings: Settings, result: SmokeResult) -> None:
    """Check that memory and disk will do for the search itself.

    Raises:
        EvodiffError: they will not.
    """
    if result.memory_mb > result.available_mb:
        raise EvodiffError(
            f"{result.workers} workers would take {result.memory_mb:.0f} MB; together they may take "
            f"{result.available_mb:.0f} MB.",
            remedy=f"Use fewer workers: --workers {max(1, int(result.available_mb / result.worker_mb))}",
        )
    place = next(path for path in (settings.runs_dir.resolve() / "new").parents if path.exists())
    free_mb = shutil.disk_usage(place).free / _MEGABYTE
    if free_mb < result.disk_mb + settings.min_free_mb:
        raise EvodiffError(
            f"{free_mb:.0f} MB are free in {place}: a generation needs about {result.disk_mb:.0f} MB, and "
            f"{settings.min_free_mb:.0f} MB are to stay free.",
            remedy="Free space, for instance by `evodiff housekeeping`, or set EVODIFF_RUNS_DIR to another disk.",
        )


def _largest_child_mb() -> float:
    """Return the most memory that a process took which this one started and which has ended."""
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return most / _MEGABYTE if sys.platform == "darwin" else most * 1024 / _MEGABYTE
