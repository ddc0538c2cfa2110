"""Euclidean distances between the rows of two arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pairwise_distances(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (n, m) distances of x, (n, d), and y, (m, d).

    By one matrix product, whose cancellation leaves equal rows apart by about 1e-8 times their length; memory
    stays at the size of the result.
    """
    squared = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)[None, :]
    squared -= 2 * (x @ y.T)
    np.clip(squared, 0, None, out=squared)
    distances: NDArray[np.float64] = np.sqrt(squared, out=squared)
    return distances
