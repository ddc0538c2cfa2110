"""What does tracking cost, a candidate?

A run is copied under a new name each round, so that it is a new experiment, and tracked whole into a server of its own
(SQLite, one worker, artifacts through the server), then the last generation's front is registered. The clock starts
after the imports, which are printed apart; sample grids of the front are part of it. CPU seconds are those of this
process and those of the server: where other work has the cores, their sum says what an idle machine would take. The
server's memory is that of all its processes, shared pages divided among their sharers (PSS), after the last round.

    python benchmarks/tracking_cost.py runs/digits-001
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from evodiff.local.environment import free_ports

AIM_SECONDS = 0.3
AIM_MB = 500


def main() -> None:
    """Print a row a round, the medians, and the server's memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run with closed generations")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    table = Table("round", "candidates", "s a candidate", "CPU s", "server's CPU s", "registered", "s a version")
    imported = import_everything()
    with TemporaryDirectory() as folder, server(Path(folder)) as (uri, group):
        rows = []
        for number in range(arguments.rounds + 1):
            row = measure(arguments.run, Path(folder) / f"{arguments.run.resolve().name}-{number}", uri, group)
            if number:  # the first round opens what stays open: pools, caches, the server's own imports
                rows.append(row)
                cells = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
                table.add_row(str(number), *cells)
        memory = memory_mb(group)
    console = Console(width=100)
    console.print(table)
    console.print(f"imports: {imported:.1f} s; server: {memory:.0f} MB (PSS), at most {AIM_MB} are wanted")
    candidate = [row[1] for row in rows]
    console.print(
        f"tracking a candidate: median {statistics.median(candidate):.3f} s ({min(candidate):.3f} to "
        f"{max(candidate):.3f}); at most {AIM_SECONDS} are wanted on two idle cores"
    )


def import_everything() -> float:
    """Import what tracking and registering import, and return the seconds."""
    started = time.perf_counter()
    for name in ("mlflow.pyfunc", "evodiff.architecture.export", "evodiff.pipeline.trial", "evodiff.tracking"):
        import_module(name)
    return time.perf_counter() - started


def measure(source: Path, folder: Path, uri: str, group: int) -> tuple[int, float, float, float, int, float]:
    """Track a copy of a run and register its last front.

    Returns the number of candidates; wall, CPU and the server's CPU seconds for each; the number of versions, and wall
    seconds for each.
    """
    from evodiff.pipeline.run import Run
    from evodiff.tracking import register_front, track_run

    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("outbox", "report"))
    run = Run.open(folder)
    candidates = sum(len(run.ledger.plan(generation)) for generation in range(run.ledger.closed))
    clocks = time.perf_counter(), time.process_time(), cpu_seconds(group)
    result = track_run(run, uri)
    after = time.perf_counter(), time.process_time(), cpu_seconds(group)
    wall, cpu, server_cpu = ((end - begin) / candidates for begin, end in zip(clocks, after, strict=True))
    if len(result.generations) != run.ledger.closed:
        raise RuntimeError(f"expected {run.ledger.closed} generations to be tracked: {result}")
    started = time.perf_counter()
    versions = len(register_front(run, run.ledger.closed - 1, uri))
    register = (time.perf_counter() - started) / max(1, versions)
    return candidates, wall, cpu, server_cpu, versions, register


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, int]]:
    """Start a server on a free port; yield its address and its process group."""
    (port,) = free_ports(1)
    command = [
        Path(sys.executable).with_name("mlflow"),
        "server",
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder / "artifacts"),
        *("--host", "127.0.0.1", "--port", port, "--workers", "1", "--allowed-hosts", f"127.0.0.1:{port}"),
    ]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, command)), stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        while not answers(f"http://127.0.0.1:{port}/health"):
            if process.poll() is not None:
                raise RuntimeError((folder / "server.log").read_text()[-2000:])
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(address: str) -> bool:
    """Tell whether a server answers."""
    try:
        with urllib.request.urlopen(address, timeout=2):
            return True
    except OSError:
        return False


def memory_mb(group: int) -> float:
    """Return the PSS of all processes of a group."""
    lines = [line for text in processes(group, "smaps_rollup") for line in text.splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def cpu_seconds(group: int) -> float:
    """Return the CPU seconds that all processes of a group have had."""
    fields = [text.rpartition(")")[2].split() for text in processes(group, "stat")]
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


def processes(group: int, file: str) -> Iterator[str]:
    """Yield what /proc says in ``file`` of each process of a group."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                yield (folder / file).read_text()
        except OSError:
            continue  # it has ended meanwhile


if __name__ == "__main__":
    main()
