"""Fidelity: new candidates are trained briefly, and only those that promise most are trained on.

A run with several rungs tries its first candidates on the highest: they say what is to be reached, and what the box is
that counts. All others begin on the lowest. Successive halving by generations (ASHA, Li et al. 2020): of all that were
ever tried on a rung, a share goes on to the next. Promotion is by Pareto: first those that enlarge what the promoted
ones dominate on that rung, then by rank and crowding (in the manner of Schmucker et al. 2021). A strategy with models
orders them by what these expect of the highest rung: a short training is noisy, and what is known of others like it
counts too.

A low rung ranks the best candidates badly (.24 to .59, where all of them are ranked .8), so that no winner is picked
there: the front is that of the highest rung reached. How well a rung ranks is measured on those that were promoted, and
the less it tells, the larger the share that is tried on the next one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from evodiff.engine.acquisition import improvements
from evodiff.engine.fitness import freeze_box
from evodiff.engine.history import minimised
from evodiff.engine.selection import best_first
from evodiff.engine.surrogate import rank_correlation
from evodiff.engine.variation import Proposal
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.engine.baselines import Strategy
    from evodiff.engine.history import History

G = TypeVar("G")

REDUCTION: Final = 3  # each rung is trained so many times as long as the one below
SMALLEST_SHARE: Final = 1 / REDUCTION
# What is taken for Kendall's tau of a rung with the next before it was measured, and how many pairs that is worth.
EXPECTED_TAU, WORTH = 2 / 3, 8
LARGEST_PART: Final = 0.5  # of a generation that promotions take, or one place of it
ANCHORS: Final = 8  # of the first generation begin on the highest rung


def rung_steps(full: int, rung: int, rungs: int) -> int:
    """Return the training steps of a rung, 1 at least: ``full`` on the highest, a third as many on each one below."""
    return max(1, round(full / float(REDUCTION ** (rungs - 1 - rung))))


def check_rung_steps(full: int, rungs: int) -> None:
    """Check that each rung is trained for longer than the one below.

    Raises:
        SettingsError: ``full`` steps are too few for so many rungs; it says how many they allow.
    """
    steps = [rung_steps(full, rung, rungs) for rung in range(rungs)]
    most = len(set(steps))  # only rungs of a single step can be alike, the lowest ones: one of them may stay
    if most == rungs:
        return
    raise SettingsError(
        f"rungs: expected each to be trained for longer than the one below, found {rungs} rungs of"
        f" {', '.join(map(str, steps))} steps.",
        remedy=f"Give {full} steps {'one rung' if most == 1 else f'{most} rungs at most'}, or more steps.",
    )


def added_steps(full: int, trial: Mapping[str, Any], rungs: int, *, inherit: bool = False) -> int:
    """Return the steps that the trial of a plan's row adds to what its candidate was trained for before.

    Those of the first generation begin on their rung. In a run that inherits, trials on higher rungs start from
    scratch, and what went before is lost on them.
    """
    steps = rung_steps(full, trial["rung"], rungs)
    climbs = trial["rung"] > 0 and trial["generation"] > 0
    goes_on = climbs and trial["replicate"] == 0 and trial["protocol"] == "search" and not inherit
    return steps - rung_steps(full, trial["rung"] - 1, rungs) if goes_on else steps


@dataclass(frozen=True)
class RungAgreement:
    """How a rung agrees with the next, over the ``pairs`` of feasible trials of one candidate on both.

    ``rank_correlation`` is Kendall's tau by objective, of those that training decides; ``share`` is how many of the
    rung's candidates are promoted.
    """

    pairs: int
    rank_correlation: Mapping[str, float]
    share: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def agreement(history: History[G], rung: int) -> RungAgreement:
    """Return how ``rung`` agrees with the next one, over all closed generations."""
    both = [
        (low, high)
        for candidate in history.on_rung(rung + 1)
        if rung in history.rungs(candidate)  # a strategy of one's own may begin higher
        and (low := history.standing_on(candidate, rung)).feasible
        and (high := history.standing_on(candidate, rung + 1)).feasible
    ]
    taus: dict[str, float] = {}
    if both:
        first, second = (minimised([pair[i] for pair in both], history.objectives) for i in (0, 1))
        for index, objective in enumerate(history.objectives):
            if (first[:, index] != second[:, index]).any():  # else it is known without training
                taus[objective.name] = round(rank_correlation(first[:, index], second[:, index]), 9)
    pairs = len(both)
    measured = sum(taus.values()) / len(taus) if taus else EXPECTED_TAU
    tau = (pairs * measured + WORTH * EXPECTED_TAU) / (pairs + WORTH)
    return RungAgreement(pairs, taus, round(min(1.0, max(SMALLEST_SHARE, 1 - tau)), 9))


def agreements(history: History[G], rungs: int) -> dict[str, dict[str, Any]]:
    """Return the agreement of each rung with the next, by rung, as plain JSON."""
    return {str(rung): agreement(history, rung).to_json() for rung in range(rungs - 1)}


def promotions(history: History[G], strategy: Strategy, rungs: int, size: int) -> list[Proposal[G]]:
    """Return the trials on higher rungs that a generation of ``size`` trials begins with, the highest rung first."""
    # In generations of one trial a promotion takes the turn of a new candidate; shares see to it that not all do.
    room = max(1, int(size * LARGEST_PART))
    found: list[Proposal[G]] = []
    for rung in range(rungs - 2, -1, -1):
        for candidate in _promoted(history, strategy, rung, room - len(found)):
            known = history.candidate(candidate)
            found.append(Proposal(known.genome, known.parents, known.operator, rung=rung + 1))
    return found


def promotable(history: History[G], strategy: Strategy, rungs: int, count: int) -> list[str]:
    """Return at most ``count`` candidates a rung that later generations may promote, for their training to be kept."""
    return [candidate for rung in range(rungs - 1) for candidate in _ordered(history, strategy, rung, count)[:count]]


def _promoted(history: History[G], strategy: Strategy, rung: int, room: int) -> list[str]:
    tried = set(history.on_rung(rung))
    promoted = tried & set(history.on_rung(rung + 1))
    quota = int(round(agreement(history, rung).share * len(tried), 6)) - len(promoted)
    places = max(0, min(quota, room))
    return _ordered(history, strategy, rung, places)[:places] if places else []


def _ordered(history: History[G], strategy: Strategy, rung: int, count: int) -> list[str]:
    """Return the feasible candidates of a rung that are not promoted, the most promising first; ``count`` matter."""
    above = set(history.on_rung(rung + 1))
    feasible = [item for item in history.on_rung(rung) if history.standing_on(item, rung).feasible]
    waiting = [item for item in feasible if item not in above]
    if not waiting:
        return []
    expected: Sequence[str] | None = getattr(strategy, "order_promotions", lambda *_: None)(history, waiting, count)
    if expected is not None:
        return list(expected)
    every = minimised([history.standing_on(item, rung) for item in feasible], history.objectives)
    box = freeze_box(every, history.objectives)
    points = -np.array([box.shares(history.standing_on(item, rung).objectives) for item in feasible])
    rows = {item: points[index] for index, item in enumerate(feasible)}
    front = np.array([rows[item] for item in feasible if item in above]).reshape(-1, points.shape[1])
    left = np.array([rows[item] for item in waiting])
    gaining = _greedy(left, front)
    others = [int(i) for i in best_first(left, np.zeros(len(left))) if int(i) not in set(gaining)]
    return [waiting[i] for i in [*gaining, *others]]


def _greedy(points: np.ndarray, front: np.ndarray) -> list[int]:
    """Return the indices of points that enlarge the hypervolume of the front, each with those before it on it."""
    order: list[int] = []
    while True:
        gains = np.round(improvements(points, front), 9)
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            return order
        order.append(best)
        front = np.vstack([front, points[best]])
