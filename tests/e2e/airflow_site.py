"""A real Airflow and a real MLflow of a test's own: free ports, a home, and each process to be killed by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from honcho.environ import parse_procfile

from evodiff.local.environment import Site, service_environment
from evodiff.local.scheduler import Scheduler, SchedulerError
from evodiff.local.services import end_sessions, make_pools, migrate
from evodiff.pipeline.generation import has_weights, planned_trials, untold
from evodiff.pipeline.run import Run

PROJECT = Path(__file__).resolve().parents[2]
EVOLVE = "evolve_architecture"
# Faults are noticed, and runs begun again, in seconds instead of minutes.
IMPATIENT = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "25",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "5",
    "EVODIFF_RETRY_SECONDS": "2",
    "EVODIFF_KEEP_EVOLVING_SECONDS": "20",
    "EVODIFF_WORKERS": "2",  # as many shards on every machine
}


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 900.0, *, every: float = 0.5) -> Any:
    """Return the first true value of ``condition``; fail, saying what was awaited, when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(every)
    return found


class Services:
    """The processes of the Procfile, each in a session of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        airflow_port, mlflow_port = free_ports(2)
        self.runs = folder / "runs"
        self.archive = folder / "archive"
        self.site = Site(folder / "home", PROJECT, airflow_port, mlflow_port)
        own = {
            **environment,
            **IMPATIENT,
            "EVODIFF_RUNS_DIR": str(self.runs),
            "EVODIFF_ARCHIVE": str(self.archive),
            "EVODIFF_RELEASE_FILE": str(folder / "release.json"),
        }
        self.environment = service_environment(self.site, own)
        self.api = Scheduler(self.site)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands = parse_procfile((PROJECT / "Procfile").read_text()).processes

    def start(self, name: str) -> None:
        """Start one process of the Procfile."""
        with (self.site.home / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {self._commands[name]}"],
                env=self.environment,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_all(self) -> None:
        """Migrate the databases, start everything, wait until it is ready, make the pools."""
        migrate(self.site, self.environment)
        for name in self._commands:
            self.start(name)
        wait_for("Airflow is healthy", self.api.healthy)
        wait_for("the DAGs are known", lambda: EVOLVE in self.api.dags())
        make_pools(self.api)

    def process_id(self, name: str) -> int:
        """Return the id of a process of the Procfile."""
        return self._processes[name].pid

    def end(self, name: str) -> None:
        """End one process with everything that it started."""
        end_sessions({self._processes.pop(name).pid})

    def end_all(self) -> None:
        """End everything."""
        for name in list(self._processes):
            self.end(name)

    def logs(self, characters: int = 3000) -> str:
        """Return the end of what each process printed."""
        files = sorted(self.site.home.glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-characters:]}" for file in files)

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
    running = Services(folder, environment)
    running.site.home.mkdir(parents=True, exist_ok=True)
    try:
        running.start_all()
        yield running
    except BaseException:
        print(running.logs())
        raise
    finally:
        running.end_all()


def kill(process_id: int) -> None:
    """Kill a process as the system does when memory is short."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGKILL)
