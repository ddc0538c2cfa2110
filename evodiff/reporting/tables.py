"""Tables for a terminal, by rich; they fit 80 columns."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from rich import box as boxes
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from evodiff.engine.convergence import diagnose
from evodiff.reporting.front_distance import best_known_front, igd_plus
from evodiff.reporting.highest_rung import expenses, on_highest_rung
from evodiff.reporting.hypervolume import common_box, final_hypervolumes, hypervolumes_by_generation
from evodiff.reporting.notation import (
    convergence_text,
    interval_text,
    number,
    operator_title,
    short,
    title,
    with_error,
)
from evodiff.reporting.statistics import ranked
from evodiff.reporting.strategies import COSTS, Contest, Strategy, contest, repeated, strategies
from evodiff.reporting.strategy_sections import budget_text, distance_text, p_value_text, standing_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.reporting.view import CandidateView, ObjectiveView, RunView

WIDTH = 80


def leaderboard_table(view: RunView, *, rows: int = 10) -> Table:
    """Return the best ``rows`` candidates, the front first; hand-designed networks follow as a reference."""
    table = _table(f"Leaderboard of {escape(view.name)}")
    _candidate_columns(table, view.objectives)
    for rank, item in enumerate(ranked(view)[:rows], start=1):
        _candidate_row(table, str(rank), item, view)
    if view.references:
        table.add_section()
        for reference in view.references:
            values = [_cell(reference.objectives, reference.standard_errors, item) for item in view.objectives]
            origin = f"zoo, rung {reference.rung}" if reference.rung < len(view.rungs) - 1 else "zoo"
            table.add_row("", Text(reference.name), _score(reference.fitness_score), *values, origin)
    return table


def front_table(view: RunView) -> Table:
    """Return the members of the front, largest fitness first."""
    table = _table(f"Front of {escape(view.name)}")
    _candidate_columns(table, view.objectives)
    for rank, item in enumerate(view.front, start=1):
        _candidate_row(table, str(rank), item, view)
    return table


def comparison_table(views: Sequence[RunView]) -> Table:
    """Return for each run its trials, the hypervolume in a box common to all, and its best value of each objective."""
    table = _table("Comparison")
    table.add_column("run", no_wrap=True, overflow="ellipsis", ratio=1, min_width=12)
    table.add_column("trials", justify="right")
    table.add_column("hypervolume", justify="right")
    objectives = views[0].objectives if views else ()
    for objective in objectives:
        table.add_column(_heading(objective), justify="right", overflow="fold", max_width=_share(objectives))
    for view, hypervolume in zip(views, final_hypervolumes(views), strict=True):
        table.add_row(
            Text(view.name),
            str(len(expenses(view.candidates))),
            number(hypervolume, 4),
            *[_best(view, objective) for objective in objectives],
        )
    return table


def comparison_tables(views: Sequence[RunView]) -> list[Table]:
    """Return the table of the runs, and those of their strategies where these were repeated."""
    found = strategies(views)
    contests = [contest(views, found, cost) for cost in COSTS] if repeated(found) else []
    tables = [strategies_table(item) for item in contests if item]
    return [comparison_table(views), *tables, convergence_table(views, found)]


def convergence_table(views: Sequence[RunView], found: Sequence[Strategy]) -> Table:
    """Return for each strategy how far it is from the best front that all runs know, and whether it still improves."""
    table = _table("Convergence")
    table.add_column("strategy", overflow="fold", ratio=1)
    table.add_column("IGD+ at the end", justify="right")
    table.add_column("gain a generation lately [95 %]", justify="right", overflow="fold")
    box = common_box(views)
    front = best_known_front(views, box)
    for strategy in found:
        runs = [views[index] for index in strategy.runs]
        distance = median(igd_plus(view.candidates, box, front) for view in runs)
        convergence = diagnose([hypervolumes_by_generation(view, box) for view in runs])
        table.add_row(Text(strategy.name), number(distance), convergence_text(convergence))
    return table


def strategies_table(found: Contest) -> Table:
    """Return what each strategy reached at the common budget, and below how sure each difference is."""
    table = _table(f"Strategies at {budget_text(found)}")
    table.add_column("strategy", overflow="fold", ratio=1)
    table.add_column("runs", justify="right")
    table.add_column("hypervolume, median [95 %]", justify="right")
    table.add_column("IGD+, median [95 %]", justify="right")
    for standing in found.standings:
        runs = str(len(standing.hypervolumes))
        table.add_row(Text(standing.strategy.name), runs, standing_text(standing), distance_text(standing))
    if found.differences:
        table.add_section()
        heads = ("first over second", "p", "A12 [95 %]", "")
        table.add_row(*(Text(head, style="dim") for head in heads))
    for item in found.differences:
        pair = Text(f"{item.first.name} over {item.second.name}")
        table.add_row(pair, p_value_text(item), interval_text(item.effect), "")
    return table


def _table(title: str) -> Table:
    return Table(
        title=title, box=boxes.SIMPLE_HEAD, width=WIDTH, pad_edge=False, title_justify="left", padding=(0, 1, 0, 0)
    )


def _share(objectives: Sequence[ObjectiveView]) -> int:
    """Return the columns that one objective may take."""
    return max(8, 42 // len(objectives))


def _heading(objective: ObjectiveView) -> Text:
    """The unit goes on a line of its own, for columns are dear."""
    return Text(f"{title(objective)}\n{objective.unit}".rstrip())


def _candidate_columns(table: Table, objectives: Sequence[ObjectiveView]) -> None:
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("candidate", overflow="fold", min_width=10)
    table.add_column("fitness", justify="right", no_wrap=True)
    for objective in objectives:
        table.add_column(_heading(objective), justify="right", overflow="fold", max_width=_share(objectives))
    table.add_column("from", no_wrap=True, overflow="ellipsis", ratio=1, min_width=6)


def _candidate_row(table: Table, rank: str, item: CandidateView, view: RunView) -> None:
    mark = "★ " if item.id == view.champion else ""
    table.add_row(
        rank,
        Text(mark + short(item.id)),
        _score(item.fitness_score),
        *[_cell(item.objectives, item.standard_errors, objective) for objective in view.objectives],
        Text(_origin(item, view)),
        style="bold" if item.id == view.champion else "" if item.on_front else "dim",
    )


def _origin(item: CandidateView, view: RunView) -> str:
    """Return where a candidate comes from, or what is wrong with it."""
    if item.failure:
        return item.failure.split(":")[0]
    if broken := [name for name, value in item.violations.items() if value > 0]:
        return f"breaks {', '.join(broken)}"
    rung = f" rung {item.rung}," if item.rung < len(view.rungs) - 1 else ""
    return f"g{item.generation}{rung} {operator_title(item.operator)}"


def _score(value: float | None) -> str:
    return number(value, 3)


def _cell(values: Mapping[str, float], errors: Mapping[str, float], objective: ObjectiveView) -> str:
    return with_error(values.get(objective.name), errors.get(objective.name)).replace(" ± ", "±")


def _best(view: RunView, objective: ObjectiveView) -> str:
    values = [
        item.objectives[objective.name]
        for item in on_highest_rung(view.candidates)
        if objective.name in item.objectives
    ]
    return number((max if objective.maximise else min)(values)) if values else number(None)
