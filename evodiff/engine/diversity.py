"""How different the candidates of a population are, and a floor under it.

The floor is off by default: in the ablation (``benchmarks/operator_ablation.py``) it was never ahead of none, and a
high one cost NSGA-II hypervolume on four searches of six, and the surrogate on the one that it was tried on.
"""

from __future__ import annotations

import math
from itertools import combinations, islice
from typing import TYPE_CHECKING, Final, TypeVar

from evodiff.engine.variation import samples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from evodiff.engine.history import History
    from evodiff.engine.space import SearchSpace
    from evodiff.engine.variation import Proposal

G = TypeVar("G")

# What a population that has become too alike gets: this share of the next generation, each the farthest of so many.
REFRESHED: Final = 0.25
LOOKED_AT: Final = 5


def diversity_score(genomes: Sequence[G], distance: Callable[[G, G], float]) -> float:
    """Return the mean distance over all pairs, in [0, 1] as the distance is; 0 for fewer than two genomes. O(n^2)."""
    distances = [distance(first, second) for first, second in combinations(genomes, 2)]
    return math.fsum(distances) / len(distances) if distances else 0.0


def refreshment(
    history: History[G], space: SearchSpace[G], rng: np.random.Generator, n: int, *, floor: float
) -> list[Proposal[G]]:
    """Return what a generation of ``n`` begins with where the survivors have become too alike: samples far from them.

    Too alike is a mean distance below ``floor`` times that of the survivors of generation 0; otherwise, and for a floor
    of 0, nothing is returned and nothing drawn.
    """
    if not floor or not history.results:
        return []
    first, last = (history.results[index].metrics.diversity_score for index in (0, -1))
    if last >= floor * first:
        return []
    survivors = [history.genome(candidate) for candidate in history.survivors]
    count = math.ceil(REFRESHED * n)
    return _farthest(list(islice(samples(space, rng), LOOKED_AT * count)), survivors, count, space.distance)


def _farthest(
    proposals: list[Proposal[G]], genomes: Sequence[G], count: int, distance: Callable[[G, G], float]
) -> list[Proposal[G]]:
    """Return ``count`` proposals, each as far as can be from the nearest of ``genomes`` and of those before it."""
    nearest = [min((distance(item.genome, other) for other in genomes), default=1.0) for item in proposals]
    chosen = []
    for _ in range(min(count, len(proposals))):
        index = max(range(len(proposals)), key=lambda i: round(nearest[i], 9))
        chosen.append(proposals[index])
        nearest = [
            min(near, distance(item.genome, proposals[index].genome))
            for item, near in zip(proposals, nearest, strict=True)
        ]
        nearest[index] = -1.0
    return chosen
