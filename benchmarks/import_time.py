"""How long imports take, each in a fresh process: wall clock and CPU time beyond an empty interpreter's.

python benchmarks/import_time.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

# Statement, and what it may take at most in seconds (None: for information).
STATEMENTS = {
    "import evodiff": 0.3,
    "import evodiff.architecture.space": None,
    "import torch": None,
    "import evodiff.architecture.network": 4.0,
    "import evodiff.architecture.unet": None,
    "import evodiff.architecture.export": None,
}


def main() -> None:
    """Print one row per statement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    empty = [_seconds("pass") for _ in range(repeats)]
    empty_wall, empty_cpu = (statistics.median(values) for values in zip(*empty, strict=True))
    table = Table("statement", "wall s", "range", "CPU s", "at most", "torch", "diffusers")
    table.title = f"median of {repeats} fresh processes, beyond an empty interpreter ({empty_wall:.3f} s)"
    for statement, limit in STATEMENTS.items():
        measured = [_seconds(statement) for _ in range(repeats)]
        walls, cpus = zip(*measured, strict=True)
        loaded = _modules(statement)
        table.add_row(
            statement,
            f"{statistics.median(walls) - empty_wall:.3f}",
            f"{min(walls) - empty_wall:.3f} to {max(walls) - empty_wall:.3f}",
            f"{statistics.median(cpus) - empty_cpu:.3f}",
            "" if limit is None else f"{limit:.1f}",
            *("yes" if name in loaded else "no" for name in ("torch", "diffusers")),
        )
    Console(width=130).print(table)


def _seconds(statement: str) -> tuple[float, float]:
    """Return wall-clock and CPU seconds of a process that runs the statement."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def _modules(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


if __name__ == "__main__":
    main()
