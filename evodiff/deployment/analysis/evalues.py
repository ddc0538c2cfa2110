"""E-values: bets against a null hypothesis whose mean is at most 1 where the null holds.

A product of e-values, each valid given the past, is a non-negative supermartingale. By Ville's inequality it ever
reaches 1/α with probability at most α, whenever and however often one looks (Ramdas, Grünwald, Vovk, Shafer 2023,
"Game-theoretic statistics and safe anytime-valid inference"). Everything here is in natural logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The share of the capital that is kept for later steps.
_RESERVE: Final = 0.25


def log_threshold(alpha: float) -> float:
    """Return log(1/α): an e-process that reaches it rejects its null at level α."""
    return -math.log(alpha)


def log_symmetry(x: float, bet: float) -> float:
    """Return log(1 + tanh(bet·x)), an e-value against "x is symmetric about 0, or stochastically below such".

    tanh is odd and increasing, so its mean is at most 0 under the null, for any ``bet`` >= 0 that is chosen before x is
    seen. For x ~ N(μ, v) and bet = μ/v it is the likelihood ratio to the symmetrised alternative, and grows fastest
    (Vovk & Wang 2024, "Nonparametric e-tests of symmetry"). One x can at most double the capital.
    """
    scaled = -2.0 * bet * x
    if scaled > 700.0:  # exp would overflow; log(2) - log(1 + exp(s)) is log(2) - s there
        return math.log(2.0) - scaled
    return math.log(2.0) - math.log1p(math.exp(scaled))


def log_bounded_mean(x: float, bet: float) -> float:
    """Return log(1 + bet·x), an e-value against "the mean of x is at most 0", for x >= -1/bet.

    Source: Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting".

    Raises:
        ValueError: the bet can lose more than there is.
    """
    if 1.0 + bet * x <= 0.0:
        raise ValueError(
            f"bet: expected less than {-1.0 / x:g}, found {bet:g}; a bet must not lose all of the capital."
        )
    return math.log1p(bet * x)


def share_of_events(weight: float, ratio: float) -> float:
    """Return the share of events from an arm with a share ``weight`` of the units, whose rate is ``ratio`` times."""
    return ratio * weight / (ratio * weight + 1.0 - weight)


def log_mixture(logs: Sequence[float]) -> float:
    """Return the logarithm of the mean of e-values given by their logarithms; a mean of e-values is one."""
    top = max(logs)
    return top + math.log(math.fsum(math.exp(value - top) for value in logs) / len(logs))


@dataclass
class Capital:
    """An e-process carried through the steps of a rollout, ``log_value``, that can still speak up late.

    Three quarters of a capital of 1 are bet from the first step on. A canary that is fine under little load loses them
    nearly all, and could then grow bad under more load for long without being found. So each later step begins an
    account of its own with half of what is left of the reserve; every bet is made with every account. The sum of all
    is a non-negative supermartingale under the null as each account is.
    """

    log_value: float = 0.0
    _accounts: list[float] = field(default_factory=lambda: [math.log1p(-_RESERVE)])
    _reserve: float = math.log(_RESERVE)
    _has_bet: bool = False

    def multiply(self, log_e_value: float) -> None:
        """Make a bet that multiplies every account by an e-value, given as its logarithm."""
        self._accounts = [account + log_e_value for account in self._accounts]
        self._has_bet = True
        logs = [*self._accounts, self._reserve]
        self.log_value = log_mixture(logs) + math.log(len(logs))

    def begin_step(self) -> None:
        """Open an account for a new step, unless nothing was bet since the last one was."""
        if self._has_bet:
            self._reserve -= math.log(2.0)
            self._accounts.append(self._reserve)
            self._has_bet = False

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON."""
        return {
            "log_value": self.log_value,
            "accounts": list(self._accounts),
            "reserve": self._reserve,
            "has_bet": self._has_bet,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Capital:
        """Read what :meth:`to_json` wrote."""
        return cls(data["log_value"], list(data["accounts"]), data["reserve"], data["has_bet"])
