"""Strategies that every other one is compared with: random search, regularised evolution, plain NSGA-II.

A strategy is a small frozen object. It proposes trials for a generation and says which candidates survive one; both
depend on closed generations and the given generator alone, so that a run can be replayed. Its fields are frozen with
the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from evodiff.engine.diversity import refreshment
from evodiff.engine.experiment import check_sizes
from evodiff.engine.extrapolation import comparable_values
from evodiff.engine.options import VariationOptions, check_share, option
from evodiff.engine.selection import best_first, elitist_survivors, tournament
from evodiff.engine.variation import Proposal, offspring, samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from evodiff.engine.history import History
    from evodiff.engine.space import SearchSpace

G = TypeVar("G")


class Strategy(Protocol):
    """What to try next, and what to keep.

    Those with a true ``promotes`` leave it to :mod:`evodiff.engine.fidelity` who goes on to a higher rung; they may
    have a method ``order_promotions(history, candidates, count)``, which returns candidates of a lower rung with the
    ``count`` first that promise most, or None where it cannot tell.
    """

    @property
    def name(self) -> str:
        """Name under which runs are frozen."""
        ...

    def propose(
        self, history: History[G], space: SearchSpace[G], rng: np.random.Generator, generation: int, n: int
    ) -> Iterable[Proposal[G]]:
        """Yield proposals for ``generation``, best first; the plan takes the first ``n`` that were never asked.

        May yield for ever: the plan stops listening when too many in a row are known, and fills up with samples.
        Generation 0 is planned without a strategy (warm start, ``initial``, samples), so that all start alike.
        """
        ...

    def survivors(self, history: History[G], size: int) -> Sequence[str]:
        """Return the candidates that survive the generation that was absorbed last."""
        ...


@dataclass(frozen=True)
class RandomSearch:
    """Sample for ever."""

    name: ClassVar[str] = "random"
    promotes: ClassVar[bool] = True

    def propose(
        self, history: History[G], space: SearchSpace[G], rng: np.random.Generator, generation: int, n: int
    ) -> Iterable[Proposal[G]]:
        """Yield samples."""
        return samples(space, rng)

    def survivors(self, history: History[G], size: int) -> Sequence[str]:
        """Keep the best on record; they have no influence."""
        return keep_elite(history, size)


@dataclass(frozen=True)
class RegularisedEvolution(VariationOptions):
    """Aging evolution (Real et al. 2019), a generation at a time, on the first objective.

    The youngest ``population`` candidates are alive, whatever their values; each child is a mutant of the best among
    ``tournament_size`` of them, drawn anew. By default two generations are alive and a quarter of them is drawn; in
    generations of 50 these are 100 and 25, the numbers of the paper.

    Raises:
        SettingsError: one of the two is neither None nor an integer of at least 1.
    """

    name: ClassVar[str] = "regularised"
    promotes: ClassVar[bool] = True
    population: int | None = None
    tournament_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {"population": self.population, "tournament_size": self.tournament_size}
        check_sizes(**{name: (value, 1) for name, value in given.items() if value is not None})

    def propose(
        self, history: History[G], space: SearchSpace[G], rng: np.random.Generator, generation: int, n: int
    ) -> Iterable[Proposal[G]]:
        """Yield mutants of tournament winners."""
        alive = history.survivors
        if not alive:
            return samples(space, rng)
        ordered = [alive[i] for i in best_first(comparable_values(history, alive)[:, :1], history.violations(alive))]
        drawn, weights = self.tournament_size or max(2, self._alive(n) // 4), history.draw_weights(ordered)
        return offspring(
            history,
            space,
            rng,
            lambda: ordered[tournament(len(ordered), drawn, rng, weights)],
            crossover_rate=0.0,
            mutation_rate=1.0,
            options=self,
        )

    def survivors(self, history: History[G], size: int) -> Sequence[str]:
        """Keep the youngest that did not fail, oldest first."""
        fresh = history.candidates_of(history.generations)
        living = [
            item for item in dict.fromkeys([*history.survivors, *fresh]) if history.standing(item).failure is None
        ]
        return living[-self._alive(size) :]

    def _alive(self, generation_size: int) -> int:
        return self.population or 2 * generation_size


@dataclass(frozen=True)
class NSGA2(VariationOptions):
    """NSGA-II (Deb et al. 2002) without a surrogate: parents by binary tournament on rank and crowding distance.

    ``diversity_floor`` is a share of the diversity of generation 0; while that of the survivors is below it, a quarter
    of each generation is sampled far from them (:mod:`evodiff.engine.diversity`). 0 is no floor.

    Raises:
        SettingsError: a rate or the floor is no share.
    """

    name: ClassVar[str] = "nsga2"
    promotes: ClassVar[bool] = True
    crossover_rate: float = 0.9
    mutation_rate: float = 0.5
    diversity_floor: float = option(0.0, before=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("crossover_rate", "mutation_rate", "diversity_floor"):
            check_share(name, getattr(self, name))

    def propose(
        self, history: History[G], space: SearchSpace[G], rng: np.random.Generator, generation: int, n: int
    ) -> Iterable[Proposal[G]]:
        """Yield children of tournament winners."""
        parents = history.survivors
        if not parents:
            return samples(space, rng)
        weights = history.draw_weights(parents)
        children = offspring(
            history,
            space,
            rng,
            lambda: parents[tournament(len(parents), 2, rng, weights)],
            crossover_rate=self.crossover_rate,
            mutation_rate=self.mutation_rate,
            options=self,
        )
        return chain(refreshment(history, space, rng, n, floor=self.diversity_floor), children)

    def survivors(self, history: History[G], size: int) -> Sequence[str]:
        """Keep the best of parents and children."""
        return keep_elite(history, size)


def keep_elite(history: History[G], size: int) -> list[str]:
    """Return the best ``size`` of the last survivors and the candidates absorbed last, best first."""
    pool = list(dict.fromkeys([*history.survivors, *history.candidates_of(history.generations)]))
    return [pool[i] for i in elitist_survivors(comparable_values(history, pool), history.violations(pool), size)]
