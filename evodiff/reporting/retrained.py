"""The front without inheritance: what the search saw beside what a training from scratch reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.reporting.markup import Child, Markup, element
from evodiff.reporting.notation import axis_title, number, short, with_error
from evodiff.reporting.page import data_table, section

if TYPE_CHECKING:
    from evodiff.reporting.view import ObjectiveView, RetrainedView, RunView


def retrained(view: RunView) -> Markup | None:
    """Values of the members of the front that inherited weights, in the search and from scratch."""
    if not view.retrained:
        return None
    differing = retrained_objectives(view)
    head = ["Candidate", "Fitness, search", "Fitness, scratch"]
    for objective in differing:
        head += [f"{axis_title(objective)}, search", f"{axis_title(objective)}, scratch"]
    return section(
        "retrained",
        "The front from scratch",
        "These members of the front started from the weights of their parents. Each was trained once more from its "
        "seed, for the same number of steps: the champion is chosen by what it reached then.",
        data_table(head, [_row(item, view, differing) for item in view.retrained], numeric=set(range(1, len(head)))),
    )


def retrained_objectives(view: RunView) -> list[ObjectiveView]:
    """Return the objectives that depend on the weights: those that differ, of any member of the front."""
    members = [(item, view.candidate(item.candidate)) for item in view.retrained]
    return [
        objective
        for objective in view.objectives
        if any(
            found is not None and found.objectives.get(objective.name) != item.objectives.get(objective.name)
            for item, found in members
            if item.objectives
        )
    ]


def _row(item: RetrainedView, view: RunView, objectives: list[ObjectiveView]) -> list[Child]:
    searched = view.candidate(item.candidate)
    row: list[Child] = [
        element("code", short(item.candidate), title=item.candidate),
        number(searched.fitness_score if searched else None),
        item.failure or number(item.fitness_score),
    ]
    for objective in objectives:
        for source in (searched, item):
            value = source.objectives.get(objective.name) if source else None
            row.append(with_error(value, source.standard_errors.get(objective.name) if source else None))
    return row
