"""What a terminal shows of the engine's validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from evodiff.engine.validation import Compared, differences
from evodiff.reporting.notation import convergence_text, number

if TYPE_CHECKING:
    from collections.abc import Sequence


def engine_tables(compared: Sequence[Compared]) -> list[Table]:
    """Return how strategies end on problems whose front is known, what they have after each generation, and whether
    they still improved then."""
    return [_ends(compared), _courses(compared), _convergence(compared)]


def _ends(compared: Sequence[Compared]) -> Table:
    table = _table(
        f"{_lengths(compared)}: median [95 %] over seeds",
        ("share of the hypervolume", "distance of the front (IGD+)", "A12 over random", "p"),
    )
    found = {(item.problem, item.strategy): item for item in differences(compared)}
    for item, last in _with_ends(compared):
        shares, distances = item.last()
        difference = found.get((item.problem, item.strategy))
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


def _courses(compared: Sequence[Compared]) -> Table:
    generations = compared[0].hypervolume.shape[1] if compared else 0
    table = _table(
        "Median share of the hypervolume, and below it the median IGD+, after each generation",
        [str(generation) for generation in range(generations)],
    )
    for item, last in _with_ends(compared):
        shares, distances = item.medians()
        cells = [f"{share:.3f}\n{distance:.3f}" for share, distance in zip(shares[0], distances[0], strict=True)]
        table.add_row(item.problem, item.strategy, *cells, end_section=last)
    return table


def _convergence(compared: Sequence[Compared]) -> Table:
    table = _table("Convergence", ["gain of hypervolume a generation lately [95 %]"])
    for item, last in _with_ends(compared):
        table.add_row(item.problem, item.strategy, convergence_text(item.convergence()), end_section=last)
    return table


def _lengths(compared: Sequence[Compared]) -> str:
    """Return how long the runs were, and how many there are of each."""
    found = {(item.hypervolume.shape, item.population) for item in compared}
    return "; ".join(
        f"After {generations * population} evaluations in generations of {population}, {seeds} seeds"
        for (seeds, generations), population in sorted(found)
    )


def _table(title: str, heads: Sequence[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("problem")
    table.add_column("strategy")
    for head in heads:
        table.add_column(head, justify="right")
    return table


def _with_ends(compared: Sequence[Compared]) -> list[tuple[Compared, bool]]:
    """Return each with whether it is the last one of its problem."""
    following = [*(item.problem for item in compared[1:]), None]
    return [(item, item.problem != then) for item, then in zip(compared, following, strict=True)]


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
