"""A real Airflow and a real MLflow of a test's own: free ports, a home, and each process to be killed by itself."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from evodiff.local.environment import Site, free_ports
from evodiff.local.scheduler import SchedulerError
from evodiff.local.services import ServiceError
from evodiff.local.stack import AIRFLOW, EVOLVE, Stack
from evodiff.local.stack import wait_for as wait
from evodiff.pipeline.generation import has_weights, planned_trials, untold
from evodiff.pipeline.run import Run

PROJECT = Path(__file__).resolve().parents[2]
# Faults are noticed, and runs begun again, in seconds instead of minutes.
IMPATIENT = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "25",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "5",
    "EVODIFF_RETRY_SECONDS": "2",
    "EVODIFF_KEEP_EVOLVING_SECONDS": "20",
    "EVODIFF_WORKERS": "2",  # as many shards on every machine
}


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 900.0, *, every: float = 0.5) -> Any:
    """Return the first true value of ``condition``; fail, saying what was awaited, when there is none in time."""
    try:
        return wait(what, condition, seconds, every=every)
    except ServiceError as late:
        raise AssertionError(str(late)) from late


class Services(Stack):
    """The stack of a test that needs Airflow and MLflow alone: faults are noticed, and runs begun again, in seconds."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.runs = folder / "runs"
        self.archive = folder / "archive"
        own = {
            **environment,
            **IMPATIENT,
            "EVODIFF_RUNS_DIR": str(self.runs),
            "EVODIFF_ARCHIVE": str(self.archive),
            "EVODIFF_RELEASE_FILE": str(folder / "release.json"),
        }
        super().__init__(Site(folder / "home", PROJECT, *free_ports(2)), own)

    def start_all(self) -> None:
        """Migrate the databases, start everything, wait until it is ready."""
        self.prepare()
        self.start(*AIRFLOW, "mlflow")
        self.wait_until_ready("api-server", "mlflow")

    def trigger(self, run_id: str | None = None, **form: Any) -> str:
        """Send a form."""
        return self.api.trigger(EVOLVE, form, run_id)

    def states(self, experiment: str) -> dict[str, str]:
        """Return the state of the scheduler's runs whose ids begin with the name of an experiment."""
        return {key: state for key, state in self.api.runs(EVOLVE).items() if key.startswith(experiment)}

    def task_states(self, run_id: str) -> dict[str, str]:
        """Return the state of the tasks of a run; those of mapped tasks by ``task[0]``."""
        return {
            f"{task['task_id']}[{task['map_index']}]" if task["map_index"] >= 0 else task["task_id"]: task["state"]
            for task in self.api.tasks(EVOLVE, run_id)
        }

    def closed(self, experiment: str) -> int:
        """Return how many generations of an experiment are closed."""
        path = self.runs / experiment
        return Run.open(path).ledger.closed if (path / "experiment.json").exists() else 0

    def wait_until_training(self, experiment: str, generation: int) -> list[psutil.Process]:
        """Wait for the middle of the trainings of a generation, with some done and some not; return its workers."""

        def workers() -> list[psutil.Process]:
            return self.task_processes() if self._is_amid_training(experiment, generation) else []

        try:
            found: list[psutil.Process] = wait_for(
                f"generation {generation} of {experiment} is amid its trainings", workers, every=0.05
            )
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.describe(experiment)}") from late
        return found

    def _is_amid_training(self, experiment: str, generation: int) -> bool:
        path = self.runs / experiment
        if not (path / "experiment.json").exists():
            return False
        run = Run.open(path)
        assert run.ledger.closed <= generation, f"generation {generation} is closed: the moment was missed"
        if run.ledger.closed < generation or not run.ledger.plan(generation):
            return False
        trials = planned_trials(run, generation)
        waiting = [trial for trial in untold(run, trials) if not has_weights(run, trial)]
        return 0 < len(waiting) < len(trials)

    def tries(self, run_id: str, task: str) -> int:
        """Return how often the shard of a mapped task that was begun most often was begun."""
        return max(found["try_number"] for found in self.api.tasks(EVOLVE, run_id) if found["task_id"] == task)

    def wait_until_closed(self, experiment: str, generations: int, seconds: float = 900.0) -> Run:
        """Wait for generations to be closed, then for the scheduler's runs of the experiment to end."""
        try:
            wait_for(
                f"{experiment} has {generations} generations", lambda: self.closed(experiment) >= generations, seconds
            )
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.describe(experiment)}") from late
        wait_for(
            f"the runs of {experiment} have ended",
            lambda: all(state in ("success", "failed") for state in self.states(experiment).values()),
            seconds,
        )
        return Run.open(self.runs / experiment)

    def describe(self, experiment: str) -> str:
        """Return the state of every task of an experiment, with the log of what failed."""
        lines = []
        for run_id, state in sorted(self.states(experiment).items()):
            lines.append(f"{run_id}: {state}")
            for task in self.api.tasks(EVOLVE, run_id):
                lines.append(f"  {task['task_id']}[{task['map_index']}] {task['state']} try {task['try_number']}")
                if task["state"] in ("failed", "up_for_retry"):
                    with contextlib.suppress(SchedulerError):
                        log = self.api.log(
                            EVOLVE, run_id, task["task_id"], attempt=task["try_number"], map_index=task["map_index"]
                        )
                        lines.append(log[-1500:])
        return "\n".join(lines)

    def task_processes(self) -> list[psutil.Process]:
        """Return the workers that prepare, train or judge for tasks of the scheduler now."""
        found = []
        for process in psutil.Process(self.process_id("scheduler")).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "evodiff.workers.process" in " ".join(process.cmdline()):
                    found.append(process)
        return found


@contextlib.contextmanager
def services(folder: Path, environment: Mapping[str, str]) -> Iterator[Services]:
    """Have everything running, and nothing left afterwards."""
    with Services(folder, environment) as running:
        try:
            running.start_all()
            yield running
        except BaseException:
            print(running.logs())
            raise


def kill(process_id: int) -> None:
    """Kill a process as the system does when memory is short."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGKILL)
