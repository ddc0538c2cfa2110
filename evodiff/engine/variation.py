"""Variation: from parents to proposals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np

    from evodiff.engine.candidate import TrialProtocol
    from evodiff.engine.history import History
    from evodiff.engine.space import SearchSpace

G = TypeVar("G")

CROSSOVER = "crossover"
SAMPLE = "sample"
INITIAL = "initial"
WARM_START = "warm_start"


@dataclass(frozen=True)
class Proposal(Generic[G]):
    """A trial that a strategy would like to see; the plan drops those that were asked before.

    ``operator`` names the mutation, ``crossover``, both as ``crossover+MUTATION``, or where a genome without parents
    came from. ``inherits_from`` are the trials whose weights a child starts with; where it is empty, a run that
    inherits fills it in. ``predicted`` is what a surrogate expects of the child, by objective.
    """

    genome: G
    parents: tuple[str, ...] = ()
    operator: str | None = None
    rung: int = 0
    replicate: int = 0
    protocol: TrialProtocol = "search"
    inherits_from: tuple[str, ...] = ()
    predicted: Mapping[str, float] | None = None


def samples(space: SearchSpace[G], rng: np.random.Generator) -> Iterator[Proposal[G]]:
    """Yield random genomes for ever."""
    while True:
        yield Proposal(space.sample(rng), operator=SAMPLE)


def mutant(space: SearchSpace[G], genome: G, rng: np.random.Generator) -> tuple[G, str | None]:
    """Return a mutant and the operator that made it: the first, in random order, that changes the genome.

    Returns the genome itself and None where no operator does.
    """
    before = space.canonical(genome)
    operators = list(space.operators)
    for index in rng.permutation(len(operators)):
        child = space.mutate(genome, rng, operators[index])
        if space.canonical(child) != before:
            return child, operators[index]
    return genome, None


def offspring(
    history: History[G],
    space: SearchSpace[G],
    rng: np.random.Generator,
    select: Callable[[], str],
    *,
    crossover_rate: float,
    mutation_rate: float,
) -> Iterator[Proposal[G]]:
    """Yield children for ever.

    1. ``select`` names a parent; with probability ``crossover_rate`` a second one, and both children of their crossover
       go on; otherwise the parent itself goes on.
    2. Each is mutated with probability ``mutation_rate``, and always where it equals one of its parents.
    """
    while True:
        first = select()
        if rng.random() >= crossover_rate:
            genome, operator = mutant(space, history.genome(first), rng)
            yield Proposal(genome, (first,), operator)
            continue
        second = select()
        parents = (first,) if first == second else (first, second)
        known = {space.canonical(history.genome(parent)) for parent in parents}
        for child in space.crossover(history.genome(first), history.genome(second), rng):
            mixed = space.canonical(child) not in known
            if mixed and rng.random() >= mutation_rate:
                yield Proposal(child, parents, CROSSOVER)
                continue
            genome, operator = mutant(space, child, rng)
            names = [CROSSOVER] * mixed + [operator] * (operator is not None)
            yield Proposal(genome, parents, "+".join(filter(None, names)) or None)
