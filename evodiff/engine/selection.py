"""Selection of NSGA-II (Deb et al. 2002): constrained non-dominated sorting, crowding, tournaments, elitist survivors.

All values are minimised. ``values`` is an (n, m) float64 array, ``violations`` an (n,) array that is 0 for a feasible
candidate, the sum of its violations for an infeasible one, and infinite for one that failed.
"""

from __future__ import annotations

import moocore
import numpy as np


def constrained_ranks(values: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Return an (n,) array of ranks, 0 the best.

    1. Feasible candidates have their Pareto rank among each other, O(n log n) for each front of up to three objectives.
    2. Infeasible ones come after all of them, by the sum of their violations; equal sums share a rank.
    """
    ranks = np.zeros(len(violations), dtype=np.int64)
    feasible = violations == 0
    first = 0
    if feasible.any():
        ranks[feasible] = moocore.pareto_rank(values[feasible])
        first = int(ranks[feasible].max()) + 1
    if not feasible.all():
        ranks[~feasible] = first + np.unique(violations[~feasible], return_inverse=True)[1].reshape(-1)
    return ranks


def crowding_distances(values: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return an (n,) array: for each candidate how far its neighbours within its rank are apart.

    Summed over objectives, each divided by its range within the rank; infinite for the extremes. Candidates without
    values (NaN) have distance 0.
    """
    distances = np.zeros(len(ranks))
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        if not np.isnan(values[members]).any():
            distances[members] = _crowding_within(values[members])
    return distances


def _crowding_within(values: np.ndarray) -> np.ndarray:
    count = len(values)
    distances = np.zeros(count)
    for column in values.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        if ordered[-1] > ordered[0]:
            distances[order[[0, -1]]] = np.inf
            if count > 2:
                distances[order[1:-1]] += (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
    return distances


def best_first(values: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Return indices ordered by rank, then by crowding distance from large to small; ties keep their order."""
    ranks = constrained_ranks(values, violations)
    return np.lexsort((-crowding_distances(values, ranks), ranks))


def elitist_survivors(values: np.ndarray, violations: np.ndarray, size: int) -> np.ndarray:
    """Return the indices of the ``size`` best, best first; failed candidates never survive."""
    order = best_first(values, violations)
    alive: np.ndarray = order[np.isfinite(violations[order])]
    return alive[:size]


def tournament(count: int, size: int, rng: np.random.Generator, weights: np.ndarray | None = None) -> int:
    """Return the winner among ``size`` drawn, with replacement, from ``count`` candidates ordered best first.

    ``weights``, a (count,) array, says how likely each is to be drawn, relative to the others; None is all alike.
    """
    if weights is None:
        return int(rng.integers(count, size=size).min())
    return min(draw(count, rng, weights) for _ in range(size))


def draw(count: int, rng: np.random.Generator, weights: np.ndarray | None = None) -> int:
    """Return the index of one drawn from ``count`` candidates, by ``weights`` as :func:`tournament`."""
    reached = None if weights is None else np.cumsum(weights)
    if reached is None or not reached[-1] > 0:
        return int(rng.integers(count))
    return min(int(np.searchsorted(reached, rng.random() * reached[-1], side="right")), count - 1)


def nondominated(values: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Return an (n,) boolean array: feasible and not dominated by a feasible one; equal values do not dominate."""
    front: np.ndarray = violations == 0
    if front.any():
        front[front] = moocore.is_nondominated(values[front], keep_weakly=True)
    return front
