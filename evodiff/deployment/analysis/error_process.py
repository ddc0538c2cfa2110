"""Does the canary fail more of its clients than the stable version? An e-process on "whose error is this"."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from evodiff.deployment.analysis.evalues import Capital, log_mixture, share_of_events
from evodiff.deployment.observation import Arm

if TYPE_CHECKING:
    from collections.abc import Mapping

# Errors so many times as frequent as the stable version's are what is looked for; the capital is spread over both.
_RATIOS: Final = (2.0, 8.0)
# Clients that are followed, the first that come; whom one follows does not depend on how they fare.
_MOST_CLIENTS: Final = 10_000


@dataclass
class ErrorProcess:
    """An e-process, ``log_value``, against "a client's errors come at most (1 + margin) times as fast on the canary".

    1. The unit is a client: only its first error in the rollout's soft steps counts. Chance put each client into its
       arm, by its key alone, so that, where the version makes no difference to who fails when, the first error of any
       client is the canary's with probability w, the canary's weight: however unequal clients are in traffic and in
       proneness to errors, and however errors cluster in time. With errors (1 + margin) times as fast it is
       (1 + margin)·w / ((1 + margin)·w + 1 - w).
    2. Where the stable version fails more, its clients are used up faster, and those left are the canary's more often
       than w. So w is replaced by the canary's share of the clients seen in this step and not failed yet, where that
       is larger: the risk set of the safe logrank test (ter Schure, Pérez-Ortiz, Ly, Grünwald 2024, "The anytime-valid
       logrank test").
    3. Errors of one block of time may have one cause. Each has the e-value p₁/p₀ (canary) or (1 - p₁)/(1 - p₀), and the
       block gets their mean, which is one whatever their dependence. Blocks are multiplied.
    4. The alternatives, twice and eight times as fast, are mixed.
    """

    margin: float
    block_seconds: float
    counted: dict[Arm, int] = field(default_factory=lambda: {Arm.STABLE: 0, Arm.CANARY: 0})
    log_value: float = 0.0
    _capitals: list[Capital] = field(default_factory=lambda: [Capital() for _ in _RATIOS])
    _began: float | None = None
    _block: list[float] = field(default_factory=lambda: [0.0] * len(_RATIOS))
    _in_block: int = 0
    _failed: dict[str, None] = field(default_factory=dict)
    _at_risk: dict[Arm, dict[str, None]] = field(default_factory=lambda: {Arm.STABLE: {}, Arm.CANARY: {}})

    def observe(self, arm: Arm, client: str, failed: bool, weight: float, at: float) -> None:
        """Take in a request of a client that was assigned under ``weight``, strictly between 0 and 1.

        The caller advances to ``at`` before.
        """
        if client in self._failed:
            return
        at_risk = self._at_risk[arm]
        if client not in at_risk:
            if len(self._failed) + sum(map(len, self._at_risk.values())) >= _MOST_CLIENTS:
                return
            at_risk[client] = None
        if failed:
            self._count(arm, client, weight, at)

    def advance(self, now: float) -> bool:
        """Close the open block if its time is over, and say whether it was."""
        over = self._began is not None and now - self._began >= self.block_seconds
        if over:
            self.close()
        return over

    def close(self) -> None:
        """Close the open block now."""
        if self._in_block:
            for capital, total in zip(self._capitals, self._block, strict=True):
                capital.multiply(math.log(total / self._in_block))
            self.log_value = log_mixture([capital.log_value for capital in self._capitals])
        self._began, self._in_block, self._block = None, 0, [0.0] * len(_RATIOS)

    def begin_step(self) -> None:
        """Close the block and forget who is at risk: clients change arms with the weights."""
        self.close()
        for capital in self._capitals:
            capital.begin_step()
        self._at_risk = {Arm.STABLE: {}, Arm.CANARY: {}}

    def _count(self, arm: Arm, client: str, weight: float, at: float) -> None:
        canary, stable = len(self._at_risk[Arm.CANARY]), len(self._at_risk[Arm.STABLE])
        share = max(weight, canary / (canary + stable))
        for index, ratio in enumerate(_RATIOS):
            self._block[index] += _likelihood_ratio(arm, share, 1.0 + self.margin, (1.0 + self.margin) * ratio)
        self._in_block += 1
        self._began = at if self._began is None else self._began
        self.counted[arm] += 1
        self._failed[client] = None
        del self._at_risk[arm][client]

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON; margin and block length are the caller's."""
        return {
            "counted": {str(arm): count for arm, count in self.counted.items()},
            "log_value": self.log_value,
            "capitals": [capital.to_json() for capital in self._capitals],
            "began": self._began,
            "block": list(self._block),
            "in_block": self._in_block,
            "failed": list(self._failed),
            "at_risk": {str(arm): list(clients) for arm, clients in self._at_risk.items()},
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from what :meth:`to_json` wrote."""
        self.counted = {Arm(arm): count for arm, count in data["counted"].items()}
        self.log_value, self._block = data["log_value"], list(data["block"])
        self._capitals = [Capital.from_json(capital) for capital in data["capitals"]]
        self._began, self._in_block = data["began"], data["in_block"]
        self._failed = dict.fromkeys(data["failed"])
        self._at_risk = {Arm(arm): dict.fromkeys(clients) for arm, clients in data["at_risk"].items()}


def _likelihood_ratio(arm: Arm, share: float, null: float, alternative: float) -> float:
    """Return the e-value of one error, given the canary's share of those at risk and the ratios of the rates."""
    if share >= 1.0:  # nobody else is left, whose error it might have been
        return 1.0
    p0, p1 = share_of_events(share, null), share_of_events(share, alternative)
    return p1 / p0 if arm is Arm.CANARY else (1.0 - p1) / (1.0 - p0)
