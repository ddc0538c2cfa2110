"""What a search space is: a plain class with these methods, no base class and no registration.

Optional, found by ``getattr``; absent means that the feature is off:

``describe() -> dict``
    The space's own settings, frozen with the run.
``initial(rng) -> list[G]``
    Known good starts, asked first in generation 0 (after a warm start, before samples).
``within(generation) -> SearchSpace``
    The space as a generation may use it: a cap on complexity.
``mutate_informed(genome, rng, operator, details) -> G``
    A mutation that reads the details of the parent's evaluation, where the strategy's ``informed`` asks for it; with
    none that it knows, as with an empty mapping, a plain one. ``genome`` may be a crossover of that parent.
``scores(genome) -> dict[str, float]``
    Zero-cost scores: what is known of a genome at a cost between that of its features and that of an evaluation. The
    same names for every genome; asked for few of them, and once a process.
``features_many(genomes) -> (n, d) array``
    :meth:`SearchSpace.features` for many genomes at once.
``feature_weights() -> (d,) array``
    How much each feature counts in how alike genomes are, 1 where there is no such method: less for those of which
    several say one thing.

:func:`evodiff.engine.testing.check_space` is the conformance suite for such a class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

G = TypeVar("G")


class SearchSpace(Protocol[G]):
    """Genomes, and what can be done to them and known of them without training."""

    @property
    def name(self) -> str:
        """Name that the run freezes."""
        ...

    @property
    def operators(self) -> Sequence[str]:
        """Names of the mutations, for credit."""
        ...

    def sample(self, rng: np.random.Generator) -> G:
        """Return a random valid genome."""
        ...

    def mutate(self, genome: G, rng: np.random.Generator, operator: str | None = None) -> G:
        """Return a valid genome near this one; the genome itself where the named operator does not apply."""
        ...

    def crossover(self, first: G, second: G, rng: np.random.Generator) -> tuple[G, G]:
        """Return two valid genomes that mix two others."""
        ...

    def validate(self, genome: G) -> None:
        """Check a genome that came from outside.

        Raises:
            InvalidGenome: a ValueError that says what is wrong, where, what was expected and found, and the remedy.
        """
        ...

    def canonical(self, genome: G) -> str:
        """Return a string; equal strings mean the same candidate."""
        ...

    def features(self, genome: G) -> np.ndarray:
        """Return a (d,) float64 array that describes the genome to a surrogate, cheaply; finite, d always the same."""
        ...

    def costs(self, genome: G) -> dict[str, float]:
        """Return the objectives that are known without training, the same of every genome; may be empty."""
        ...

    def distance(self, first: G, second: G) -> float:
        """Return how far two genomes are apart, in [0, 1]."""
        ...

    def to_json(self, genome: G) -> dict[str, Any]:
        """Return the genome as plain JSON."""
        ...

    def from_json(self, data: Any) -> G:
        """Read what :meth:`to_json` wrote."""
        ...


def space_within(space: SearchSpace[G], generation: int) -> SearchSpace[G]:
    """Return the space as ``generation`` may use it: ``space.within(generation)`` where there is such a method."""
    within = getattr(space, "within", None)
    limited: SearchSpace[G] = space if within is None else within(generation)
    return limited
