"""How different the candidates of a population are."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

G = TypeVar("G")


def diversity_score(genomes: Sequence[G], distance: Callable[[G, G], float]) -> float:
    """Return the mean distance over all pairs, in [0, 1] as the distance is; 0 for fewer than two genomes. O(n^2)."""
    distances = [distance(first, second) for first, second in combinations(genomes, 2)]
    return math.fsum(distances) / len(distances) if distances else 0.0
