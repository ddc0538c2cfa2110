"""Surrogate prescreen: many more children than are needed are made, and models pick whom to train.

1. A pool of children is made in rounds: the first from parents that are good at one objective or on the front, with
   samples among them; the others from the children that promise most, so that a child may be several mutations away.
2. Objectives that ``space.costs`` does not supply are predicted (:mod:`evodiff.engine.surrogate`).
3. Optionally, where the space has ``scores``, a shortlist is predicted once more, by models that see them too.
4. The batch is what is expected to enlarge the front most (:mod:`evodiff.engine.acquisition`).

How well the models rank is on record: each plan holds what was predicted, each result how that agreed with what came.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

import numpy as np

from evodiff.engine.acquisition import PLACES, expected_improvements, pick_batch
from evodiff.engine.baselines import keep_elite
from evodiff.engine.candidate import candidate_id
from evodiff.engine.diversity import refreshment
from evodiff.engine.experiment import check_sizes
from evodiff.engine.extrapolation import comparable_values
from evodiff.engine.forecast import Described, Forecast, Forecaster
from evodiff.engine.options import VariationOptions, check_flag, check_share, option
from evodiff.engine.selection import best_first, draw, tournament
from evodiff.engine.surrogate import QUANTILE, chance, rank_correlation
from evodiff.engine.variation import CROSSOVER, Mutator, Proposal, offspring, samples
from evodiff.engine.zero_cost import has_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from evodiff.engine.history import History, Prediction
    from evodiff.engine.space import SearchSpace

G = TypeVar("G")

FEWEST: Final = 16  # feasible evaluations; fewer teach too little
# Trials whose predictions say, together, whether the models rank better than chance does. A rank correlation of .25, as
# noisy trainings have it, takes about so many to tell.
TELLING: Final = 30
SAMPLED: Final = 0.15  # share of samples in the first round
# Parents of the others: the best by one objective, members of the front; else any that was evaluated.
GOOD_AT_ONE, ON_FRONT = 0.5, 0.3
BEST_SHARE, BEST_COUNT = 0.25, 10  # how many count as the best by one objective: the larger of the two
CROSSED: Final = 0.3  # of the later rounds
LOOKED_AT: Final = 10  # candidates of the pool that are looked at together, for each place in the batch
# Of a batch, this share may lie far beyond what was evaluated, or one: there models are but continued, and a trait that
# nobody had yet looks as good as its absence.
BEYOND_RANGE: Final = 0.25
# Zero-cost scores take a network each: how many of the pool get them, for each place in the batch, and up to how many
# evaluations. All of those need theirs whenever a run is opened, and have more to say than scores when they are many.
SHORTLISTED: Final = 4
SCORED_UP_TO: Final = 200


@dataclass(frozen=True)
class SurrogateSearch(VariationOptions):
    """Surrogate-assisted evolution: Gaussian processes pick each generation from a pool of ``pool`` children.

    The models learn from at most ``memory`` evaluations, of which a candidate has one for each rung that it was tried
    on: those of the best, and of the latest. Where none of them ranks what was left out better than chance does, they
    step aside for a generation, and the first children are taken. Where they ranked the last generations no better than
    chance, when their values came, they pick only half of the next one: so they find out of a corner that they were
    sure of in vain.

    With ``scores`` the batch is picked from a shortlist whose zero-cost scores the models see as well, in generations
    that know at most :data:`SCORED_UP_TO` evaluations, and as long as such models rank those they have not seen better
    than models of the features alone do. Off by default: for architectures the gain in predicting the KID was
    +.05 in Kendall's tau on both datasets that were tried, and 0 was inside of its intervals (benchmarks/RESULTS.md).

    Selection pressure is that of the expected improvement, which asks of each child what it adds to the front. Pressure
    on quality alone (regularised evolution) is ahead of NSGA-II's on a front at 50 evaluations of NAS-Bench-Macro, and
    behind from 100 on, when what is left to gain lies elsewhere on the front; this is ahead of both at each of them,
    and on the ZDT problems. Where each step of a gene leads from a hill into a valley, as on DTLZ1, there is little
    that models could learn, and NSGA-II is ahead for the first hundred evaluations, by .1 and more of the hypervolume.

    Parents of the pool are of all kinds, as no kind is best everywhere: the table does not tell them apart; on ZDT1 and
    ZDT2 those good at one objective alone are behind by .02 to .04 from 100 on, those of the front alone level or ahead
    by up to .03; where values are noisy, the front is whoever was lucky.

    ``diversity_floor`` is that of :class:`~evodiff.engine.baselines.NSGA2`.

    Raises:
        SettingsError: ``pool`` or ``rounds`` is no integer of at least 1, ``memory`` none of at least :data:`FEWEST`,
            below which models never learn, or another option is no share, or neither true nor false.
    """

    name: ClassVar[str] = "surrogate"
    promotes: ClassVar[bool] = True
    pool: int = 600
    rounds: int = 3
    memory: int = 1000
    crossover_rate: float = 0.5
    mutation_rate: float = 0.5
    scores: bool = option(False, before=False)
    diversity_floor: float = option(0.0, before=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(pool=(self.pool, 1), rounds=(self.rounds, 1), memory=(self.memory, FEWEST))
        for name in ("crossover_rate", "mutation_rate", "diversity_floor"):
            check_share(name, getattr(self, name))
        check_flag("scores", self.scores)

    def propose(
        self, history: History[G], space: SearchSpace[G], rng: np.random.Generator, generation: int, n: int
    ) -> Iterable[Proposal[G]]:
        """Yield the batch that promises most, then children of the survivors.

        The models take one thread: their matrices are small, and threads that wait for a core which other work has cost
        ten times what they save.
        """
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # ships no type information

        with threadpool_limits(1, user_api="blas"):
            return self._proposed(history, space, rng, n)

    def _proposed(
        self, history: History[G], space: SearchSpace[G], rng: np.random.Generator, n: int
    ) -> Iterable[Proposal[G]]:
        parents = history.survivors
        weights = history.draw_weights(parents)
        children = (
            self._offspring(history, space, rng, lambda: parents[tournament(len(parents), 2, rng, weights)])
            if parents
            else samples(space, rng)
        )
        evaluated = remembered(history, self.memory)
        if not _enough(history, evaluated):
            return children
        forecaster = Forecaster(history, space, evaluated)
        scored = self._scored(history, space, forecaster, evaluated)
        if not _beats_chance(scored or forecaster, len(evaluated)):
            return children
        distant = refreshment(history, space, rng, n, floor=self.diversity_floor)
        count = max(1, (n if _proved(history) else -(-n // 2)) - len(distant))
        return chain(distant, self._screened(history, space, rng, forecaster, scored, evaluated, count), children)

    def order_promotions(self, history: History[G], candidates: Sequence[str], count: int) -> Sequence[str] | None:
        """Return candidates of a lower rung in the order in which they promise most on the highest one.

        None where models do not rank what was left out better than chance does. The first ``count`` are picked as a
        batch is, so that one that is like another follows late.
        """
        from threadpoolctl import threadpool_limits  # ships no type information

        evaluated = remembered(history, self.memory)
        if not _enough(history, evaluated):
            return None
        with threadpool_limits(1, user_api="blas"):
            forecaster = Forecaster(history, history.space, evaluated)
            if not _beats_chance(forecaster, len(evaluated)):
                return None
            described = forecaster.describe([history.genome(candidate) for candidate in candidates])
            forecast = forecaster.forecast(described)
            order = _by_promise(forecast, forecaster.front)
            looked_at = np.sort(order[: LOOKED_AT * count])
            covariances = forecaster.covariances(described[looked_at])
            batch = pick_batch(forecast.mean[looked_at], covariances, forecaster.noises, forecaster.front, count)
        ordered = dict.fromkeys([*looked_at[batch].tolist(), *order.tolist()])
        return [candidates[index] for index in ordered]

    def survivors(self, history: History[G], size: int) -> Sequence[str]:
        """Keep the best of parents and children, as NSGA-II does."""
        return keep_elite(history, size)

    def _offspring(
        self, history: History[G], space: SearchSpace[G], rng: np.random.Generator, select: Callable[[], str]
    ) -> Iterator[Proposal[G]]:
        rates = {"crossover_rate": self.crossover_rate, "mutation_rate": self.mutation_rate}
        return offspring(history, space, rng, select, **rates, options=self)

    def _screened(
        self,
        history: History[G],
        space: SearchSpace[G],
        rng: np.random.Generator,
        forecaster: Forecaster[G],
        scored: Forecaster[G] | None,
        evaluated: Sequence[str],
        n: int,
    ) -> list[Proposal[G]]:
        share = -(-self.pool // self.rounds)
        pool = _Pool(history, space, forecaster)
        parents = _parents(history, forecaster, evaluated, rng)
        children, fresh = self._offspring(history, space, rng, parents), samples(space, rng)
        mutant = Mutator(history, space, rng, self)
        pool.fill(_mixed(children, fresh, rng), share)
        for _ in range(self.rounds - 1):
            leaders = pool.leaders(2 * n)
            if leaders:
                pool.fill(_descendants(space, rng, leaders, mutant), share)
        return pool.pick(n, scored)

    def _scored(
        self, history: History[G], space: SearchSpace[G], forecaster: Forecaster[G], evaluated: Sequence[str]
    ) -> Forecaster[G] | None:
        """Return models that see scores too, None where there are none or they do not help."""
        if not self.scores or not has_scores(space) or len(evaluated) > SCORED_UP_TO:
            return None
        scored = Forecaster(history, space, evaluated, scored=True)
        return scored if scored.ranks_better(forecaster) else None


class _Pool(Generic[G]):
    """Different candidates that were never asked."""

    def __init__(self, history: History[G], space: SearchSpace[G], forecaster: Forecaster[G]) -> None:
        self._history = history
        self._space = space
        self._forecaster = forecaster
        self._proposals: dict[str, Proposal[G]] = {}
        self._described: list[Described] = []
        self._forecasts: list[Forecast] = []

    def fill(self, stream: Iterator[Proposal[G]], count: int) -> None:
        """Take ``count`` new ones from ``stream``, or what four times as many proposals give."""
        fresh: dict[str, Proposal[G]] = {}
        for proposal in islice(stream, 4 * count):
            name = candidate_id(self._space.canonical(proposal.genome))
            if name not in self._proposals and not self._history.asked(name):
                fresh.setdefault(name, proposal)
            if len(fresh) >= count:
                break
        if fresh:
            self._described.append(self._forecaster.describe([proposal.genome for proposal in fresh.values()]))
            self._forecasts.append(self._forecaster.forecast(self._described[-1]))
            self._proposals.update(fresh)

    def leaders(self, count: int) -> list[Proposal[G]]:
        """Return the ``count`` that promise most, each by itself."""
        if not self._proposals:
            return []
        proposals, _, _, order = self._by_name()
        return [proposals[i] for i in order[:count]]

    def pick(self, count: int, scored: Forecaster[G] | None = None) -> list[Proposal[G]]:
        """Return the ``count`` that promise most together, with what is predicted of each.

        Given models that see scores, by these, out of the :data:`SHORTLISTED` times as many that promise most.
        """
        if not self._proposals:
            return []
        forecaster = self._forecaster
        proposals, places, forecast, order = self._by_name()
        order = _few_beyond(order, np.concatenate([part.beyond for part in self._described])[places], count)
        if scored is None:
            described = Described.joined(self._described)
        else:
            forecaster = scored
            proposals = [proposals[i] for i in np.sort(order[: SHORTLISTED * count])]
            described, places = scored.describe([proposal.genome for proposal in proposals]), np.arange(len(proposals))
            forecast = scored.forecast(described)
            order = _by_promise(forecast, scored.front)
        looked_at = np.sort(order[: LOOKED_AT * count])
        seen = described[places[looked_at]]
        batch = pick_batch(
            forecast.mean[looked_at],
            forecaster.covariances(seen),
            forecaster.noises,
            forecaster.front,
            count,
            limited=seen.beyond if (~seen.beyond).sum() >= count else None,
            limit=_most_beyond(count),
        )
        picked = [int(looked_at[i]) for i in batch]
        taken = set(picked)
        beyond = described.beyond[places]
        others = [*order[~beyond[order]].tolist(), *order[beyond[order]].tolist()]
        picked += [index for index in others if index not in taken][: count - len(picked)]
        return [replace(proposals[i], predicted=forecaster.predicted(forecast.mean[i])) for i in picked]

    def _by_name(self) -> tuple[list[Proposal[G]], NDArray[np.int64], Forecast, NDArray[np.int64]]:
        """Return everybody by id, so that of equals the first one wins.

        And for each of them the place in the pool and what is predicted; last, the order in which they promise most.
        """
        names, every = list(self._proposals), list(self._proposals.values())
        places = np.array(sorted(range(len(names)), key=names.__getitem__))
        forecast = Forecast.joined(self._forecasts)[places]
        return [every[i] for i in places], places, forecast, _by_promise(forecast, self._forecaster.front)


def _most_beyond(count: int) -> int:
    """Return how many of a batch may lie far beyond what was evaluated."""
    return max(1, int(BEYOND_RANGE * count))


def _few_beyond(order: NDArray[np.int64], beyond: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Return an order in which those far beyond come last, but for as many as a batch of ``count`` may look at."""
    far = beyond[order]
    last = far & (np.cumsum(far) > LOOKED_AT * _most_beyond(count))
    return np.concatenate([order[~last], order[last]])


def _by_promise(forecast: Forecast, front: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the order by expected improvement, then as NSGA-II would."""
    gains = expected_improvements(forecast.mean, forecast.deviations, front)
    places = np.argsort(best_first(np.round(forecast.mean, PLACES), np.zeros(len(gains))), kind="stable")
    return np.lexsort((places, -gains))


def _beats_chance(forecaster: Forecaster[G], count: int) -> bool:
    """Whether one of the models ranks what was left out better than chance, or there is nothing to predict."""
    ranked = forecaster.rank_correlations()
    return not ranked or max(ranked) > chance(count)


def _enough(history: History[G], evaluated: Sequence[str]) -> bool:
    """Whether :data:`FEWEST` candidates are feasible; of a memory that is full, as many of their evaluations.

    A small memory would never hold so many candidates that climbed several rungs.
    """
    feasible = [name for name, violation in zip(evaluated, history.violations(evaluated), strict=True) if not violation]
    forgotten = len(evaluated) < len(history.ids)
    return (sum(_evaluations(history, feasible)) if forgotten else len(feasible)) >= FEWEST


def _proved(history: History[G]) -> bool:
    """Whether what was predicted agreed with what came, or too little was predicted to tell.

    Of small generations the latest are ranked together, those on one rung: two or three trials by themselves can prove
    nothing. Kendall's S adds up over objectives and rungs, with its variance.
    """
    told: list[Prediction] = []
    for generation in reversed(range(history.generations)):
        told += history.predictions(generation)
        if len(told) >= TELLING:
            break
    if len(told) < TELLING:
        return True
    score, variance = 0.0, 0.0
    for rung in sorted({item.rung for item in told}):
        on_rung = [item for item in told if item.rung == rung]
        pairs = len(on_rung) * (len(on_rung) - 1) / 2
        for objective in on_rung[0].predicted:
            expected, found = (
                np.array([values[objective] for values in side])
                for side in ([item.predicted for item in on_rung], [item.found for item in on_rung])
            )
            score += round(rank_correlation(expected, found), PLACES) * pairs
            variance += pairs * (2 * len(on_rung) + 5) / 9
    return score > QUANTILE * math.sqrt(variance)


def remembered(history: History[G], count: int) -> list[str]:
    """Return candidates with at most ``count`` evaluations, one for each rung that they were tried on, in order asked.

    For half of these the best by rank, then the latest.
    """
    names = history.ids
    rows = _evaluations(history, names)
    if sum(rows) <= count:
        return names
    best = best_first(comparable_values(history, names), history.violations(names)).tolist()
    kept = _fitting(best, rows, count // 2)
    left = count - sum(rows[index] for index in kept)
    taken = set(kept)
    kept += _fitting([index for index in reversed(range(len(names))) if index not in taken], rows, left)
    return [names[index] for index in sorted(kept)]


def _evaluations(history: History[G], candidates: Sequence[str]) -> list[int]:
    """Return how many evaluations models learn from of each candidate."""
    return [len(history.rungs(candidate)) for candidate in candidates]


def _fitting(ordered: Sequence[int], rows: Sequence[int], room: int) -> list[int]:
    """Return the first indices that have at most ``room`` rows together."""
    totals = np.cumsum([rows[index] for index in ordered])
    return list(ordered[: int(np.searchsorted(totals, room, side="right"))])


def _parents(
    history: History[G], forecaster: Forecaster[G], evaluated: Sequence[str], rng: np.random.Generator
) -> Callable[[], str]:
    values = comparable_values(history, evaluated)
    count = max(BEST_COUNT, int(len(evaluated) * BEST_SHARE))
    best = [
        [evaluated[i] for i in np.argsort(values[:, column], kind="stable")[:count]]  # NaN goes last
        for column in list(forecaster.models) or range(values.shape[1])
    ]
    every_good = [(ordered, history.draw_weights(ordered)) for ordered in best]
    on_front = (history.front, history.draw_weights(history.front))
    anybody = (evaluated, history.draw_weights(evaluated))

    def select() -> str:
        kind = rng.random()
        if kind < GOOD_AT_ONE:
            good, weights = every_good[int(rng.integers(len(every_good)))]
            if _drawable(good, weights):
                return str(good[tournament(len(good), 2, rng, weights)])
        among, weights = on_front if kind < GOOD_AT_ONE + ON_FRONT and _drawable(*on_front) else anybody
        return among[draw(len(among), rng, weights)]

    return select


def _drawable(candidates: Sequence[str], weights: NDArray[np.float64] | None) -> bool:
    """Whether there is somebody whom people do not dislike altogether."""
    return len(candidates) > 0 and (weights is None or bool(weights.any()))


def _mixed(
    children: Iterator[Proposal[G]], fresh: Iterator[Proposal[G]], rng: np.random.Generator
) -> Iterator[Proposal[G]]:
    while True:
        yield next(fresh if rng.random() < SAMPLED else children)


def _descendants(
    space: SearchSpace[G], rng: np.random.Generator, leaders: Sequence[Proposal[G]], mutant: Mutator[G]
) -> Iterator[Proposal[G]]:
    """Yield mutants of children, and of crossovers of two of them, for ever."""
    while True:
        first = leaders[int(rng.integers(len(leaders)))]
        genome, parents, operators = first.genome, first.parents, [first.operator]
        if rng.random() < CROSSED:
            second = leaders[int(rng.integers(len(leaders)))]
            genome, _ = space.crossover(first.genome, second.genome, rng)
            parents = tuple(dict.fromkeys([*first.parents, *second.parents]))
            operators.append(CROSSOVER)
        genome, operator = mutant(genome, parents)
        yield Proposal(genome, parents, _joined(*operators, operator))


def _joined(*operators: str | None) -> str | None:
    names = [name for operator in operators if operator for name in operator.split("+")]
    return "+".join(dict.fromkeys(names)) or None
