"""How long imports and the command line's help take, each in a fresh process: wall clock and CPU time beyond an empty
interpreter's.

python benchmarks/import_time.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

# Statement or command line, and what it may take at most in seconds (None: for information).
PROGRAMS = {
    "import evodiff": 0.3,
    "evodiff --help": 1.5,
    "import evodiff.architecture.space": None,
    "import torch": None,
    "import evodiff.architecture.network": 4.0,
    "import evodiff.architecture.unet": None,
    "import evodiff.architecture.export": None,
    "import evodiff.pipeline.trial": 5.0,  # what a worker imports
}


def main() -> None:
    """Print one row per program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    empty = [_seconds("pass") for _ in range(repeats)]
    empty_wall, empty_cpu = (statistics.median(values) for values in zip(*empty, strict=True))
    table = Table("program", "wall s", "range", "CPU s", "at most", "torch", "diffusers")
    table.title = f"median of {repeats} fresh processes, beyond an empty interpreter ({empty_wall:.3f} s)"
    for program, limit in PROGRAMS.items():
        measured = [_seconds(program) for _ in range(repeats)]
        walls, cpus = zip(*measured, strict=True)
        loaded = _modules(program)
        table.add_row(
            program,
            f"{statistics.median(walls) - empty_wall:.3f}",
            f"{min(walls) - empty_wall:.3f} to {max(walls) - empty_wall:.3f}",
            f"{statistics.median(cpus) - empty_cpu:.3f}",
            "" if limit is None else f"{limit:.1f}",
            *("yes" if name in loaded else "no" for name in ("torch", "diffusers")),
        )
    Console(width=130).print(table)


def _command(program: str) -> list[str]:
    """Return the command that runs a statement, or a command line of ours."""
    name, *arguments = program.split()
    if name == "evodiff":
        return [str(Path(sys.executable).with_name(name)), *arguments]
    return [sys.executable, "-c", program]


def _seconds(program: str) -> tuple[float, float]:
    """Return wall-clock and CPU seconds of a process that runs the program."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(_command(program), stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def _modules(program: str) -> set[str]:
    """Return the modules that the program imports, by Python's own account of their times."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(_command(program), env=environment, check=True, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


if __name__ == "__main__":
    main()
