"""Which mutation to try, by what the children of each have gained: probability matching with a floor (Thierens 2005).

A child gains where it survives its generation, and as much again where it is on the front; a child of two operators
gains for both. Only closed generations count, the latest most: a generation weighs ``DECAY`` of the one after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.engine.history import GenerationResult

G = TypeVar("G")

DECAY: Final = 0.8
# An operator of which little is known counts so many more trials, with the gain of all operators together.
PRIOR_TRIALS: Final = 5.0


def operator_gains(results: Sequence[GenerationResult], operators: Sequence[str]) -> dict[str, float]:
    """Return what a trial of each operator gained on average, from 0 to 1, drawn towards the mean of all."""
    tried, gained = dict.fromkeys(operators, 0.0), dict.fromkeys(operators, 0.0)
    weight = 1.0
    for result in reversed(results):
        for name in operators:
            counts = result.credit.get(name)
            if counts is not None:
                tried[name] += weight * counts["tried"]
                gained[name] += weight * (counts["survivors"] + counts["front"]) / 2
        weight *= DECAY
    trials = sum(tried.values())
    mean = sum(gained.values()) / trials if trials else 0.0
    return {
        name: (gained[name] + PRIOR_TRIALS * mean) / (tried[name] + PRIOR_TRIALS) for name in dict.fromkeys(operators)
    }


def operator_shares(
    results: Sequence[GenerationResult], operators: Sequence[str], floor: float
) -> dict[str, float] | None:
    """Return how likely each operator is to be tried first; None for all alike, as before anything was gained.

    Each has ``floor`` of the uniform probability, and the rest in proportion to what its children gained.
    """
    gains = operator_gains(results, operators)
    total = sum(gains.values())
    if floor >= 1 or total <= 0:
        return None
    return {name: floor / len(gains) + (1 - floor) * gain / total for name, gain in gains.items()}
