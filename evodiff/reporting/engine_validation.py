"""What a terminal shows of the engine's validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from evodiff.engine.validation import GENERATIONS, POPULATION, SEEDS, Compared, differences
from evodiff.reporting.notation import number

if TYPE_CHECKING:
    from collections.abc import Sequence


def engine_table(compared: Sequence[Compared]) -> Table:
    """Return the table of strategies on problems whose front is known."""
    table = Table(
        title=f"After {POPULATION * GENERATIONS} evaluations in generations of {POPULATION}: median [95 %] of {SEEDS} "
        "seeds",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("problem")
    table.add_column("strategy")
    for head in ("share of the hypervolume", "distance of the front (IGD+)", "A12 over random", "p"):
        table.add_column(head, justify="right")
    found = {(item.problem, item.strategy): item for item in differences(compared)}
    for index, item in enumerate(compared):
        shares, distances = item.last()
        difference = found.get((item.problem, item.strategy))
        last = index + 1 == len(compared) or compared[index + 1].problem != item.problem
        table.add_row(
            item.problem,
            item.strategy,
            _interval(*shares),
            _interval(*distances),
            "" if difference is None else number(difference.effect, 2),
            "" if difference is None else number(difference.p_value, 2),
            end_section=last,
        )
    return table


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
