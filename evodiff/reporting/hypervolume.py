"""Hypervolume of several runs in one box, so that they can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evodiff.engine.convergence import front_hypervolume
from evodiff.engine.fitness import FitnessBox
from evodiff.errors import SettingsError
from evodiff.reporting.highest_rung import bought, expenses, on_highest_rung

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evodiff.reporting.highest_rung import Expense
    from evodiff.reporting.view import CandidateView, RunView

POINTS = 120  # a curve is drawn through at most so many


@dataclass(frozen=True)
class Course:
    """Hypervolume of one run by what was spent."""

    name: str
    spent: tuple[float, ...]
    hypervolume: tuple[float, ...]


def common_box(views: Sequence[RunView]) -> FitnessBox | None:
    """Return the box from the best to the worst value that any candidate that counts has; ``None`` without any.

    Those count that are feasible and on the highest rung of their run. It is a tenth wider at the worse end, so that a
    worst member still counts.

    Raises:
        SettingsError: the runs have not the same objectives.
    """
    _check_objectives(views)
    feasible = [item for view in views for item in on_highest_rung(view.candidates)]
    if not feasible:
        return None
    ideal, reference = {}, {}
    for objective in views[0].objectives:
        values = [item.objectives[objective.name] for item in feasible]
        best, worst = (max(values), min(values)) if objective.maximise else (min(values), max(values))
        width = worst - best or (-1.0 if objective.maximise else 1.0) * (abs(best) or 1.0)
        ideal[objective.name] = best
        reference[objective.name] = best + 1.1 * width
    return FitnessBox(ideal, reference)


def courses(
    views: Sequence[RunView], box: FitnessBox | None, cost: Callable[[Expense], float | None]
) -> list[Course] | None:
    """Return the course of each run by the sum of ``cost``, or ``None`` where a cost is not known."""
    found = []
    for view in views:
        items = expenses(view.candidates)
        costs = [cost(item) for item in items]
        if any(value is None for value in costs):
            return None
        marks = sorted({round(index * len(costs) / POINTS) for index in range(1, POINTS + 1)} - {0})
        spent = [sum(value for value in costs[:mark] if value is not None) for mark in marks]
        reached = tuple(hypervolume(bought(items[:mark]), box) for mark in marks)
        found.append(Course(view.name, tuple(spent), reached))
    return found


def final_hypervolumes(views: Sequence[RunView]) -> list[float]:
    """Return each run's hypervolume in the box of :func:`common_box`."""
    if not views:
        return []
    box = common_box(views)
    return [hypervolume(view.candidates, box) for view in views]


def hypervolume(candidates: Sequence[CandidateView], box: FitnessBox | None) -> float:
    """Return the hypervolume of some candidates of one run, those that count, in units of the box."""
    return front_hypervolume([item.objectives for item in on_highest_rung(candidates)], box)


def hypervolumes_by_generation(view: RunView, box: FitnessBox | None) -> list[float]:
    """Return the hypervolume of what a run had after each of its generations, in units of the box."""
    items = expenses(view.candidates)
    last = max((item.generation for item in items), default=-1)
    return [
        hypervolume(bought([item for item in items if item.generation <= generation]), box)
        for generation in range(last + 1)
    ]


def _check_objectives(views: Sequence[RunView]) -> None:
    expected = [(item.name, item.maximise) for item in views[0].objectives]
    for view in views[1:]:
        found = [(item.name, item.maximise) for item in view.objectives]
        if sorted(found) != sorted(expected):
            raise SettingsError(
                f"Runs with different objectives: expected {expected} as in {views[0].name}, found {found} in"
                f" {view.name}.",
                remedy="Compare runs that were started with the same --objectives.",
            )
