"""Does the engine work? Strategies on problems whose true front is known, without training, in under a minute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import moocore
import numpy as np

from evodiff.engine.convergence import Convergence, diagnose
from evodiff.engine.evolution import Evolution
from evodiff.engine.problems import PROBLEMS, Genome, Problem
from evodiff.engine.statistics import RankTest, holm, mann_whitney, median_band, vargha_delaney
from evodiff.engine.strategies import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

STRATEGIES: Final = (DEFAULT, "nsga2", "random")
SEEDS: Final = 6
POPULATION: Final = 20
GENERATIONS: Final = 6


@dataclass(frozen=True)
class Compared:
    """One strategy on one problem, over seeds.

    ``hypervolume``: (n, k) share of the true front's hypervolume after each of k generations. ``igd_plus``: (n, k)
    mean distance of the true front to what was found, in the same units as the objectives (Ishibuchi et al. 2015).
    ``population`` is how many evaluations a generation has.
    """

    problem: str
    strategy: str
    hypervolume: Floats
    igd_plus: Floats
    population: int

    def last(self) -> tuple[Floats, Floats]:
        """Return the median, with its 95 % interval, of both after the last generation: (3,) each."""
        hypervolume, igd_plus = self.medians()
        return hypervolume[:, -1], igd_plus[:, -1]

    def medians(self) -> tuple[Floats, Floats]:
        """Return the median of both, with its 95 % interval, after each generation: (3, k) each."""
        rng = np.random.default_rng(0)
        return median_band(self.hypervolume, rng), median_band(self.igd_plus, rng)

    def convergence(self) -> Convergence:
        """Return whether it still improved when it ended."""
        return diagnose(self.hypervolume.tolist())


@dataclass(frozen=True)
class Difference:
    """How a strategy differs from random search by the last hypervolume: A12, and the p-value corrected for all."""

    problem: str
    strategy: str
    effect: float
    p_value: float


def run_problems(
    problems: Sequence[Problem] = PROBLEMS,
    strategies: Sequence[str] = STRATEGIES,
    *,
    seeds: int = SEEDS,
    population: int = POPULATION,
    generations: int = GENERATIONS,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Compared]:
    """Run every strategy on every problem, ``seeds`` times; ``progress`` is told how many runs are done."""
    compared: list[Compared] = []
    runs = len(problems) * len(strategies) * seeds
    for problem in problems:
        yardstick = Yardstick(problem)
        for strategy in strategies:
            curves = []
            for seed in range(seeds):
                points = _search(problem, strategy, seed, population, generations)
                curves.append([yardstick.judge(points[: population * k]) for k in range(1, generations + 1)])
                progress(len(compared) * seeds + seed + 1, runs)
            both = np.array(curves)
            compared.append(Compared(problem.name, strategy, both[:, :, 0], both[:, :, 1], population))
    return compared


def differences(compared: Sequence[Compared]) -> list[Difference]:
    """Return how each strategy differs from random search on each problem (Mann-Whitney, corrected by Holm)."""
    random: Mapping[str, Compared] = {item.problem: item for item in compared if item.strategy == "random"}
    others = [item for item in compared if item.strategy != "random" and item.problem in random]
    pairs = [(item.hypervolume[:, -1], random[item.problem].hypervolume[:, -1]) for item in others]
    tests: list[RankTest] = [mann_whitney(ours, theirs) for ours, theirs in pairs]
    corrected = holm([test.p_value for test in tests])
    return [
        Difference(item.problem, item.strategy, vargha_delaney(*pair), p_value)
        for item, pair, p_value in zip(others, pairs, corrected, strict=True)
    ]


class Yardstick:
    """The true front of a problem."""

    def __init__(self, problem: Problem) -> None:
        self._front = problem.front()
        self._reference = np.array(problem.reference)
        self._whole = moocore.hypervolume(self._front, ref=self._reference)

    def judge(self, points: Floats) -> tuple[float, float]:
        """Return the share of the hypervolume and the IGD+ of points, (n, m)."""
        inside = points[(points < self._reference).all(axis=1)]
        share = moocore.hypervolume(inside, ref=self._reference) / self._whole if len(inside) else 0.0
        return float(share), float(moocore.igd_plus(points, self._front))


def _search(problem: Problem, strategy: str, seed: int, population: int, generations: int) -> Floats:
    names = [f"f{index + 1}" for index in range(problem.objectives)]
    evolution: Evolution[Genome] = Evolution(
        problem, objectives=names, population_size=population, seed=seed, strategy=strategy
    )
    points = []
    for _ in range(generations):
        for trial in evolution.ask(population):
            values = problem.values(trial.genome)
            evolution.tell(trial.id, values)
            points.append([values[name] for name in names])
    return np.array(points)
