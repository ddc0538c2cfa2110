"""Variation: from parents to proposals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from evodiff.engine.credit import operator_shares
from evodiff.engine.options import VariationOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

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


class Mutator(Generic[G]):
    """Mutates genomes for one generation, as :class:`VariationOptions` say; by any operator where they say nothing.

    Args:
        history: closed generations.
        space: the space of the generation to plan.
        rng: source of all randomness.
        options: how an operator is chosen, and how often it reads what is known of the parent.
    """

    def __init__(
        self,
        history: History[G],
        space: SearchSpace[G],
        rng: np.random.Generator,
        options: VariationOptions | None = None,
    ) -> None:
        options = options or VariationOptions()
        self._history = history
        self._space = space
        self._rng = rng
        self._shares = operator_shares(history.results, space.operators, options.operator_floor)
        self._mutate_informed: Callable[..., G] | None = getattr(space, "mutate_informed", None)
        self._informed = options.informed if self._mutate_informed is not None else 0.0

    def __call__(self, genome: G, parents: Sequence[str]) -> tuple[G, str | None]:
        """Return a mutant and the operator that made it: the first of those drawn, in turn, that changes the genome.

        The first of ``parents`` is the one whose evaluation an informed mutation reads. Returns the genome itself and
        None where no operator changes it.
        """
        before = self._space.canonical(genome)
        details = self._details(parents)
        for operator in self._drawn():
            if details is None or self._mutate_informed is None:
                child = self._space.mutate(genome, self._rng, operator)
            else:
                child = self._mutate_informed(genome, self._rng, operator, details)
            if self._space.canonical(child) != before:
                return child, operator
        return genome, None

    def _details(self, parents: Sequence[str]) -> Mapping[str, Any] | None:
        """Return what the evaluation of the first parent found out; None where the mutation is not to be informed."""
        if not self._informed or not parents or not self._history.asked(parents[0]):
            return None
        return self._history.standing(parents[0]).details if self._rng.random() < self._informed else None

    def _drawn(self) -> Iterator[str]:
        """Yield every operator, in random order; by their shares where they have any."""
        if self._shares is None:
            operators = list(self._space.operators)
            yield from (operators[index] for index in self._rng.permutation(len(operators)))
            return
        left = dict(self._shares)
        while left:
            operator = _draw(left, self._rng)
            del left[operator]
            yield operator


def _draw(shares: dict[str, float], rng: np.random.Generator) -> str:
    """Return a name, each as likely as its share of the sum says."""
    drawn = rng.random() * sum(shares.values())
    for name, share in shares.items():
        drawn -= share
        if drawn < 0:
            return name
    return next(reversed(shares))  # rounding left something


def offspring(
    history: History[G],
    space: SearchSpace[G],
    rng: np.random.Generator,
    select: Callable[[], str],
    *,
    crossover_rate: float,
    mutation_rate: float,
    options: VariationOptions | None = None,
) -> Iterator[Proposal[G]]:
    """Yield children for ever.

    1. ``select`` names a parent; with probability ``crossover_rate`` a second one, and both children of their crossover
       go on; otherwise the parent itself goes on.
    2. Each is mutated with probability ``mutation_rate``, and always where it equals one of its parents; ``options``
       say how.
    """
    mutant = Mutator(history, space, rng, options)
    while True:
        first = select()
        if rng.random() >= crossover_rate:
            genome, operator = mutant(history.genome(first), (first,))
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
            genome, operator = mutant(child, parents)
            names = [CROSSOVER] * mixed + [operator] * (operator is not None)
            yield Proposal(genome, parents, "+".join(filter(None, names)) or None)
