"""``fitness_score``: the share of a frozen box that a candidate alone dominates."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from evodiff.engine.candidate import Evaluation, Objective


@dataclass(frozen=True)
class FitnessBox:
    """The box between an ideal and a reference point, one value an objective, in the objectives' own directions."""

    ideal: Mapping[str, float]
    reference: Mapping[str, float]

    def shares(self, values: Mapping[str, float]) -> list[float]:
        """Return, for each objective, how much of the way from the reference to the ideal a value has come.

        0 at the reference, 1 at the ideal, not clipped; differences alone, so negative values are fine.
        """
        return [
            (self.reference[name] - values[name]) / (self.reference[name] - self.ideal[name]) for name in self.ideal
        ]

    def score(self, evaluation: Evaluation | None) -> float | None:
        """Return the fitness score in [0, 1]; 0 for an infeasible candidate, None before any value."""
        if evaluation is None:
            return None
        if not evaluation.feasible:
            return 0.0
        return math.prod(min(1.0, max(0.0, share)) for share in self.shares(evaluation.objectives))


def freeze_box(values: np.ndarray, objectives: Sequence[Objective]) -> FitnessBox:
    """Return the box that the feasible candidates of the first generation span.

    Args:
        values: an (n, m) array of minimised values, n at least 1.
        objectives: the m objectives.

    The reference is as far above the median as the best is below it, but not beyond the worst: a few hopeless
    candidates, which random sampling brings, do not stretch the box. Where that leaves no candidate inside, it is a
    tenth of the range beyond the worst. The ideal is as far below the best as the best is below the reference, so
    that later generations have room to improve; for an objective that was never negative it stops at 0.
    """
    columns = [[float(value) for value in column] for column in values.T]
    references = [min(max(column), 2 * statistics.median(column) - min(column)) for column in columns]
    if not any(all(row[k] < references[k] for k in range(len(columns))) for row in zip(*columns, strict=True)):
        references = [
            max(column) + (0.1 * (max(column) - min(column)) or abs(max(column)) or 1.0) for column in columns
        ]
    ideal, reference = {}, {}
    for objective, column, far in zip(objectives, columns, references, strict=True):
        best = min(column)
        near = 2 * best - far
        sign = -1.0 if objective.maximise else 1.0
        ideal[objective.name] = sign * (max(0.0, near) if best >= 0 else near)
        reference[objective.name] = sign * far
    return FitnessBox(ideal, reference)
