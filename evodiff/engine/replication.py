"""Replicates: what only seems best is tried again, from another seed.

Where values have errors a front collects the lucky (the winner's curse). A member is in a *tie* when an error's breadth
would be enough for another candidate to dominate it. Ties are tried again, those first that were tried least; the
values of a candidate are the means over its replicates, so that luck wears off.

Standard errors stand in an evaluation's ``details``, as ``kid_standard_error`` for the objective ``kid``; values
without one are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from evodiff.engine.candidate import standard_error
from evodiff.engine.history import minimised
from evodiff.engine.variation import Proposal
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.engine.candidate import Evaluation, Objective
    from evodiff.engine.history import History

G = TypeVar("G")

LARGEST_PART: Final = 0.25  # of a generation that replicates take, or one place of it
MOST: Final = 4  # trials of one candidate on a rung


def replicates(history: History[G], size: int, taken: int = 0) -> list[Proposal[G]]:
    """Return the replicates of a generation of ``size`` trials, ``taken`` of which are promotions.

    There are none where values are exact; one place at least is left to a new candidate.
    """
    rung = history.results[-1].rung if history.results else 0
    rivals = [item for item in history.on_rung(rung) if history.standing_on(item, rung).feasible]
    trials = {item: history.trials_on(item, rung) for item in rivals}
    told = {item: [trial for trial in trials[item] if trial.failure is None] for item in rivals}
    errors = np.array([standard_errors(told[item], history.objectives) for item in rivals])
    if not errors.any():
        return []
    values = minimised([history.standing_on(item, rung) for item in rivals], history.objectives)
    tied = _tied(values, errors, [rivals.index(item) for item in history.front if item in trials])
    waiting = [item for item in (rivals[i] for i in tied) if len(trials[item]) < MOST]
    waiting.sort(key=lambda item: len(trials[item]))  # stable: equals stay in the order asked
    room = min(max(1, int(size * LARGEST_PART)), max(0, size - taken - 1))
    known = [history.candidate(item) for item in waiting[:room]]
    return [
        Proposal(item.genome, item.parents, item.operator, rung=rung, replicate=len(trials[item.id])) for item in known
    ]


def check_same_start(*, inherit: bool, replicate_ties: bool) -> None:
    """Check that replicates of one candidate start alike.

    Raises:
        SettingsError: children inherit weights, which replicates do not.
    """
    if inherit and replicate_ties:
        raise SettingsError(
            "Expected replicates of one candidate to start alike, found inherit and replicate_ties together: a"
            " replicate has its own seed and nobody's weights.",
            remedy="Choose one of the two.",
        )


def standard_errors(trials: Sequence[Evaluation], objectives: Sequence[Objective]) -> list[float]:
    """Return the standard error of the mean of some trials for each objective, 0 where it is exact."""
    return [standard_error(trials, item.name) for item in objectives]


def _tied(values: np.ndarray, errors: np.ndarray, front: Sequence[int]) -> list[int]:
    """Return those of ``front`` that another candidate would dominate if it differed by one standard error."""
    found = []
    for index in front:
        breadth = np.sqrt(errors**2 + errors[index] ** 2)
        close = (values <= values[index] + breadth).all(axis=1)
        close[index] = False
        if close.any():
            found.append(index)
    return found
