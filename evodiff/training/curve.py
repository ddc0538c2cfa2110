"""The learning curve of a trial, and the rule that stops one which has fallen far behind."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from evodiff.errors import TrialFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

CURVE_POINTS = 20  # one per 5 % of the steps
CHECK_SHARES = (0.25, 0.5, 0.75)


def loss_curve(losses: Sequence[float], points: int = CURVE_POINTS) -> list[float]:
    """Average the losses of single steps, in order, over ``points`` equal stretches (fewer when there are fewer steps).

    Rounded to 6 significant digits: nothing finer is meant by it.
    """
    points = min(points, len(losses))
    bounds = [round(point * len(losses) / points) for point in range(points + 1)] if points else []
    values = np.asarray(losses, dtype=np.float64)
    return [float(f"{values[start:stop].mean():.6g}") for start, stop in itertools.pairwise(bounds)]


def check_steps(steps: int) -> tuple[int, ...]:
    """Return the numbers of steps after which a training of ``steps`` steps is compared with the reference curve."""
    return tuple(sorted({max(1, round(share * steps)) for share in CHECK_SHARES}))


def check_progress(losses: Sequence[float], *, steps: int, reference: Sequence[float], factor: float) -> None:
    """Stop a trial whose loss is more than ``factor`` times the reference at the same share of the training.

    ``losses`` are those of the steps done so far, out of ``steps``; their last 5 % (of ``steps``) are averaged.
    ``reference`` is a learning curve of equally long stretches of a training as long.

    Raises:
        TrialFailure: with cause ``stopped_early``.
    """
    done = len(losses)
    stretch = max(1, round(steps / CURVE_POINTS))
    recent = float(np.mean(np.asarray(losses[max(0, done - stretch) :], dtype=np.float64)))
    point = min(len(reference) - 1, max(0, math.ceil(done / steps * len(reference)) - 1))
    allowed = factor * reference[point]
    if recent > allowed:
        raise TrialFailure(
            "stopped_early",
            f"after {done} of {steps} steps the loss was {recent:.4g}, allowed was {allowed:.4g}",
        )
