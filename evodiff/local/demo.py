"""The demo: three generations of digits as three runs of a real scheduler, followed from the ledger as they happen."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evodiff.engine.fitness_course import with_fitness_shown
from evodiff.errors import EvodiffError
from evodiff.local.environment import Site, paths
from evodiff.local.monitoring import monitoring_programs
from evodiff.local.scheduler import USER, Scheduler, password
from evodiff.local.services import down, up
from evodiff.pipeline.generation import planned_trials
from evodiff.pipeline.opening import experiment_folder
from evodiff.pipeline.run import Run
from evodiff.reporting.run_view import view_of_run
from evodiff.search import SearchResult
from evodiff.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from evodiff.pipeline.generation import PlannedTrial
    from evodiff.reporting.progress import ProgressDisplay

EVOLVE = "evolve_architecture"
PATIENCE_SECONDS = 900.0
_TICK_SECONDS = 2.0


def run_demo(
    display: ProgressDisplay, *, keep: bool, generations: int, population: int
) -> tuple[SearchResult, list[str]]:
    """Start the services, evolve digits through them, end them unless ``keep``; return result and closing lines."""
    # What serves and watches would take the processor from the search.
    site = replace(Site.from_environment(), router_port=0, metrics_port=0, prometheus_port=0, alertmanager_port=0)
    os.environ.update(paths(site))  # this process looks where the services write
    settings = load_settings({})
    number = 1
    while experiment_folder(name := f"digits-{number:03d}", settings).exists():
        number += 1
    form = {"experiment": name, "dataset": "digits", "population": population, "generations": generations}
    with services(site, keep=keep, say=display.say):
        run = follow_experiment(site, form, display)
        lines = addresses(site)
    lines.append("They run on; end them with: make down" if keep else "They were ended; start them with: make up")
    view = view_of_run(run)
    return SearchResult(run, view, run.path / "report" / "index.html"), lines


@contextmanager
def services(site: Site, *, keep: bool, say: Callable[[str], None]) -> Iterator[bool]:
    """Have the services running; end them afterwards unless they ran before or are to be kept."""
    began = up(site, say)
    try:
        yield began
    finally:
        if began and not keep:
            say("Ending the services ...")
            down(site)


def follow_experiment(site: Site, form: Mapping[str, Any], display: ProgressDisplay) -> Run:
    """Start an experiment by its form and follow it until the scheduler has done its generations; return its run.

    Raises:
        EvodiffError: a run of the scheduler failed, or nothing moved for a quarter of an hour.
    """
    scheduler = Scheduler(site)
    name, wanted = str(form["experiment"]), int(form["generations"])
    first = scheduler.trigger(EVOLVE, form)
    display.say(f"{site.airflow_url}/dags/{EVOLVE}/runs/{first}")
    display.searching("Search")
    follower, moved = Follower(experiment_folder(name, load_settings({})), display), time.monotonic()
    while True:
        runs = {
            key: state for key, state in scheduler.runs(EVOLVE).items() if key == first or key.startswith(f"{name}-g")
        }
        busy = [task for key, state in runs.items() if state == "running" for task in scheduler.tasks(EVOLVE, key)]
        display.note(", ".join(sorted({task["task_id"] for task in busy if task["state"] == "running"})))
        if follower.look():
            moved = time.monotonic()
        if failed := [key for key, state in runs.items() if state == "failed"]:
            raise EvodiffError(
                f"Run {failed[0]} of {EVOLVE} failed.", remedy=f"Read its log: {site.airflow_url}/dags/{EVOLVE}"
            )
        if follower.closed >= wanted and all(state == "success" for state in runs.values()):
            return Run.open(follower.path)
        if time.monotonic() - moved > PATIENCE_SECONDS:
            raise EvodiffError(
                f"Nothing has moved for {PATIENCE_SECONDS:g} s.", remedy=f"Look at {site.airflow_url}/dags/{EVOLVE}"
            )
        time.sleep(_TICK_SECONDS)


class Follower:
    """Shows what happens in a run folder that other processes work on: new results, closed generations."""

    def __init__(self, path: Path, display: ProgressDisplay) -> None:
        self.path = path
        self.closed = 0
        self._display = display
        self._open: dict[str, PlannedTrial] | None = None  # trials of the generation at hand without a result

    def look(self) -> bool:
        """Show what is new; return whether anything was."""
        if not (self.path / "experiment.json").exists():  # its inputs are being prepared
            return False
        run, news = Run.open(self.path), False
        while self.closed < run.ledger.generations:
            generation = self.closed
            if self._open is None:
                self._open = {trial.id: trial for trial in planned_trials(run, generation)}
                self._display.planned(generation, len(self._open))
                news = True
            for trial, evaluation in run.ledger.evaluations(generation).items():
                if trial in self._open:
                    self._display.trial_ended(self._open.pop(trial), evaluation, 0.0)
                    news = True
            result = run.ledger.result(generation)
            if result is None:
                break
            self._display.selected(with_fitness_shown(run.ledger, result))
            self._open, self.closed, news = None, generation + 1, True
        return news


def addresses(site: Site) -> list[str]:
    """Return where to look, with the login."""
    lines = [
        f"Airflow       {site.airflow_url}  (user {USER}, password {password(site)})",
        f"MLflow        {site.mlflow_url}",
    ]
    if site.router_port:
        lines.append(f"Router        {site.router_url}/docs  (tokens in {site.home / 'serve' / 'tokens.json'})")
    if site.prometheus_port and monitoring_programs():
        lines += [f"Prometheus    {site.prometheus_url}", f"Alertmanager  {site.alertmanager_url}"]
    return lines
