"""What the page computes from a view: references to beat, operator credit, and which differences mean something."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from evodiff.reporting.highest_rung import highest_rung, on_highest_rung
from evodiff.reporting.view import CandidateView, ObjectiveView, ReferenceView, RunView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A difference of two measured values is beyond chance at about 95 % from two standard errors of the difference on.
CONFIDENCE = 2.0

_Scored = TypeVar("_Scored", CandidateView, ReferenceView)


@dataclass(frozen=True)
class NoiseRow:
    """One objective's noise: its floor, the typical standard error on the front, the front's spread, and the smallest
    difference between two candidates that means something."""

    objective: ObjectiveView
    floor: float | None
    explanation: str
    standard_error: float | None
    spread: float | None
    smallest_difference: float | None


@dataclass(frozen=True)
class OperatorRow:
    """What the children of one operator came to. ``improved`` is the share with a larger fitness than every parent.

    Of the ``compared`` ones: that were tried on the highest rung as all of their parents were.
    """

    operator: str
    children: int
    failed: int
    survived: int
    on_front: int
    compared: int
    improved: float | None
    mean_gain: float | None


def noise_rows(view: RunView) -> list[NoiseRow]:
    """Return the noise of each objective, in the run's order."""
    rows = []
    for objective in view.objectives:
        errors = [
            item.standard_errors[objective.name]
            for item in view.front or view.candidates
            if item.standard_errors.get(objective.name)
        ]
        values = [item.objectives[objective.name] for item in view.front if objective.name in item.objectives]
        floor = view.floors.get(objective.name)
        error = median(errors) if errors else None
        rows.append(
            NoiseRow(
                objective,
                floor.value if floor else None,
                floor.explanation if floor else "",
                error,
                max(values) - min(values) if len(values) > 1 else None,
                None if error is None else CONFIDENCE * math.sqrt(2.0) * error,
            )
        )
    return rows


def operator_rows(candidates: Sequence[CandidateView]) -> list[OperatorRow]:
    """Return the credit of each operator, most children on the front first."""
    highest = highest_rung(candidates)
    whole = {item.id: item for item in candidates if item.rung == highest}
    groups: dict[str, list[CandidateView]] = {}
    for item in candidates:
        for operator in filter(None, (item.operator or "").split("+")):  # a child of two operators counts for both
            groups.setdefault(operator, []).append(item)
    rows = []
    for operator, children in groups.items():
        gains = [gain for child in children if (gain := _gain(child, whole)) is not None]
        rows.append(
            OperatorRow(
                operator,
                len(children),
                sum(child.failure is not None for child in children),
                sum(bool(child.survivor_generations) for child in children),
                sum(child.on_front for child in children),
                len(gains),
                sum(gain > 0 for gain in gains) / len(gains) if gains else None,
                sum(gains) / len(gains) if gains else None,
            )
        )
    return sorted(rows, key=lambda row: (-row.on_front, -row.survived, row.operator))


def _gain(child: CandidateView, whole: Mapping[str, CandidateView]) -> float | None:
    family = [whole.get(name) for name in (child.id, *child.parents)]
    own, *parents = (None if item is None else item.fitness_score for item in family)
    known = [score for score in parents if score is not None]
    return None if own is None or not known or len(known) < len(parents) else own - max(known)


def ranked(view: RunView) -> list[CandidateView]:
    """Return every candidate: the front first, then by rung and fitness; the infeasible and the failed last."""
    return sorted(
        view.candidates,
        key=lambda item: (
            item.failure is not None,
            not item.feasible,
            not item.on_front,
            -item.rung,
            -(item.fitness_score if item.fitness_score is not None else -1.0),
            item.id,
        ),
    )


def best_reference(view: RunView) -> ReferenceView | None:
    """Return the hand-designed network of largest fitness, or of the best first objective where no fitness is known.

    Of those on the highest rung that any of them was tried on: a shorter training says less.
    """
    highest = max((item.rung for item in view.references), default=0)
    return _best([item for item in view.references if item.rung == highest], view.objectives)


def best_random(view: RunView) -> CandidateView | None:
    """Return the random arm's best candidate by the same rule, of those on the highest rung that it reached."""
    if view.random_arm is None:
        return None
    return _best(on_highest_rung(view.random_arm.candidates), view.objectives)


def _best(items: Sequence[_Scored], objectives: Sequence[ObjectiveView]) -> _Scored | None:
    quality = objectives[0]
    known = [item for item in items if quality.name in item.objectives]
    if not known:
        return None
    sign = -1.0 if quality.maximise else 1.0
    if all(item.fitness_score is not None for item in known):
        return max(known, key=lambda item: (item.fitness_score or 0.0, -sign * item.objectives[quality.name]))
    return min(known, key=lambda item: sign * item.objectives[quality.name])


def line_of_front(
    points: Sequence[tuple[float, float]], horizontal: ObjectiveView, vertical: ObjectiveView
) -> list[tuple[float, float]]:
    """Return those of ``points`` that no other one beats in these two objectives, from left to right."""
    sign_x = -1.0 if horizontal.maximise else 1.0
    sign_y = -1.0 if vertical.maximise else 1.0
    line: list[tuple[float, float]] = []
    best = math.inf
    for x, y in sorted(set(points), key=lambda point: (sign_x * point[0], sign_y * point[1])):
        if sign_y * y < best:
            best = sign_y * y
            line.append((x, y))
    return sorted(line)
