"""What a short training says in terms of a whole one: values of lower rungs, brought to the scale of the highest.

What does not depend on training belongs in ``space.costs``, and stays as it is; of other objectives that is known once
candidates were tried on two rungs. Violations of constraints stay as they were told.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from evodiff.engine.history import minimised

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evodiff.engine.history import History

    Floats = NDArray[np.float64]

G = TypeVar("G")

FEWEST_PAIRS: Final = 4  # candidates tried on two rungs, that say how values of one relate to those of the other
# Values of a rung are stretched at most so far: a few candidates that are almost equal would have no end of it.
MOST_STRETCHED: Final = 9.0


@dataclass(frozen=True)
class Evaluations:
    """What n evaluations of ``candidates`` brought, one on each rung that a candidate was tried on, lowest first.

    ``values``, (n, m), are minimised and in terms of the highest rung; NaN where training failed. ``rungs`` and
    ``violations``, (n,), say where each was made, and 0 where it is feasible.
    """

    candidates: list[str]
    rungs: Floats
    values: Floats
    violations: Floats


def extrapolated(history: History[G], candidates: Sequence[str]) -> Evaluations:
    """Return all evaluations of one or more candidates; objectives known without training stay as they are."""
    tried = [(candidate, rung) for candidate in candidates for rung in history.rungs(candidate)]
    standing = [history.standing_on(candidate, rung) for candidate, rung in tried]
    values, violations = minimised(standing, history.objectives), np.array([item.violation for item in standing])
    names, rungs = [candidate for candidate, _ in tried], np.array([rung for _, rung in tried], dtype=np.float64)
    known = history.space.costs(history.genome(names[0]))
    for index, objective in enumerate(history.objectives):
        if objective.name not in known:
            values[:, index] = as_on_highest(names, rungs, values[:, index], feasible=violations == 0)
    return Evaluations(names, rungs, values, violations)


def comparable_values(history: History[G], candidates: Sequence[str]) -> Floats:
    """Return the objectives of candidates as ``history.values`` does, (n, m), though they stand on several rungs.

    By themselves those of a short training would make it a survivor, or a parent, for being short.
    """
    if len({history.rung(candidate) for candidate in candidates}) < 2:
        return history.values(candidates)
    every = extrapolated(history, history.ids)
    standing = {candidate: row for row, candidate in enumerate(every.candidates)}  # a candidate's highest rung is last
    return every.values[[standing[candidate] for candidate in candidates]]


def as_on_highest(names: Sequence[str], rungs: Floats, values: Floats, *, feasible: NDArray[np.bool_]) -> Floats:
    """Return (n,) values in terms of the highest rung: those of each lower one shifted and stretched, rung by rung.

    So that medians and mean deviations agree with those of the next rung, of those who were tried on both; of all on
    each where these are fewer than :data:`FEWEST_PAIRS`. What is the same on both rungs stays as it is. A third of a
    training leaves twice the error and twice the differences: a model for which the rung is but a shift would expect
    negative errors of the best.

    Args:
        names: candidates.
        rungs: (n,) rungs that they were tried on.
        values: (n,) values.
        feasible: (n,) whether the values are to be learnt from.
    """
    scaled = values.copy()
    for rung, following in pairwise(np.unique(rungs[feasible])):
        low, high = (
            {names[row]: values[row] for row in np.flatnonzero(feasible & (rungs == each)).tolist()}
            for each in (rung, following)
        )
        centre, stretch, onto = _relation(low, high)
        below = rungs <= rung  # by now in terms of this rung
        scaled[below] = onto + stretch * (scaled[below] - centre)
    # The last digits may depend on the machine, and would say who of equals on two rungs is the better one.
    return scaled if np.array_equal(scaled, values, equal_nan=True) else np.array([_rounded(item) for item in scaled])


def _rounded(value: float) -> float:
    return float(f"{value:.12g}")


def _relation(low: Mapping[str, float], high: Mapping[str, float]) -> tuple[float, float, float]:
    """Return what is to be taken from a value of one rung, then to be multiplied by, then to be added, for the next."""
    both = [name for name in low if name in high]
    if both and all(low[name] == high[name] for name in both):
        return 0.0, 1.0, 0.0
    if len(both) >= FEWEST_PAIRS:
        low, high = ({name: side[name] for name in both} for side in (low, high))
    (centre, spread), (onto, wide) = (_centre_and_spread(list(side.values())) for side in (low, high))
    stretch = wide / spread if spread > 0 else 1.0
    return centre, min(max(stretch, 1 / MOST_STRETCHED), MOST_STRETCHED), onto


def _centre_and_spread(values: Sequence[float]) -> tuple[float, float]:
    centre = float(np.median(values))
    return centre, float(np.abs(np.subtract(values, centre)).mean())
