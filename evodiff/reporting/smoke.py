"""What a smoke test found, as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from evodiff.smoke import SmokeResult


def smoke_tables(result: SmokeResult) -> list[Table]:
    """Return what each step took, and what a generation of the search will take."""
    return [_steps(result), _prediction(result)]


def _steps(result: SmokeResult) -> Table:
    table = _table("Tried, with two candidates")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    for name, seconds in result.seconds.items():
        table.add_row(name, f"{seconds:.1f}")
    table.add_section()
    table.add_row("together", f"{sum(result.seconds.values()):.1f}")
    return table


def _prediction(result: SmokeResult) -> Table:
    table = _table("A generation of the search will take about")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("")
    rows = [
        ("time", duration(result.generation_seconds), f"{result.trials} trials on {result.workers} workers"),
        ("longest trial", duration(result.longest_seconds), ""),
        ("memory", f"{result.memory_mb:.0f} MB", f"{result.worker_mb:.0f} MB a worker, measured"),
        ("disk", f"{result.disk_mb:.0f} MB", "while it runs"),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def duration(seconds: float) -> str:
    """Return a duration as a person says it: 42 s, 7 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE, title_justify="left")
