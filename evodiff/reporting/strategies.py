"""Runs grouped by how they searched, and what their seeds say about which way is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, combinations
from math import comb
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from evodiff.engine.convergence import Convergence, diagnose
from evodiff.engine.statistics import Interval, bootstrap_interval, holm, mann_whitney, median_band, vargha_delaney
from evodiff.reporting.front_distance import best_known_front, igd_plus
from evodiff.reporting.highest_rung import bought, expenses, on_highest_rung
from evodiff.reporting.hypervolume import POINTS, common_box, hypervolume, hypervolumes_by_generation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from evodiff.reporting.view import CandidateView, RunView

Cost = Literal["evaluations", "compute"]
COSTS: Final[tuple[Cost, ...]] = ("evaluations", "compute")

# What two runs may not differ in if their numbers are to mean the same: digests of inputs, and settings.
_INPUTS = ("dataset", "feature_net", "calibration")
_PROTOCOL = ("training", "evaluation", "target")

# Ways of searching that a run has on or off; runs that came before one of them tell nothing of it, and have it off.
_SWITCHES = ("inherit", "replicate_ties")

_ENOUGH: Final = 5  # runs, from which on the interval of their median says what its name says
_SIGNIFICANT: Final = 0.05


@dataclass(frozen=True)
class Strategy:
    """A way of searching, and the runs that searched so: indices into the views."""

    name: str
    runs: tuple[int, ...]


@dataclass(frozen=True)
class Standing:
    """What a strategy reached at the common budget: one hypervolume a run, their median with its 95 % interval.

    ``distances`` and ``median_distance`` are the same of IGD+. ``convergence`` is about all that the runs have spent.
    """

    strategy: Strategy
    hypervolumes: tuple[float, ...]
    median: Interval
    distances: tuple[float, ...]
    median_distance: Interval
    convergence: Convergence


@dataclass(frozen=True)
class Band:
    """The median course of a strategy over its runs, with its 95 % interval at each point."""

    strategy: Strategy
    spent: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """Two strategies at the common budget.

    ``effect`` is Vargha and Delaney's A12, how likely a run of ``first`` beats one of ``second``, with its 95 %
    interval; ``p_value`` the exact two-sided Mann-Whitney one, adjusted by Holm for the number of pairs.
    """

    first: Strategy
    second: Strategy
    effect: Interval
    p_value: float


@dataclass(frozen=True)
class Contest:
    """Strategies compared where every run has spent ``budget``: the least that any of them spent in all.

    ``bands`` are courses of the hypervolume, ``distance_bands`` of IGD+.
    """

    cost: Cost
    budget: float
    bands: tuple[Band, ...]
    distance_bands: tuple[Band, ...]
    standings: tuple[Standing, ...]
    differences: tuple[Difference, ...]


def strategies(views: Sequence[RunView]) -> list[Strategy]:
    """Group runs by strategy, in the order of their first runs.

    Where runs of one strategy differ in its settings, sizes, training or whether another run's front started them,
    these are part of its name; the seed is not. That weights were inherited, or ties tried again, is always part of it.
    A run that tells no strategy is one by itself.
    """
    kinds = [str((view.settings.get("strategy") or {}).get("name") or view.name) for view in views]
    methods = [_method(view) for view in views]
    groups: dict[str, list[int]] = {}
    for index, kind in enumerate(kinds):
        fellows = [method for other, method in zip(kinds, methods, strict=True) if other == kind]
        details = [
            f"{name} {value}"
            for name, value in methods[index].items()
            if any(fellow.get(name) != value for fellow in fellows)
        ]
        switched = [name for name in _SWITCHES if views[index].settings.get(name)]
        groups.setdefault(", ".join([kind, *switched, *details]), []).append(index)
    return [Strategy(name, tuple(runs)) for name, runs in groups.items()]


def repeated(found: Sequence[Strategy]) -> bool:
    """Tell whether there are strategies to compare over several runs."""
    return len(found) > 1 and any(len(strategy.runs) > 1 for strategy in found)


def doubts(views: Sequence[RunView], found: Sequence[Strategy]) -> list[str]:
    """Return what speaks against comparing these runs, a sentence each."""
    common = {
        **{name.replace("_", " "): [view.digests.get(name) for view in views] for name in _INPUTS},
        **{name: [view.settings.get(name) for view in views] for name in _PROTOCOL},
    }
    said = [
        f"The runs differ in their {name}: their values do not mean the same."
        for name, values in common.items()
        if any(value != values[0] for value in values)
    ]
    for strategy in found:
        seeds = [views[index].settings.get("seed") for index in strategy.runs]
        if None not in seeds and len(set(seeds)) < len(seeds):
            said.append(f"Runs of {strategy.name} share a seed: they are not independent.")
    said += [
        f"{view.name} has no value of a whole training: its values are those of shorter ones."
        for view in views
        if any(item.rung < view.settings.get("rungs", 1) - 1 for item in on_highest_rung(view.candidates))
    ]
    return [*said, *_of_few_runs(found)] if repeated(found) else said


def _of_few_runs(found: Sequence[Strategy]) -> list[str]:
    """Return what so few runs cannot show.

    An interval of the median that draws n runs again lies within their range, which holds the true median with
    probability 1 - 2^(1 - n); the least two-sided p-value of n runs against m is 2 / binomial(n + m, n).
    """
    sizes = [(strategy.name, len(strategy.runs)) for strategy in found if len(strategy.runs) > 1]
    said = [
        f"{name} has {runs} runs: what is called its 95 % interval holds the true median in {1 - 2 ** (1 - runs):.0%} "
        "of cases at most."
        for name, runs in sizes
        if runs < _ENOUGH
    ]
    for (first, runs), (second, others) in combinations(sizes, 2):
        least = 2 / comb(runs + others, runs)
        if least > _SIGNIFICANT:
            said.append(
                f"{first} against {second}: p cannot be less than {least:.2g} with {runs} against {others} runs, so no "
                "p found here speaks for them being equal."
            )
    return said


def contest(views: Sequence[RunView], found: Sequence[Strategy], cost: Cost) -> Contest | None:
    """Compare strategies by what they spent; ``None`` where a run does not tell.

    Intervals come from 2000 resamples of the runs drawn with a fixed seed, so a page is the same when written again.
    """
    spent = [_spent(view, cost) for view in views]
    if any(not item or math.isnan(item[-1]) for item in spent):
        return None
    budget = min(item[-1] for item in spent)
    marks = np.linspace(0, budget, POINTS + 1)[1:]
    if cost == "evaluations":
        marks = np.unique(np.ceil(marks))
    box = common_box(views)
    front = best_known_front(views, box)
    courses, distances = (
        np.array([_course(view, item, marks, measure) for view, item in zip(views, spent, strict=True)])
        for measure in (lambda found: hypervolume(found, box), lambda found: igd_plus(found, box, front))
    )
    curves = [hypervolumes_by_generation(view, box) for view in views]
    rng = np.random.default_rng(0)
    bands = [_band(strategy, marks, courses, rng) for strategy in found]
    distance_bands = [_band(strategy, marks, distances, np.random.default_rng(0)) for strategy in found]
    standings = tuple(
        Standing(
            band.strategy,
            tuple(courses[list(band.strategy.runs), -1].tolist()),
            _last(band),
            tuple(distances[list(band.strategy.runs), -1].tolist()),
            _last(distance_band),
            diagnose([curves[run] for run in band.strategy.runs]),
        )
        for band, distance_band in zip(bands, distance_bands, strict=True)
    )
    differences = _differences(standings, rng)
    return Contest(cost, float(budget), tuple(bands), tuple(distance_bands), standings, differences)


def _method(view: RunView) -> dict[str, Any]:
    """Return the settings that say how a run searched, by dotted names, but what is on or off."""
    settings = view.settings
    flat: dict[str, Any] = {name: settings[name] for name in ("population_size", "rungs") if name in settings}
    if "warm_start" in settings:
        flat["warm_start"] = "no" if settings["warm_start"] is None else "yes"
    flat |= _flat("strategy", (settings.get("strategy") or {}).get("settings") or {})
    return flat | _flat("training", settings.get("training") or {})


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in values.items()}


def _spent(view: RunView, cost: Cost) -> list[float]:
    costs = [1.0 if cost == "evaluations" else item.training_flops for item in expenses(view.candidates)]
    return list(accumulate(math.nan if value is None else value for value in costs))


def _course(
    view: RunView, spent: Sequence[float], marks: np.ndarray, measure: Callable[[Sequence[CandidateView]], float]
) -> list[float]:
    """Return the measure of a run's candidates at each mark of what was spent."""
    items = expenses(view.candidates)
    found: list[float] = []
    before, value = 0, measure(())
    for done in np.searchsorted(spent, marks * (1 + 1e-12), side="right").tolist():
        if done > before:
            before, value = done, measure(bought(items[:done]))
        found.append(value)
    return found


def _band(strategy: Strategy, marks: np.ndarray, courses: np.ndarray, rng: np.random.Generator) -> Band:
    median, low, high = median_band(courses[list(strategy.runs)], rng).tolist()
    return Band(strategy, tuple(marks.tolist()), tuple(median), tuple(low), tuple(high))


def _last(band: Band) -> Interval:
    return Interval(band.median[-1], band.low[-1], band.high[-1])


def _differences(standings: Sequence[Standing], rng: np.random.Generator) -> tuple[Difference, ...]:
    pairs = [
        (first, second)
        for first, second in combinations(standings, 2)
        if min(len(first.hypervolumes), len(second.hypervolumes)) > 1
    ]
    p_values = holm([mann_whitney(first.hypervolumes, second.hypervolumes).p_value for first, second in pairs])
    return tuple(
        Difference(
            first.strategy,
            second.strategy,
            bootstrap_interval([first.hypervolumes, second.hypervolumes], vargha_delaney, rng),
            p_value,
        )
        for (first, second), p_value in zip(pairs, p_values, strict=True)
    )
