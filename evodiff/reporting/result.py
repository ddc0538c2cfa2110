"""What a search prints at its end, and what a validation prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from evodiff.reporting.highest_rung import expenses, on_highest_rung
from evodiff.reporting.notation import axis_title, number, short, with_error
from evodiff.reporting.retrained import retrained_objectives
from evodiff.reporting.tables import WIDTH, front_table, leaderboard_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.reporting.view import CandidateView, GenerationView, ObjectiveView, RunView, ValidationMetric


def result_tables(view: RunView) -> list[Table]:
    """Return the leaderboard, the front, and what there is beside them: the front from scratch, the random arm."""
    tables = [leaderboard_table(view), front_table(view)]
    if view.retrained:
        tables.append(retrained_table(view))
    if view.random_arm is not None:
        tables.append(random_arm_table(view))
    return tables


def retrained_table(view: RunView) -> Table:
    """Return the members of the front that inherited weights, in the search and from scratch."""
    table = Table(title="The front from scratch", box=box.SIMPLE_HEAD, width=WIDTH, title_justify="left")
    for title in ("candidate", "", "fitness"):
        table.add_column(title, justify="right" if title == "fitness" else "left")
    objectives = retrained_objectives(view)
    for objective in objectives:
        table.add_column(axis_title(objective), justify="right")
    for item in view.retrained:
        searched = view.candidate(item.candidate)
        for name, source in (("search", searched), ("scratch", item)):
            values = [number(source.objectives.get(objective.name)) if source else "" for objective in objectives]
            score = (source.failure or number(source.fitness_score)) if source else ""
            mark = "★ " if item.candidate == view.champion else ""
            table.add_row(mark + short(item.candidate) if name == "search" else "", name, score, *values)
    return table


def random_arm_table(view: RunView) -> Table:
    """Return search and random search of equal budget, side by side; hypervolumes are shares of one box."""
    table = Table(
        title="Search and random search of equal budget", box=box.SIMPLE_HEAD, width=WIDTH, title_justify="left"
    )
    for title in ("", "trials", "hypervolume"):
        table.add_column(title, justify="left" if not title else "right")
    for objective in view.objectives:
        table.add_column(f"best {axis_title(objective)}", justify="right")
    table.add_row(*_row("search", view.candidates, view.generations, view.objectives))
    if view.random_arm is not None:
        arm = view.random_arm
        table.add_row(*_row("random", arm.candidates, arm.generations, view.objectives))
    return table


def validation_table(metrics: Mapping[str, ValidationMetric] | None) -> Table:
    """Return the numbers of a validation, each beside what real images score in the place of generated ones."""
    table = Table(title="Validation on test images", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("real images", justify="right")
    table.add_column("")
    for name, metric in (metrics or {}).items():
        better = f"{metric.better} is better. " if metric.better else ""
        floor = number(metric.floor) if metric.floor is not None else ""
        table.add_row(name, with_error(metric.value, metric.standard_error), floor, f"{better}{metric.explanation}")
    return table


def _row(
    name: str,
    candidates: Sequence[CandidateView],
    generations: Sequence[GenerationView],
    objectives: Sequence[ObjectiveView],
) -> list[str]:
    feasible = on_highest_rung(candidates)
    best = [
        number((max if objective.maximise else min)(item.objectives[objective.name] for item in feasible))
        for objective in objectives
        if feasible
    ]
    hypervolume = generations[-1].hypervolume if generations else None
    return [name, str(len(expenses(candidates))), number(hypervolume), *best]
