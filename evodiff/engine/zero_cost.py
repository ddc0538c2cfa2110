"""Zero-cost scores of a space as columns beside its features: the optional ``scores`` of a search space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evodiff.engine.space import SearchSpace

    Floats = NDArray[np.float64]

G = TypeVar("G")

# How many features a score weighs as much as: among dozens of features one would hardly be heard.
WEIGHT: Final = 8


def has_scores(space: SearchSpace[Any]) -> bool:
    """Whether a space knows zero-cost scores."""
    return hasattr(space, "scores")


def scores_of(space: SearchSpace[G], genomes: Sequence[G]) -> list[Mapping[str, float]]:
    """Return the zero-cost scores of genomes of a space that has some."""
    known: Any = space
    return [known.scores(genome) for genome in genomes]


class ScoreColumns:
    """Scores as (n, d) arrays: a column for each name, ``weight`` times.

    What is missing or not finite becomes the median of what was evaluated; a name without any finite value is left out.

    Args:
        evaluated: the scores of the evaluated genomes, one or more.
        weight: how many features a score weighs as much as.
    """

    def __init__(self, evaluated: Sequence[Mapping[str, float]], weight: int = WEIGHT) -> None:
        self._weight = weight
        names = sorted({name for scores in evaluated for name in scores})
        table = _table(evaluated, names)
        finite = np.isfinite(table)
        kept = [column for column in range(len(names)) if finite[:, column].any()]
        self._names = [names[column] for column in kept]
        self._medians = np.array([np.median(table[finite[:, column], column]) for column in kept])

    def __call__(self, scores: Sequence[Mapping[str, float]]) -> Floats:
        """Return the columns of n genomes."""
        table = _table(scores, self._names)
        return np.repeat(np.where(np.isfinite(table), table, self._medians), self._weight, axis=1)


def _table(scores: Sequence[Mapping[str, float]], names: Sequence[str]) -> Floats:
    rows = [[item.get(name, np.nan) for name in names] for item in scores]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
