"""IGD+ of several runs in one box: how far the best front that all of them know is from what each has found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import moocore
import numpy as np

from evodiff.reporting.highest_rung import on_highest_rung

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.engine.fitness import FitnessBox
    from evodiff.reporting.view import CandidateView, RunView


def best_known_front(views: Sequence[RunView], box: FitnessBox | None) -> np.ndarray:
    """Return the non-dominated of the candidates of all runs that count, (k, m), in units of the box.

    Those count that are feasible and on the highest rung of their run. 0 is the best value and 1 the reference, in
    every objective.
    """
    points = _points([item for view in views for item in on_highest_rung(view.candidates)], box)
    found: np.ndarray = points[moocore.is_nondominated(points)] if len(points) else points
    return found


def igd_plus(candidates: Sequence[CandidateView], box: FitnessBox | None, front: np.ndarray) -> float:
    """Return the mean distance of ``front`` to what counts of one run (Ishibuchi et al. 2015); 0 where it is empty.

    A candidate that is better in an objective is not the farther for it. Before anything feasible is found, the
    reference point stands for it.
    """
    if not len(front):
        return 0.0
    points = _points(on_highest_rung(candidates), box)
    return float(moocore.igd_plus(points if len(points) else np.ones((1, front.shape[1])), front))


def _points(candidates: Sequence[CandidateView], box: FitnessBox | None) -> np.ndarray:
    """Return an (n, m) array: how far each candidate is from the ideal towards the reference."""
    if box is None:
        return np.empty((0, 1))
    rows = [box.shares(item.objectives) for item in candidates]
    return 1 - np.array(rows, dtype=np.float64).reshape(len(rows), len(box.ideal))
