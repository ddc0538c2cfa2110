"""The facade: a whole search in one call, for the command line, and as a class for a notebook."""

from __future__ import annotations

import json
import os
import tempfile
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evodiff.errors import Interrupted, LedgerError
from evodiff.gates import check_before_search
from evodiff.pipeline.create import check_folder, check_settings, create_run
from evodiff.pipeline.evolve import Watcher, evolve, evolve_generation, has_plateaued
from evodiff.pipeline.final import final_steps, finish
from evodiff.pipeline.frozen import check_resume
from evodiff.pipeline.generation import Listener, resume_hint
from evodiff.pipeline.inputs import gather_inputs
from evodiff.pipeline.run import Run
from evodiff.pipeline.scratch import retrain_front
from evodiff.pipeline.session import open_workers
from evodiff.pipeline.warm_start import check_images, open_source, starts_from
from evodiff.reporting.progress import ProgressDisplay
from evodiff.reporting.report import write_report
from evodiff.reporting.run_view import view_of_run
from evodiff.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.data import ImageDataset
    from evodiff.engine import Candidate, EvolutionMetrics
    from evodiff.reporting.view import RunView
    from evodiff.workers import WorkerPool

_WANTED = "telemetry/wanted.json"


@dataclass(frozen=True)
class SearchResult:
    """What a search left: its run, what its report shows, and the page to look at.

    ``remark`` says why it ended before its time and how to go on; it is empty where it did not.
    """

    run: Run
    view: RunView
    report: Path
    remark: str = ""


def start_search(
    settings: Settings,
    *,
    out: Path | None = None,
    warm_start: Path | None = None,
    baseline: bool = False,
    champion_steps: int | None = None,
    display: ProgressDisplay,
) -> SearchResult:
    """Create a run and evolve it to the end: generations, random-search arm, champion, report.

    ``warm_start`` is the folder of a run whose front the first generation tries first, that of the arm too.

    Raises:
        EvodiffError: a setting, the dataset, the folder or the run to start from cannot be used.
        GateFailed: the dataset is bad; nothing was made of it.
        Interrupted: Ctrl-C; everything done is stored.
    """
    check_settings(settings)
    path = out or free_folder(settings)
    check_folder(path)
    if baseline:
        check_folder(arm_folder(path))
    source = None if warm_start is None else open_source(warm_start)

    def inspect(dataset: ImageDataset) -> None:
        if source is not None:
            check_images(source, dataset)
        display.stage("gate", {})
        check_before_search(dataset, settings, display.say)

    with open_workers(settings, display.say) as pool:
        inputs = gather_inputs(settings, pool, display.stage, inspect=inspect)
        display.clear()
        starts = [] if source is None else starts_from(source, settings, inputs)
        run = create_run(settings, path, inputs, warm_start=starts)
        if baseline:
            arm = settings.model_copy(update={"strategy": "random", "strategy_options": {}})
            create_run(arm, arm_folder(path), inputs, warm_start=starts)
        display.say(f"Run {path}")
        if source is not None:
            display.say(f"Starting from {len(starts)} architectures of the front of {source.path}")
        _remember(run, settings, champion_steps)
        return _go(run, pool, settings, champion_steps, display)


def resume_search(
    path: Path,
    settings: Settings,
    *,
    given: Mapping[str, Any],
    champion_steps: int | None = None,
    display: ProgressDisplay,
) -> SearchResult:
    """Go on with a run, to where it was last asked to go: generations, champion's steps and whether a plateau ends it.

    ``given`` are the options that were named: generations, workers, time budget, the champion's steps and stopping on a
    plateau may be any, all others must be what the run froze.

    Raises:
        SettingsError: an option contradicts the run.
    """
    run = Run.open(path)
    check_resume(run, settings, given)
    wanted = _remembered(run)
    generations = given.get("generations") or max(wanted.get("generations", 0), run.ledger.closed)
    champion_steps = champion_steps or wanted.get("champion_steps")
    stop_on_plateau = given.get("stop_on_plateau", wanted.get("stop_on_plateau", settings.stop_on_plateau))
    changes = {"device": run.settings["device"], "generations": generations, "stop_on_plateau": stop_on_plateau}
    frozen = settings.model_copy(update=changes)
    _remember(run, frozen, champion_steps)
    with open_workers(frozen, display.say) as pool:
        return _go(run, pool, frozen, champion_steps, display)


def _remember(run: Run, settings: Settings, champion_steps: int | None) -> None:
    """Store what was asked for and is not frozen, so that a resume without options means the same."""
    wanted = {
        "generations": settings.generations,
        "stop_on_plateau": settings.stop_on_plateau,
        "champion_steps": champion_steps,
    }
    run.ledger.replace(_WANTED, json.dumps(wanted, sort_keys=True).encode() + b"\n")


def _remembered(run: Run) -> dict[str, Any]:
    """Return what was stored and makes sense: it is telemetry, which may be lost or damaged."""
    try:
        wanted = json.loads(run.ledger.read(_WANTED) or b"{}")
    except ValueError:
        return {}
    stored = wanted if isinstance(wanted, dict) else {}
    counts = {name: stored.get(name) for name in ("generations", "champion_steps")}
    sound: dict[str, Any] = {name: count for name, count in counts.items() if type(count) is int and count > 0}
    if isinstance(stored.get("stop_on_plateau"), bool):
        sound["stop_on_plateau"] = stored["stop_on_plateau"]
    return sound


def free_folder(settings: Settings) -> Path:
    """Return the first folder of the name DATASET-NUMBER below ``settings.runs_dir`` that is not there yet."""
    kind, _, argument = settings.dataset.partition(":")
    name = Path(argument).resolve().name if kind == "folder" else kind
    number = 1
    while (path := settings.runs_dir / f"{name}-{number:03d}").exists():
        number += 1
    return path


def arm_folder(path: Path) -> Path:
    """Return where the random-search arm of a run is."""
    whole = path.resolve()
    return whole.with_name(f"{whole.name}-random")


def random_arm(run: Run) -> Run | None:
    """Return the random-search arm of a run, if it has one: a run of that name may also be another one."""
    path = arm_folder(run.path)
    if not (path / "experiment.json").exists():
        return None
    try:
        arm = Run.open(path)
    except LedgerError as error:
        warnings.warn(f"{path} is no random-search arm of {run.name}: {error}", stacklevel=2)
        return None
    ours, theirs = (_options_but_strategy(opened) for opened in (run, arm))
    same = ours == theirs and arm.settings["digests"] == run.settings["digests"]
    return arm if same and arm.options()["strategy"] == "random" else None


def _options_but_strategy(run: Run) -> dict[str, Any]:
    return {name: value for name, value in run.options().items() if not name.startswith("strategy")}


def write_run_report(run: Run) -> Path:
    """Write the report of a run, with its random-search arm beside it, and return the page's path."""
    return _report(run).report


def _report(run: Run) -> SearchResult:
    view = view_of_run(run, random_arm=random_arm(run))
    return SearchResult(run, view, write_report(view, run.path / "report" / "index.html"))


@contextmanager
def working(run: Run, workers: int | None) -> Iterator[tuple[WorkerPool, Listener]]:
    """Open workers for single steps of a run, with progress on the terminal."""
    settings = load_settings({"device": run.settings["device"], "workers": workers})
    with ProgressDisplay() as display, open_workers(settings, display.say) as pool:
        yield pool, Listener(display.stage, display.trial_ended, display.finished)


def _go(
    run: Run, pool: WorkerPool, settings: Settings, champion_steps: int | None, display: ProgressDisplay
) -> SearchResult:
    budget = settings.time_budget_seconds
    deadline = None if budget is None else time.monotonic() + budget
    holder = f"{os.uname().nodename}-{os.getpid()}"
    watcher = Watcher(display.planned, display.selected, Listener(display.stage, display.trial_ended))
    arm = random_arm(run)
    display.searching("Search")
    closed = evolve(
        run,
        pool,
        generations=settings.generations,
        holder=holder,
        watcher=watcher,
        deadline=deadline,
        stop_on_plateau=settings.stop_on_plateau,
    )
    plateau = settings.stop_on_plateau and closed < settings.generations and has_plateaued(run)
    if plateau:
        display.plateaued(closed)
    if arm is not None:
        display.searching("Random arm")
        try:
            evolve(
                arm,
                pool,
                generations=closed,
                holder=f"{holder}-random",
                watcher=watcher,
                deadline=deadline,
                siblings=(run,),
            )
        except Interrupted as stop:  # the arm goes on with its run, not by itself
            raise Interrupted(stop.headline, remedy=resume_hint(run)) from stop
    listener = Listener(display.stage, display.trial_ended)
    if run.inherits:
        display.searching("Front from scratch")
        retrain_front(run, pool, listener=listener)
    steps = champion_steps or final_steps(run)
    display.searching("Champion")
    finish(run, pool, steps=steps, listener=listener)
    display.clear()
    return replace(_report(run), remark=_plateau_remark(run, closed, settings.generations) if plateau else "")


def _plateau_remark(run: Run, closed: int, wanted: int) -> str:
    return f"Stopped on a plateau after {closed} of {wanted} generations. {resume_hint(run)} --no-stop-on-plateau"


class EvolutionaryDiffusionSearch:
    """A search that a notebook drives generation by generation.

    ::

        search = EvolutionaryDiffusionSearch(population_size=8, dataset="digits", out="runs/notebook")
        for _ in range(3):
            search.evolve_generation()
        search.report()

    Everything goes through the run folder ``out`` (a temporary one by default): opening the same folder again goes on
    with it. Other keyword arguments are those of :class:`evodiff.settings.Settings`.

    Raises:
        EvodiffError: a setting, the dataset or the folder cannot be used.
        GateFailed: the dataset is bad; nothing was made of it.
    """

    def __init__(
        self,
        population_size: int = 50,
        *,
        dataset: str = "digits",
        steps: int | None = None,
        out: Path | str | None = None,
        **settings: Any,
    ) -> None:
        given = {"dataset": dataset, "population": population_size, **settings}
        if steps is not None:
            given["steps"] = steps
        self.settings = load_settings(given)
        check_settings(self.settings)
        path = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="evodiff-")) / "run"
        if (path / "experiment.json").exists():
            self.run = Run.open(path)
            check_resume(self.run, self.settings, given)
            self.settings = self.settings.model_copy(update={"device": self.run.settings["device"]})
        else:
            check_folder(path)
            with self._working() as pool:
                inputs = gather_inputs(self.settings, pool, inspect=self._inspect)
            self.run = create_run(self.settings, path, inputs)

    @property
    def population(self) -> list[Candidate[ArchitectureGenome]]:
        """The survivors of the last generation, empty before the first; best first, but for regularised evolution."""
        return self.run.evolution().survivors

    @property
    def metrics(self) -> list[EvolutionMetrics]:
        """Metrics of each closed generation."""
        return self.run.evolution().history()

    def front(self) -> list[Candidate[ArchitectureGenome]]:
        """Return the non-dominated candidates."""
        return self.run.evolution().front()

    def evolve_generation(self) -> list[Candidate[ArchitectureGenome]]:
        """Plan, train, score and select one generation; return the population that survives it."""
        with self._working() as pool:
            evolve_generation(self.run, pool, f"notebook-{os.getpid()}-g{self.run.ledger.closed:04d}")
        return self.population

    def evaluate_fitness(self, genome: ArchitectureGenome) -> dict[str, float]:
        """Train and score one genome as the search would, and return its objectives by name.

        The result is stored in a small run of its own beside this one, so that asking again costs nothing.

        Raises:
            InvalidGenome: the genome makes no network for these images.
            EvodiffError: its training failed; the message gives the cause.
        """
        from evodiff.pipeline.single import evaluate_genome

        with self._working() as pool:
            return evaluate_genome(self.run, genome, pool)

    def report(self) -> Path:
        """Write the report and return the page's path."""
        return write_run_report(self.run)

    def _inspect(self, dataset: ImageDataset) -> None:
        check_before_search(dataset, self.settings, ProgressDisplay().say)

    @contextmanager
    def _working(self) -> Iterator[WorkerPool]:
        with open_workers(self.settings, ProgressDisplay().say) as pool:
            yield pool
