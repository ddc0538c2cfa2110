"""Is the canary's computation slower than the stable version's by more than a margin? Two e-processes over blocks."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from evodiff.deployment.analysis.evalues import Capital, log_symmetry
from evodiff.deployment.observation import Arm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A block that has no pair to compare is given this many times its length to find one.
_LONGEST: Final = 6
# A block holds no more than this of an arm and kind.
_MOST: Final = 1000
# Requests of one batch end together: equal seconds are looked for among the last of their arm and kind.
_MOST_IN_A_BATCH: Final = 64
# What is held of the spread before anything is seen, and how many residuals or blocks that is worth.
_PRIOR_LOG_SD: Final = 0.3
_PRIOR_RESIDUALS: Final = 4.0
_PRIOR_BLOCKS: Final = 5.0


class BatchKind(NamedTuple):
    """What makes computations comparable: images in the executed batch, sampling steps, guidance."""

    batch: int
    steps: int
    guided: bool


Samples = dict[BatchKind, dict[Arm, list[float]]]


def rank_score(canary: Sequence[float], stable: Sequence[float], shift: float) -> float:
    """Return U/(nm) - 1/2 of Mann and Whitney, from -1/2 to 1/2, for canary - shift against stable; ties count half.

    Positive where the canary's values, less the shift, tend to be the larger ones. O((n + m) log m).
    """
    ordered = sorted(stable)
    above = sum(bisect_left(ordered, value - shift) + bisect_right(ordered, value - shift) for value in canary)
    return above / (2 * len(canary) * len(ordered)) - 0.5


def rank_information(canary: int, stable: int) -> float:
    """Return 1 / variance of :func:`rank_score` where all orders of the values are as likely."""
    return 12.0 * canary * stable / (canary + stable + 1)


def expected_score(log_ratio: float, log_sd: float) -> float:
    """Return the mean of :func:`rank_score` for log-normal times with that log-ratio of medians."""
    return 0.5 * math.erf(log_ratio / (2.0 * log_sd))


@dataclass
class LatencyProcess:
    """Two e-processes on the canary's compute seconds: ``slower`` and ``log_within``, a logarithm.

    ``slower`` bets against "at most (1 + margin) times the stable version's", through all steps of a rollout; where it
    is large the canary is worse. ``log_within`` bets against "at least (1 + margin) times" at one step; where it is
    large the canary is shown to be under the margin at that step's load.

    1. Time is cut into blocks, within which both arms share the machine's load and the weights; a block is closed by
       the clock and by counts, never by values.
    2. Within a block, the canary's log-seconds less log(1 + margin) are ranked against the stable ones of the same
       batch shape, steps and guidance; the scores are summed over these kinds with van Elteren's (1960) weights and
       divided by their standard deviation. Requests of one executed batch share their seconds and count once.
    3. At the edge of the null both samples have one law in a block, so that the sum is symmetric about 0: of ranks in
       random order exactly, with any law of the times and any numbers in the arms; and under dependence inside the
       block as long as that treats the arms alike. Away from the edge it is stochastically smaller. So 1 +
       tanh(bet·sum) is an e-value (:func:`~evodiff.deployment.analysis.evalues.log_symmetry`), and the bet may be any
       function of what was seen before: the gain expected at the alternative over the spread of earlier sums.
    4. Blocks are multiplied. Speeds that one worker keeps by chance for much longer than a block are, to this test, a
       property of its version.
    """

    margin: float
    alternative: float
    block_seconds: float
    slower: Capital = field(default_factory=Capital)
    log_within: float = 0.0
    blocks: int = 0
    compared: dict[Arm, int] = field(default_factory=lambda: {Arm.STABLE: 0, Arm.CANARY: 0})
    _began: float | None = None
    _samples: Samples = field(default_factory=dict)
    _squares: float = 0.0
    _freedom: float = 0.0
    _mean: float = 0.0
    _scatter: float = 0.0

    def observe(self, arm: Arm, kind: BatchKind, seconds: float, at: float) -> None:
        """Take in a request that was computed in a batch of that kind, in ``seconds`` > 0.

        The caller advances to ``at`` before.
        """
        if self._began is None:
            self._began = at
        arms = self._samples.get(kind)
        if arms is None:
            arms = self._samples[kind] = {Arm.STABLE: [], Arm.CANARY: []}
        values = arms[arm]
        value = math.log(seconds)
        if len(values) < _MOST and value not in values[-_MOST_IN_A_BATCH:]:
            values.append(value)

    def advance(self, now: float) -> bool:
        """Close the open block if its time is over and it has something to compare, or is far over; say if it was."""
        if self._began is None or now - self._began < self.block_seconds:
            return False
        over = bool(self._comparable()) or now - self._began >= _LONGEST * self.block_seconds
        if over:
            self.close()
        return over

    def begin_step(self) -> None:
        """Close the open block, since the weights change, and show anew that latency is within the margin."""
        self.close()
        self.slower.begin_step()
        self.log_within = 0.0

    def close(self) -> None:
        """Close the open block now."""
        total = information = 0.0
        for arms in self._comparable():
            canary, stable = arms[Arm.CANARY], arms[Arm.STABLE]
            weight = rank_information(len(canary), len(stable))
            total += weight * rank_score(canary, stable, math.log1p(self.margin))
            information += weight
            self.compared[Arm.CANARY] += len(canary)
            self.compared[Arm.STABLE] += len(stable)
        if information:
            self._bet(total / math.sqrt(information), math.sqrt(information))
        self._learn_spread()
        self._samples = {}
        self._began = None

    def _comparable(self) -> list[dict[Arm, list[float]]]:
        return [arms for arms in self._samples.values() if arms[Arm.CANARY] and arms[Arm.STABLE]]

    def _bet(self, score: float, root_information: float) -> None:
        """Multiply in a block's standardised score; all that sizes the bets but the counts is from earlier blocks."""
        log_sd = math.sqrt(
            (_PRIOR_RESIDUALS * _PRIOR_LOG_SD**2 + self._squares) / (_PRIOR_RESIDUALS + self._freedom),
        )
        spread = max(1.0, (_PRIOR_BLOCKS + self._scatter) / (_PRIOR_BLOCKS + max(0, self.blocks - 1)))
        scale = root_information / spread
        slower = expected_score(math.log((1.0 + self.alternative) / (1.0 + self.margin)), log_sd)
        within = expected_score(math.log1p(self.margin), log_sd)
        self.slower.multiply(log_symmetry(score, slower * scale))
        self.log_within += log_symmetry(-score, within * scale)
        self.blocks += 1
        before = score - self._mean
        self._mean += before / self.blocks
        self._scatter += before * (score - self._mean)

    def _learn_spread(self) -> None:
        for arms in self._samples.values():
            for values in arms.values():
                if len(values) > 1:
                    mean = math.fsum(values) / len(values)
                    self._squares += math.fsum((value - mean) ** 2 for value in values)
                    self._freedom += len(values) - 1

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON; margins and the block's length are the caller's."""
        return {
            "slower": self.slower.to_json(),
            "log_within": self.log_within,
            "blocks": self.blocks,
            "compared": {str(arm): count for arm, count in self.compared.items()},
            "began": self._began,
            "samples": [
                [*kind, {str(arm): list(values) for arm, values in arms.items()}]
                for kind, arms in self._samples.items()
            ],
            "squares": self._squares,
            "freedom": self._freedom,
            "mean": self._mean,
            "scatter": self._scatter,
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from what :meth:`to_json` wrote."""
        self.slower = Capital.from_json(data["slower"])
        self.log_within, self.blocks = data["log_within"], data["blocks"]
        self.compared = {Arm(arm): count for arm, count in data["compared"].items()}
        self._began = data["began"]
        self._samples = {
            BatchKind(batch, steps, guided): {Arm(arm): list(values) for arm, values in arms.items()}
            for batch, steps, guided, arms in data["samples"]
        }
        self._squares, self._freedom = data["squares"], data["freedom"]
        self._mean, self._scatter = data["mean"], data["scatter"]
