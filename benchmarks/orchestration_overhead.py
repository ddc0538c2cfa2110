"""What a scheduler adds to a generation, where it goes, and how much memory the services hold.

The same search, with the same settings and seed, is made twice on an idle machine: by ``evodiff evolve``, and by runs
of a real Airflow with MLflow and the archive. The time of a generation is that from the end of one to the end of the
next, so preparing the inputs is outside. Memory is the proportional set size (PSS) of everything that ``evodiff up``
started, when nothing runs. Each DAG file is read in a fresh process after ``import airflow.sdk``.

    python benchmarks/orchestration_overhead.py
    python benchmarks/orchestration_overhead.py --generations 2 --population 4 --steps 8
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from evodiff.local.environment import Site, free_ports
from evodiff.local.scheduler import Scheduler
from evodiff.local.services import down, started, up

PROJECT = Path(__file__).resolve().parents[1]
TARGET_SECONDS, TARGET_AIRFLOW_MB, TARGET_MLFLOW_MB = 35.0, 1300.0, 500.0
DAG = "evolve_architecture"
PARSE = (
    "import sys, time; sys.path[:0] = ['dags', 'plugins']; import airflow.sdk; before = time.perf_counter(); "
    "__import__(sys.argv[1]); print(time.perf_counter() - before)"
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=4)
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--steps", type=int, default=120)
    options = parser.parse_args()
    os.chdir(PROJECT)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EVODIFF_CACHE_DIR"] = f"{folder}/cache"
        os.environ["OMP_NUM_THREADS"] = "1"
        alone = by_command_line(options, Path(folder))
        scheduled, tasks, memory = by_scheduler(options, Path(folder))
    report(alone, scheduled, tasks, memory)
    report_parsing()


def by_command_line(options, folder):
    """Return the seconds of each generation after the first, by ``evodiff evolve``."""
    command = [Path(sys.executable).with_name("evodiff"), "evolve", *search_options(options)]
    process = subprocess.Popen([*command, "--out", folder / "alone"], stdout=subprocess.PIPE, text=True)
    ends = [time.perf_counter() for line in process.stdout if line.startswith("Search generation")]
    if process.wait() != 0:
        raise SystemExit("evodiff evolve failed")
    return [after - before for before, after in itertools.pairwise(ends)]


def by_scheduler(options, folder):
    """Return the same by Airflow, the task instances of the generations after the first, and memory by service."""
    site = Site(folder / "home", PROJECT, *free_ports(2))
    os.environ.update(
        EVODIFF_RUNS_DIR=f"{folder}/runs",
        EVODIFF_ARCHIVE=f"{folder}/archive",
        EVODIFF_RELEASE_FILE=f"{folder}/release.json",
    )
    up(site, print)
    try:
        time.sleep(30)  # nothing runs
        memory = proportional_set_sizes(started(site).process_id)
        scheduler = Scheduler(site)
        form = {"experiment": "scheduled", "dataset": "digits", "population": options.population}
        form |= {"generations": options.generations, "steps": options.steps}
        first = scheduler.trigger(DAG, form)
        runs = [first, *(f"scheduled-g{generation:04d}" for generation in range(1, options.generations))]
        while not all(scheduler.runs(DAG).get(run) == "success" for run in runs):
            if "failed" in scheduler.runs(DAG).values():
                raise SystemExit(f"A run failed; look into {site.home}.")
            time.sleep(2)
        tasks = {run: scheduler.tasks(DAG, run) for run in runs}
    finally:
        down(site)
    ends = [seconds(task["end_date"]) for run in runs for task in tasks[run] if task["task_id"] == "select"]
    return [after - before for before, after in itertools.pairwise(ends)], tasks, memory


def search_options(options):
    return [
        *("--dataset", "digits", "--generations", str(options.generations), "--population", str(options.population)),
        *("--steps", str(options.steps), "--champion-steps", str(options.steps)),
    ]


def proportional_set_sizes(process_id):
    """Return megabytes by service: the tree below each child of the process that holds them."""
    sizes = {}
    for process in psutil.Process(process_id).children(recursive=True):
        try:
            command = " ".join(process.cmdline())
            name = "MLflow" if "mlflow" in command.lower() or "uvicorn --log-config" in command else "Airflow"
            sizes[name] = sizes.get(name, 0.0) + process.memory_full_info().pss / 1e6
        except psutil.NoSuchProcess:
            continue
    return sizes


def report(alone, scheduled, tasks, memory):
    table = Table("generation by", "median, s", "each", title="Time of a generation")
    for name, times in (("evodiff evolve", alone), ("Airflow", scheduled)):
        table.add_row(name, f"{statistics.median(times):.1f}", " ".join(f"{value:.1f}" for value in times))
    console = Console(width=120)
    console.print(table)
    added = statistics.median(scheduled) - statistics.median(alone)
    print(f"Airflow adds {added:.1f} s a generation, target {TARGET_SECONDS:g}: {verdict(added <= TARGET_SECONDS)}")
    profile = Table("task", "waits, s", "works, s", title="Where it goes: medians over the generations after the first")
    rows = {}
    for run in list(tasks)[1:]:
        for task in tasks[run]:
            if task["start_date"] and task["end_date"]:
                waited = seconds(task["start_date"]) - seconds(task["queued_when"] or task["start_date"])
                rows.setdefault(task["task_id"], []).append((waited, task["duration"] or 0.0, task["start_date"]))
    for name, times in sorted(rows.items(), key=lambda item: item[1][0][2]):
        profile.add_row(name, *(f"{statistics.median(time[column] for time in times):.1f}" for column in (0, 1)))
    console.print(profile)
    for name, target in (("Airflow", TARGET_AIRFLOW_MB), ("MLflow", TARGET_MLFLOW_MB)):
        print(f"{name}: {memory[name]:.0f} MB PSS, target {target:g}: {verdict(memory[name] <= target)}")


def report_parsing():
    for file in sorted((PROJECT / "dags").glob("*.py")):
        done = [
            float(subprocess.run([sys.executable, "-c", PARSE, file.stem], capture_output=True, text=True).stdout)
            for _ in range(3)
        ]
        print(f"dags/{file.name}: read in {statistics.median(done):.2f} s after airflow.sdk, target 1: ", end="")
        print(verdict(statistics.median(done) <= 1))


def seconds(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def verdict(met):
    return "met" if met else "MISSED"


if __name__ == "__main__":
    main()
