"""What people prefer among candidates, as the input of a generation: it enters fitness, and the draw of parents.

``generations/0003/inputs/ratings.json`` holds a ``weight`` w in [0, 1] and ``preferences``, a number p in [-1, 1] by
candidate. It is published from outside while the generation is open, and joined when that closes: ``result.json`` names
what was joined by its digest, so that every decision that rests on it can be made again. The fitness score of a rated
candidate is multiplied by 1 + w·p. What trials brought back, the fronts, the hypervolume and what surrogates learn from
stay as they are.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from evodiff.engine.candidate import finite_values
from evodiff.engine.layout import input_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evodiff.engine.ledger import Ledger

RATINGS: Final = "ratings.json"
PRODUCTION: Final = "production.json"
# What a generation joins when it closes; the engine itself reads the first alone.
JOINED: Final = (PRODUCTION, RATINGS)


@dataclass(frozen=True)
class Ratings:
    """``preferences`` in [-1, 1] by candidate, ``weight`` in [0, 1]; who is not in it is neither liked nor disliked.

    Raises:
        ValueError: a number is out of range.
    """

    weight: float = 0.0
    preferences: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"a weight in [0, 1] was expected, found {self.weight}")
        wrong = next((item for item in self.preferences.items() if not -1 <= item[1] <= 1), None)
        if wrong is not None:
            raise ValueError(f"a preference in [-1, 1] was expected, found {wrong[1]} for {wrong[0]}")

    @classmethod
    def from_json(cls, data: Any) -> Ratings:
        """Read the part of ``ratings.json`` that steers.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: the data are not such.
        """
        weight = finite_values({"weight": data["weight"]}, "ratings")["weight"]
        return cls(weight, finite_values(data["preferences"], "preferences"))

    def factor(self, candidate: str) -> float:
        """Return what the fitness of a candidate is multiplied by, in [0, 2]."""
        return 1.0 + self.weight * self.preferences.get(candidate, 0.0)

    def fitness(self, candidate: str, score: float | None) -> float | None:
        """Return the fitness score of a candidate as people would have it, at most 1."""
        return None if score is None else min(1.0, score * self.factor(candidate))

    def draw_weights(self, candidates: Sequence[str]) -> NDArray[np.float64] | None:
        """Return an (n,) array of how likely candidates are to be drawn, relative to each other.

        None where nobody prefers one to another.
        """
        if not self.weight or not any(candidate in self.preferences for candidate in candidates):
            return None
        return np.array([self.factor(candidate) for candidate in candidates])


UNRATED: Final = Ratings()


@dataclass(frozen=True)
class Joined:
    """What a generation took from outside: its ratings, and the SHA-256 of every file that was joined, by name."""

    ratings: Ratings = UNRATED
    digests: Mapping[str, str] = field(default_factory=dict)


def read_joined(ledger: Ledger, generation: int, named: Mapping[str, str] | None = None) -> Joined:
    """Return what a generation joins: the files that there are or, where it is closed, those that its result ``named``.

    Raises:
        LedgerError: a file is damaged, or is not the one that the result names.
    """
    contents = {
        name: content
        for name in (JOINED if named is None else sorted(named))
        if (content := ledger.read(input_name(generation, name))) is not None
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    wrong = next((name for name, digest in (named or {}).items() if digests.get(name) != digest), None)
    if named is not None and wrong is not None:
        raise ledger.damaged(
            input_name(generation, wrong),
            f"digest {named[wrong]}, which the generation's result names",
            str(digests.get(wrong, "no file")),
            "Restore it from a copy: later plans rest on it.",
        )
    if RATINGS not in contents:
        return Joined(digests=digests)
    try:
        return Joined(Ratings.from_json(json.loads(contents[RATINGS])), digests)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ledger.damaged(
            input_name(generation, RATINGS),
            "a weight and preferences by candidate",
            f"{type(error).__name__}: {error}",
            "Move it away, and the generation closes without it.",
        ) from error


def joined_ratings(ledger: Ledger, generation: int) -> Ratings:
    """Return the ratings that a closed generation joined; nobody is rated in one that is open.

    Raises:
        LedgerError: they are damaged.
    """
    result = ledger.result(generation) if generation >= 0 else None
    return UNRATED if result is None else read_joined(ledger, generation, result.get("inputs") or {}).ratings
