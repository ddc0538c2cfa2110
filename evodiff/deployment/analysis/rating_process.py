"""Do people rate the canary's images lower than the stable version's by a margin? An e-process over raters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from evodiff.deployment.analysis.evalues import Capital, log_bounded_mean
from evodiff.deployment.feedback.deployment_feedback import HIGHEST_RATING, LOWEST_RATING
from evodiff.deployment.observation import Arm

if TYPE_CHECKING:
    from collections.abc import Mapping

# The largest share of the capital that one pair may lose.
_LARGEST_LOSS: Final = 0.5
# What is held of differences between raters beforehand (points squared), and how many pairs that is worth.
_PRIOR_VARIANCE: Final = 1.5
_PRIOR_PAIRS: Final = 4.0
_MOST_RATERS: Final = 10_000


@dataclass
class RatingProcess:
    """An e-process, ``capital``, against "the canary's mean rating is at most ``margin`` points lower".

    1. The unit is a rater: its first rating in the rollout's soft steps counts, raw, and no other, so that floods move
       nothing.
    2. As soon as both arms have raters that were not compared yet, the mean of the stable ones' ratings less that of
       the canary's, less the margin, is one difference d. Its mean is at most 0 under the null, whatever the scale is
       used like; it is at least -(4 + margin).
    3. 1 + bet·d is an e-value for every bet in [0, 1/(4 + margin)) that is chosen before; it is sized by the
       differences before this one and multiplied (Waudby-Smith & Ramdas 2024, approximate GRAPA).
    """

    margin: float
    alternative: float
    capital: Capital = field(default_factory=Capital)
    pairs: int = 0
    counted: dict[Arm, int] = field(default_factory=lambda: {Arm.STABLE: 0, Arm.CANARY: 0})
    _waiting: dict[Arm, list[float]] = field(default_factory=lambda: {Arm.STABLE: [], Arm.CANARY: []})
    _raters: dict[str, None] = field(default_factory=dict)
    _sum: float = 0.0
    _squares: float = 0.0

    def observe(self, arm: Arm, rater: str, rating: float) -> None:
        """Take in a rating; one that is not from 1 to 5 is none."""
        if rater in self._raters or len(self._raters) >= _MOST_RATERS or not LOWEST_RATING <= rating <= HIGHEST_RATING:
            return
        self._raters[rater] = None
        self.counted[arm] += 1
        self._waiting[arm].append(rating)
        stable, canary = self._waiting[Arm.STABLE], self._waiting[Arm.CANARY]
        if stable and canary:
            self._bet(math.fsum(stable) / len(stable) - math.fsum(canary) / len(canary))
            self._waiting = {Arm.STABLE: [], Arm.CANARY: []}

    def begin_step(self) -> None:
        """Forget who waits: ratings are compared under the same weights only."""
        self.capital.begin_step()
        self._waiting = {Arm.STABLE: [], Arm.CANARY: []}

    def _bet(self, drop: float) -> None:
        excess = drop - self.margin
        mean = max(self.alternative - self.margin, self._sum / (_PRIOR_PAIRS + self.pairs))
        variance = (_PRIOR_PAIRS * _PRIOR_VARIANCE + self._squares) / (_PRIOR_PAIRS + self.pairs)
        largest = _LARGEST_LOSS / (HIGHEST_RATING - LOWEST_RATING + self.margin)
        self.capital.multiply(log_bounded_mean(excess, min(largest, mean / (variance + mean**2))))
        self.pairs += 1
        self._sum += excess
        self._squares += excess**2

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON; the margins are the caller's."""
        return {
            "capital": self.capital.to_json(),
            "pairs": self.pairs,
            "counted": {str(arm): count for arm, count in self.counted.items()},
            "waiting": {str(arm): list(ratings) for arm, ratings in self._waiting.items()},
            "raters": list(self._raters),
            "sum": self._sum,
            "squares": self._squares,
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from what :meth:`to_json` wrote."""
        self.capital, self.pairs = Capital.from_json(data["capital"]), data["pairs"]
        self.counted = {Arm(arm): count for arm, count in data["counted"].items()}
        self._waiting = {Arm(arm): list(ratings) for arm, ratings in data["waiting"].items()}
        self._raters = dict.fromkeys(data["raters"])
        self._sum, self._squares = data["sum"], data["squares"]
