"""Rules that others use to judge a canary, for comparison in simulations; nothing is released by them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.stats import norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evodiff.deployment.analysis.simulation import Stream

# A test with fewer of an arm is not made.
_LEAST: Final = 10


@dataclass(frozen=True)
class FixedThresholds:
    """Absolute thresholds in the manner of Flagger (fluxcd.io/flagger/usage/metrics).

    Every ``interval_seconds`` the canary's success rate and its 99th percentile of what clients waited are taken over
    that interval; either out of its range makes a failed check, ``failed_checks`` of them in all a rollback. An
    interval without traffic is no check.
    """

    p99_seconds: float
    success_rate: float = 0.99
    interval_seconds: float = 10.0
    failed_checks: int = 5

    def rolls_back(self, stream: Stream) -> bool:
        """Return whether the rule ends the rollout at any step."""
        mine = stream.canary & ~stream.refused
        interval = (stream.ended[mine] // self.interval_seconds).astype(int)
        waited, failed = (stream.ended - stream.arrived)[mine], stream.failed[mine]
        failures = 0
        for number in np.unique(interval):
            now = interval == number
            slow = np.quantile(waited[now], 0.99) > self.p99_seconds
            failures += bool(slow or 1.0 - failed[now].mean() < self.success_rate)
        return failures >= self.failed_checks


@dataclass(frozen=True)
class RequestLevelTests:
    """One-sided tests with requests as the unit: Welch's of log compute seconds, of ratings and of shares of errors.

    Compute seconds are compared within request kinds and batch shapes, as the analysis does.
    Each metric is tested at ``alpha`` / 3 within each step from ``soft_from`` to below 100 percent: once at its end, or
    every ``every`` requests too where that is given.
    """

    alpha: float = 0.05
    soft_from: float = 20.0
    every: int | None = None

    def rejected(self, stream: Stream) -> set[str]:
        """Return the metrics by which the rule ends the rollout."""
        found: set[str] = set()
        critical = float(norm.isf(self.alpha / 3))
        metrics = self._metrics(stream)
        for phase, percent in enumerate(stream.steps):
            if self.soft_from <= percent < 100.0:
                rows = np.flatnonzero((stream.phase == phase) & ~stream.refused)
                for metric, values in metrics.items():
                    if self._largest(values[rows], stream.canary[rows]) > critical:
                        found.add(metric)
        return found

    @staticmethod
    def _metrics(stream: Stream) -> dict[str, NDArray[np.float64]]:
        return {
            "latency": _within_kinds(np.log(stream.compute), stream),
            "errors": stream.failed.astype(float),
            "ratings": -stream.ratings,
        }

    def _largest(self, values: NDArray[np.float64], canary: NDArray[np.bool_]) -> float:
        """Return the largest statistic of all looks."""
        given = ~np.isnan(values)
        values = np.where(given, values, 0.0)
        ends = [len(values)] if self.every is None else [*range(self.every, len(values), self.every), len(values)]
        sums = [
            np.cumsum(np.stack([arm, values * arm, values**2 * arm]), axis=1)
            for arm in (given & canary, given & ~canary)
        ]
        return max(_welch(sums[0][:, end - 1], sums[1][:, end - 1]) for end in ends)


def _within_kinds(values: NDArray[np.float64], stream: Stream) -> NDArray[np.float64]:
    """Return the values less the mean of their request kind and batch shape."""
    _, group = np.unique(stream.kind * (stream.batch.max() + 1) + stream.batch, return_inverse=True)
    means: NDArray[np.float64] = np.bincount(group, weights=values) / np.bincount(group)
    return values - means[group]


def _welch(canary: NDArray[np.float64], stable: NDArray[np.float64]) -> float:
    """Return the difference of means over its standard error, from each arm's count, sum and sum of squares."""
    if min(canary[0], stable[0]) < _LEAST:
        return -math.inf
    means = [arm[1] / arm[0] for arm in (canary, stable)]
    variances = [
        max(arm[2] / arm[0] - mean**2, 0.0) / (arm[0] - 1) for arm, mean in zip((canary, stable), means, strict=True)
    ]
    error = math.sqrt(sum(variances))
    return float((means[0] - means[1]) / error) if error else -math.inf
