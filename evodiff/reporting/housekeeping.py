"""What housekeeping removed, as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.pipeline.housekeeping import Removal


def housekeeping_table(removals: Sequence[Removal], *, dry_run: bool) -> Table:
    """Return a row for what each chore removed, or would, and how much that is."""
    table = Table(title="What would go" if dry_run else "What went", box=box.SIMPLE, title_justify="left")
    table.add_column("chore")
    table.add_column("of", overflow="fold")
    table.add_column("items", justify="right")
    table.add_column("MB", justify="right")
    table.add_column("", overflow="fold")
    for item in removals:
        size = "" if item.size is None else f"{item.size / 1e6:.1f}"
        counts = ("", "") if item.note else (str(item.items), size)
        note = Text(f"failed: {item.note}" if item.failed else item.note, style="red" if item.failed else "dim")
        table.add_row(item.chore, Text(item.subject), *counts, note)
    total = sum(item.size or 0 for item in removals)
    table.add_section()
    table.add_row("together", "", "", f"{total / 1e6:.1f}", "")
    return table
