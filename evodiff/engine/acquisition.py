"""Which of many predicted candidates to evaluate next: expected hypervolume improvement, a batch at a time.

Points are (n, m) arrays, minimised, in units in which the reference point is 0: what gains is negative throughout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import moocore
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Gains that agree to so many places are equal, and the first one wins: rounding differs between processors.
PLACES: Final = 9
_RENEWED_AT_ONCE: Final = 8


def improvements(points: Floats, front: Floats) -> Floats:
    """Return an (n,) array: by how much each point alone enlarges the hypervolume that ``front``, (k, m), dominates."""
    front = front[(front < 0).all(axis=1)]
    inside = np.flatnonzero((points < 0).all(axis=1))
    gains = np.zeros(len(points))
    if len(inside):
        plane = points.shape[1] == 2
        gains[inside] = (_improvements_2d if plane else _improvements)(points[inside], front)
    return gains


def expected_improvements(mean: Floats, deviations: Mapping[int, Floats], front: Floats) -> Floats:
    """Return an (n,) array of expected improvements, rounded.

    Errors of different objectives are taken to be independent. Each is moved by itself, up and down: the unscented
    transform, Gauss-Hermite quadrature of three nodes where one is predicted (Julier & Uhlmann 1997).

    Args:
        mean: (n, m) predicted points.
        deviations: (n,) standard deviations of those objectives, by index, that are not known exactly.
        front: (k, m) non-dominated points.
    """
    many = max(len(deviations), 3)
    centre = 1 - len(deviations) / many
    gains = centre * improvements(mean, front) if centre else np.zeros(len(mean))
    for objective, deviation in deviations.items():
        for step in (-(many**0.5), many**0.5):
            points = mean.copy()
            points[:, objective] += step * deviation
            gains += improvements(points, front) / (2 * many)
    return np.round(gains, PLACES)


def pick_batch(
    mean: Floats,
    covariances: Mapping[int, Floats],
    noises: Mapping[int, float],
    front: Floats,
    size: int,
    limited: NDArray[np.bool_] | None = None,
    limit: int = 1,
) -> list[int]:
    """Return the indices of at most ``size`` candidates, in the order of picking; fewer where nothing more is gained.

    After each pick its predicted point joins the front, and the covariances, (n, n) each, become those of models that
    know this place, whatever its value: the next pick lies elsewhere (Ginsbourger et al. 2010, kriging believer).
    ``noises`` are the variances of one more evaluation. Gains shrink as the batch grows, as good as always, so that
    after a pick only the leaders need a new look (Minoux 1978). Of those ``limited``, an (n,) mask, at most
    ``limit`` are picked, which is 1 or more.
    """
    errors = {index: _Errors(covariance, noises[index]) for index, covariance in covariances.items()}
    batch = _Batch(mean, errors, front)
    while len(batch.picked) < min(size, len(mean)):
        best = batch.leader()
        if batch.gains[best] <= 0:
            break
        batch.take(best)
        if limited is not None and limited[batch.picked].sum() >= limit:
            batch.gains[limited] = -1.0
    return batch.picked


class _Errors:
    """How far predictions of one objective may be off, as picks become known.

    Of the covariance, (n, n), only the diagonal is kept up to date, and a column when it is needed: O(n k) each for k
    picks.
    """

    def __init__(self, covariance: Floats, noise: float) -> None:
        self.variances = np.diag(covariance).copy()
        self._covariance = covariance
        self._noise = noise
        self._known: list[tuple[Floats, Floats]] = []

    def learn(self, index: int) -> None:
        """Take in that the place ``index`` is known."""
        column = self._covariance[:, index].copy()
        for earlier, weights in self._known:
            column -= earlier * weights[index]
        weights = column / max(float(column[index]) + self._noise, 1e-12)
        self.variances -= column * weights
        self._known.append((column, weights))


class _Batch:
    """A batch that grows; ``gains`` may be those of a smaller batch, too large but never too small."""

    def __init__(self, mean: Floats, errors: Mapping[int, _Errors], front: Floats) -> None:
        self.picked: list[int] = []
        self._mean = mean
        self._errors = errors
        self._front = front
        self.gains = self._expected(np.arange(len(mean)))

    def leader(self) -> int:
        """Return the index of the largest gain, renewing gains from the top until the largest one is fresh."""
        fresh = np.full(len(self.gains), not self.picked)
        while True:
            best = int(np.argmax(self.gains))
            if fresh[best] or self.gains[best] <= 0:
                return best
            leaders = np.argsort(-self.gains, kind="stable")[:_RENEWED_AT_ONCE]
            leaders = leaders[~fresh[leaders] & (self.gains[leaders] > 0)]
            self.gains[leaders] = self._expected(leaders)
            fresh[leaders] = True

    def take(self, index: int) -> None:
        """Pick a candidate."""
        self.picked.append(index)
        self.gains[index] = -1.0
        self._front = np.vstack([self._front, self._mean[index]])
        for errors in self._errors.values():
            errors.learn(index)

    def _expected(self, indices: NDArray[np.int64]) -> Floats:
        deviations = {
            objective: np.sqrt(np.maximum(errors.variances[indices], 0)) for objective, errors in self._errors.items()
        }
        return expected_improvements(self._mean[indices], deviations, self._front)


def _improvements_2d(points: Floats, front: Floats) -> Floats:
    """Return the improvements of points in the plane: sums over the strips between the points of the front."""
    front = front[np.lexsort((front[:, 1], front[:, 0]))]
    if len(front):
        lowest = np.minimum.accumulate(front[:, 1])
        front = front[np.concatenate([[True], front[1:, 1] < lowest[:-1]])]
    left = np.concatenate([[-np.inf], front[:, 0]])
    right = np.concatenate([front[:, 0], [0.0]])
    ceiling = np.concatenate([[0.0], front[:, 1]])
    widths = np.clip(right - np.maximum(left, points[:, :1]), 0, None)
    gains: Floats = (widths * np.clip(ceiling - points[:, 1:], 0, None)).sum(axis=1)
    return gains


def _improvements(points: Floats, front: Floats) -> Floats:
    """Return the improvements of points in any number of dimensions."""
    origin = np.zeros(points.shape[1])
    front = front[moocore.is_nondominated(front)] if len(front) else front
    before = moocore.hypervolume(front, ref=origin) if len(front) else 0.0
    gains = np.zeros(len(points))
    for index, point in enumerate(points):
        if not (front <= point).all(axis=1).any():
            gains[index] = moocore.hypervolume(np.vstack([front, point]), ref=origin) - before
    return gains
