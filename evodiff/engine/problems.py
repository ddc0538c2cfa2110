"""Test problems whose true front is known: ZDT (Zitzler et al. 2000) and DTLZ (Deb et al. 2002), genes in steps.

Each gene takes ``LEVELS`` values evenly spread over [0, 1], both ends and the middle among them, so that the optima of
the continuous problems can be reached and the true front is finite.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import moocore
import numpy as np

from evodiff.errors import InvalidGenome

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVELS: Final = 21
Genome = tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """A search space with objectives in closed form.

    ``function`` maps genes in [0, 1], (n,), to ``objectives`` values, minimised; on the true front all genes but the
    first ``objectives - 1`` are ``rest``; ``reference`` is the reference point of the hypervolume.
    """

    name: str
    genes: int
    objectives: int
    function: Callable[[Floats], Floats]
    rest: float
    reference: tuple[float, ...]

    operators = ("change_gene", "step_gene")

    def values(self, genome: Genome) -> dict[str, float]:
        """Return the objectives, ``f1`` to ``fm``."""
        found = self.function(np.array(genome) / (LEVELS - 1))
        return {f"f{index + 1}": float(value) for index, value in enumerate(found)}

    def front(self) -> Floats:
        """Return the true front, (k, m)."""
        middle = round(self.rest * (LEVELS - 1))
        free = itertools.product(range(LEVELS), repeat=self.objectives - 1)
        genomes = [genes + (middle,) * (self.genes - len(genes)) for genes in free]
        points = np.array([list(self.values(genome).values()) for genome in genomes])
        nondominated: Floats = points[moocore.is_nondominated(points)]
        return np.unique(nondominated.round(12), axis=0)

    def sample(self, rng: np.random.Generator) -> Genome:
        """Return a random genome."""
        return tuple(int(level) for level in rng.integers(LEVELS, size=self.genes))

    def mutate(self, genome: Genome, rng: np.random.Generator, operator: str | None = None) -> Genome:
        """Return a genome with one gene drawn anew, or one step up or down."""
        child, place = list(genome), int(rng.integers(self.genes))
        if (operator or self.operators[int(rng.integers(2))]) == "change_gene":
            child[place] = int(rng.integers(LEVELS))
        else:
            child[place] = min(LEVELS - 1, max(0, child[place] + (1 if rng.random() < 0.5 else -1)))
        return tuple(child)

    def crossover(self, first: Genome, second: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Return two children, each gene from either parent."""
        kept = rng.random(self.genes) < 0.5
        pairs = [(a, b) if keep else (b, a) for a, b, keep in zip(first, second, kept, strict=True)]
        return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)

    def validate(self, genome: Genome) -> None:
        """Check a genome from outside.

        Raises:
            InvalidGenome: it has another number of genes, or a level that there is not.
        """
        if len(genome) != self.genes or not all(level in range(LEVELS) for level in genome):
            raise InvalidGenome(
                "No genome of this problem",
                where=self.name,
                expected=f"{self.genes} levels below {LEVELS}",
                found=genome,
                remedy="Take one that sample() returns.",
            )

    def canonical(self, genome: Genome) -> str:
        """Return the levels."""
        return " ".join(map(str, genome))

    def features(self, genome: Genome) -> Floats:
        """Return the genes, (n,)."""
        return np.array(genome, dtype=np.float64) / (LEVELS - 1)

    def costs(self, genome: Genome) -> dict[str, float]:
        """Return nothing: every objective has to be asked."""
        return {}

    def distance(self, first: Genome, second: Genome) -> float:
        """Return the share of genes that differ."""
        return sum(a != b for a, b in zip(first, second, strict=True)) / self.genes

    def to_json(self, genome: Genome) -> dict[str, Any]:
        """Return plain JSON."""
        return {"levels": list(genome)}

    def from_json(self, data: Any) -> Genome:
        """Read what :meth:`to_json` wrote."""
        return tuple(data["levels"])


def _zdt(shape: Callable[[float, float], float]) -> Callable[[Floats], Floats]:
    def function(x: Floats) -> Floats:
        g = 1 + 9 * float(x[1:].mean())
        return np.array([x[0], g * shape(float(x[0]), g)])

    return function


def _dtlz1(x: Floats) -> Floats:
    free, rest = x[:2], x[2:]
    waves = (rest - 0.5) ** 2 - np.cos(20 * math.pi * (rest - 0.5))
    g = 100 * (len(rest) + float(waves.sum()))
    a, b = free
    return 0.5 * (1 + g) * np.array([a * b, a * (1 - b), 1 - a])


def _dtlz2(x: Floats) -> Floats:
    free, rest = x[:2], x[2:]
    g = float(((rest - 0.5) ** 2).sum())
    a, b = free * math.pi / 2
    return (1 + g) * np.array([math.cos(a) * math.cos(b), math.cos(a) * math.sin(b), math.sin(a)])


PROBLEMS: Final = (
    Problem("ZDT1", 10, 2, _zdt(lambda f, g: 1 - math.sqrt(f / g)), 0.0, (1.1, 4.0)),
    Problem("ZDT2", 10, 2, _zdt(lambda f, g: 1 - (f / g) ** 2), 0.0, (1.1, 4.0)),
    Problem(
        "ZDT3", 10, 2, _zdt(lambda f, g: 1 - math.sqrt(f / g) - f / g * math.sin(10 * math.pi * f)), 0.0, (1.1, 4.0)
    ),
    Problem("DTLZ1", 6, 3, _dtlz1, 0.5, (10.0, 10.0, 10.0)),
    Problem("DTLZ2", 8, 3, _dtlz2, 0.5, (1.5, 1.5, 1.5)),
)
