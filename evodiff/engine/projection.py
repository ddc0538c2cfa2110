"""Projection: what values on a low rung let one expect on the highest, and whom to promote for that.

From one rung to the next each objective goes by a least squares line through the candidates that were tried on both.
What is promising on a rung by itself is often hopeless at full length: a short training of a small network may be the
best of its latency, and yet end outside of the box that counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from evodiff.engine.acquisition import pick_batch
from evodiff.engine.history import minimised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from evodiff.engine.history import History

    Floats = NDArray[np.float64]

G = TypeVar("G")

FEWEST_PAIRS: Final = 4  # tried on both rungs; fewer do not tell a line


@dataclass(frozen=True)
class Line:
    """What to expect on the next rung: ``slope`` times the value and ``intercept``, ``error`` off; (m,) each."""

    slope: Floats
    intercept: Floats
    error: Floats

    @classmethod
    def through(cls, low: Floats, high: Floats) -> Line:
        """Return the lines through (n, m) values on a rung and on the next; none of them falls."""
        low_mean, high_mean = low.mean(axis=0), high.mean(axis=0)
        squares = ((low - low_mean) ** 2).sum(axis=0)
        products = ((low - low_mean) * (high - high_mean)).sum(axis=0)
        slope = np.maximum(0.0, products / np.where(squares > 0, squares, 1.0))
        slope = np.where((low == high).all(axis=0), 1.0, slope)  # known without training
        intercept = np.where((low == high).all(axis=0), 0.0, high_mean - slope * low_mean)
        error = np.sqrt(((high - slope * low - intercept) ** 2).sum(axis=0) / max(1, len(low) - 2))
        return cls(slope, intercept, error)


def projected_order(history: History[G], waiting: Sequence[str], rung: int, rungs: int) -> list[str] | None:
    """Return whom of those ``waiting`` on a rung to promote, the most promising first.

    It is they who are expected to enlarge what the others dominate on the highest rung, each with those before it, in
    the box that the run has frozen. None where too few were tried on this rung and on those above to tell.
    """
    lines = [_line(history, each) for each in range(rung, rungs - 1)]
    known = [line for line in lines if line is not None]
    box = history.box
    if box is None or len(known) < len(lines):
        return None
    signs = np.array([-1.0 if objective.maximise else 1.0 for objective in history.objectives])
    reference, ideal = (
        signs * [values[objective.name] for objective in history.objectives] for values in (box.reference, box.ideal)
    )
    span = reference - ideal
    mean, errors = _expected(history, waiting, rung, known)
    others = [
        _expected(history, reached, each, known[each - rung :])[0]
        for each in range(rung + 1, rungs)
        if (reached := [item for item in _feasible(history, each) if history.rung(item) == each])
    ]
    front = np.vstack(others) if others else np.empty((0, len(span)))
    uncertain = {
        index: np.diag((errors[:, index] / span[index]) ** 2) for index in range(len(span)) if errors[:, index].any()
    }
    points, noises = (mean - reference) / span, dict.fromkeys(uncertain, 0.0)
    picked = pick_batch(points, uncertain, noises, (front - reference) / span, len(waiting))
    return [waiting[index] for index in picked]


def _expected(
    history: History[G], candidates: Sequence[str], rung: int, lines: Sequence[Line]
) -> tuple[Floats, Floats]:
    """Return what candidates on a rung are expected to reach on the highest, minimised, and its errors, (n, m) each."""
    mean = minimised([history.standing_on(item, rung) for item in candidates], history.objectives)
    errors = np.zeros_like(mean)
    for line in lines:
        mean = line.slope * mean + line.intercept
        errors = np.hypot(line.slope * errors, line.error)
    return mean, errors


def _line(history: History[G], rung: int) -> Line | None:
    above = set(_feasible(history, rung + 1))
    both = [item for item in _feasible(history, rung) if item in above]
    if len(both) < FEWEST_PAIRS:
        return None
    low, high = (
        minimised([history.standing_on(item, each) for item in both], history.objectives) for each in (rung, rung + 1)
    )
    return Line.through(low, high)


def _feasible(history: History[G], rung: int) -> list[str]:
    return [item for item in history.on_rung(rung) if history.standing_on(item, rung).feasible]
