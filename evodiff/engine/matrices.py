"""Arithmetic of large matrices for the surrogate: in slices that stay near a processor, on every core.

Threads take slices of rows, and each row is the same whoever takes it. BLAS is left to one thread.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Singles = NDArray[np.float32]

Item = TypeVar("Item")
Result = TypeVar("Result")

# What is worked on at once: distances, rows, columns of a triangle.
CACHED: Final = 262_144
ROWS: Final = 192
COLUMNS: Final = 128
CORES: Final = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def triangular_inverse(lower: NDArray[Any]) -> Floats:
    """Return the inverse of an (n, n) lower triangular matrix, by halves: a sixth of the work of any other one's."""
    count = len(lower)
    if count <= COLUMNS:
        return np.tril(np.linalg.inv(lower))
    half = count // 2
    inverse = np.zeros_like(lower)
    inverse[:half, :half] = triangular_inverse(lower[:half, :half])
    inverse[half:, half:] = triangular_inverse(lower[half:, half:])
    inverse[half:, :half] = -inverse[half:, half:] @ (lower[half:, :half] @ inverse[:half, :half])
    return inverse


def times_transposed(rows: Floats, lower: Floats) -> Floats:
    """Return (m, n) ``rows @ lower.T`` of (m, n) rows and an (n, n) lower triangular matrix, without its zeros."""
    product = np.empty_like(rows)
    count = rows.shape[1]
    for start in range(0, count, COLUMNS):
        stop = min(start + COLUMNS, count)
        np.matmul(rows[:, :stop], lower[start:stop, :stop].T, out=product[:, start:stop])
    return product


def l1_distances(first: Floats, second: Floats) -> Singles:
    """Return the (m, k) L1 distances of (m, d) and (k, d) rows, in single precision, as twice as many fit in a cache.

    As |a - b| = a + b - 2 min(a, b), summed up a column at a time. Each number is rounded by itself, in a fixed order:
    the same bits on every processor, and exactly 0 between equal rows.
    """
    columns, others = (np.ascontiguousarray(rows.T, dtype=np.float32) for rows in (first, second))
    sums, other_sums = _in_order(columns), _in_order(others)
    distances = np.zeros((len(first), len(second)), dtype=np.float32)

    def fill(rows: slice) -> None:
        shared = distances[rows]
        lesser = np.empty_like(shared)
        for column, other in zip(columns[:, rows], others, strict=True):
            np.minimum(column[:, None], other, out=lesser)
            shared += lesser
        shared *= -2
        shared += sums[rows, None] + other_sums
        np.maximum(shared, 0, out=shared)

    for_slices(fill, len(first), max(1, min(CACHED // max(len(second), 1), -(-len(first) // CORES))))
    return distances


def for_slices(work: Callable[[slice], None], count: int, size: int = ROWS) -> None:
    """Call ``work`` for slices of ``size`` that cover ``count`` rows, on every core that this process may use."""
    on_every_core(work, slices(count, size))


def slices(count: int, size: int) -> list[slice]:
    """Return slices of ``size`` that cover ``count`` rows."""
    return [slice(start, start + size) for start in range(0, count, size)]


def on_every_core(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return what ``work`` makes of each item, in their order, on every core that this process may use."""
    if len(items) < 2 or CORES < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(len(items), CORES)) as pool:
        return list(pool.map(work, items))


def _in_order(columns: Singles) -> Singles:
    """Return the sums, (m,), over (d, m) columns, one after the other."""
    total = np.zeros(columns.shape[1], dtype=np.float32)
    for column in columns:
        total += column
    return total
