"""Every candidate in a table to sort, and those that failed with their causes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.reporting.markup import Child, Markup, element
from evodiff.reporting.notation import axis_title, count, number, operator_title, short, with_error
from evodiff.reporting.page import data_table, section
from evodiff.reporting.statistics import ranked

if TYPE_CHECKING:
    from evodiff.reporting.view import CandidateView, RunView


def leaderboard(view: RunView) -> Markup | None:
    """Every candidate in a table to sort."""
    if not view.candidates:
        return None
    head = [
        "Candidate",
        "Fitness",
        *map(axis_title, view.objectives),
        "Parameters",
        "Gen.",
        "Made by",
        "Standing",
    ]
    body: list[list[Child]] = [
        [
            element("code", short(item.id), title=item.id),
            number(item.fitness_score),
            *[
                with_error(item.objectives.get(objective.name), item.standard_errors.get(objective.name))
                for objective in view.objectives
            ],
            count(item.parameters),
            item.generation,
            operator_title(item.operator),
            _standing(item, view),
        ]
        for item in ranked(view)
    ]
    keys = [
        [
            item.id,
            item.fitness_score,
            *[item.objectives.get(objective.name) for objective in view.objectives],
            item.parameters,
            item.generation,
            operator_title(item.operator),
            _standing(item, view),
        ]
        for item in ranked(view)
    ]
    return section(
        "leaderboard",
        "Leaderboard",
        f"Front first, then {'by rung and' if view.rungs else 'by'} fitness. Click a heading to sort.",
        data_table(head, body, numeric=set(range(1, len(view.objectives) + 4)), keys=keys, tall=True),
    )


def _standing(candidate: CandidateView, view: RunView) -> str:
    """Return what became of a candidate, and of how many trials its values are the mean where it was tried again."""
    again = f"mean of {candidate.replicates} trials" if candidate.replicates > 1 else ""
    return ", ".join(filter(None, (_place(candidate, view), again)))


def _place(candidate: CandidateView, view: RunView) -> str:
    if candidate.failure is not None:
        return "failed"
    if candidate.id == view.champion:
        return "★ champion"
    if candidate.on_front:
        return "front"
    if not candidate.feasible:
        return "infeasible"
    if candidate.rung < len(view.rungs) - 1:
        return f"rung {candidate.rung}"
    return "survivor" if view.generations and view.generations[-1].generation in candidate.survivor_generations else ""


def failures(view: RunView) -> Markup | None:
    """Failed candidates with their causes."""
    if not view.failed:
        return None
    return section(
        "failures",
        "Failures",
        "A failed trial counts as infeasible; the search went on without it.",
        data_table(
            ["Candidate", "Generation", "Made by", "Cause"],
            [
                [element("code", short(item.id)), item.generation, operator_title(item.operator), item.failure or ""]
                for item in view.failed
            ],
            numeric={1},
        ),
    )
