"""Measured latency: one denoiser call at the serving batch, on the device at hand, and what predictions are worth.

The code for Apple's GPUs (``mps``) has not been run on Apple hardware.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from evodiff.architecture.cost import operations
from evodiff.architecture.graph import resolve
from evodiff.architecture.network import build_network
from evodiff.hardware.latency import predict_ms
from evodiff.hardware.timing import synchronise
from evodiff.sampling import initial_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from evodiff.architecture.genome import ArchitectureGenome, ImageShape
    from evodiff.hardware.calibration import Calibration

    Array = NDArray[np.float64]

WARM_UP_CALLS = 5
# Calls in a row for one network while several take turns; the first brings it back into the caches and does not count.
CALLS_A_TURN = 3

BOOTSTRAP_SAMPLES = 2000


@dataclass(frozen=True)
class LatencyMeasurement:
    """Milliseconds of repeated calls: their median, and the quartiles around it."""

    median_ms: float
    low_ms: float
    high_ms: float
    repeats: int


@dataclass(frozen=True)
class LatencyComparison:
    """Predicted and measured milliseconds, in one order of candidates, and how well they agree.

    ``rank_correlation`` is Spearman's, ``median_error`` the median of |predicted / measured - 1|. ``interval`` maps
    both names to the central 95 % of their bootstrap distribution over candidates.
    """

    predicted_ms: tuple[float, ...]
    measured: tuple[LatencyMeasurement, ...]
    rank_correlation: float
    median_error: float
    interval: Mapping[str, tuple[float, float]]


class DenoiserCall:
    """One call of a network as it is served: ``batch`` images of ``shape`` on ``device``, labels but no guidance."""

    def __init__(self, network: nn.Module, shape: ImageShape, batch: int, device: str = "cpu") -> None:
        self._network = network
        self._device = device
        self._x_t = initial_noise(0, batch, (shape.channels, shape.size, shape.size)).to(device)
        self._t = torch.full((batch,), 500, dtype=torch.long, device=device)
        self._labels = torch.arange(batch, device=device) % shape.classes if shape.classes else None

    @torch.inference_mode()
    def __call__(self) -> None:
        """Call the network and wait until the device has finished."""
        self._network(self._x_t, self._t, self._labels)
        synchronise(self._device)

    def time(self, clock: Callable[[], int]) -> float:
        """Return the milliseconds of one call by ``clock``, which counts nanoseconds."""
        started = clock()
        self()
        return (clock() - started) / 1e6


def measure_latency_ms(
    network: nn.Module,
    shape: ImageShape,
    batch: int,
    device: str = "cpu",
    *,
    repeats: int = 20,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> LatencyMeasurement:
    """Time ``network(x_t, t, labels)`` for ``batch`` images, without guidance, on ``device``, where the network is.

    The first calls compile and allocate for the shape, so they do not count; each counted call waits until the device
    has finished. Nothing else should run meanwhile: on a CPU that is busy with other things, and with one torch thread,
    ``clock=time.thread_time_ns`` leaves out what other processes took. ``repeats`` is 2 or more.
    """
    call = DenoiserCall(network, shape, batch, device)
    for _ in range(WARM_UP_CALLS):
        call()
    return _summarise([call.time(clock) for _ in range(repeats)])


def compare_latency(
    genomes: Sequence[ArchitectureGenome],
    shape: ImageShape,
    batch: int,
    calibration: Calibration,
    *,
    device: str = "cpu",
    turns: int = 10,
    clock: Callable[[], int] = time.perf_counter_ns,
    seed: int = 0,
) -> LatencyComparison:
    """Predict the latency of every genome's network and measure it, two or more of them, in interleaved turns.

    ``seed`` draws the bootstrap samples.
    """
    predicted = [predict_ms(operations(resolve(genome, shape), batch), calibration) for genome in genomes]
    calls = [
        DenoiserCall(build_network(genome, shape, seed=0).to(device).eval(), shape, batch, device) for genome in genomes
    ]
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(turns):
        for call, times in zip(calls, samples, strict=True):
            call()
            times.extend(call.time(clock) for _ in range(CALLS_A_TURN - 1))
    measured = [_summarise(times) for times in samples]
    return judge_predictions(predicted, measured, seed=seed)


def _summarise(times: Sequence[float]) -> LatencyMeasurement:
    low, median, high = statistics.quantiles(times, n=4)
    return LatencyMeasurement(median, low, high, len(times))


def judge_predictions(
    predicted_ms: Sequence[float], measured: Sequence[LatencyMeasurement], *, seed: int = 0
) -> LatencyComparison:
    """Compare predicted with measured latencies of the same candidates; ``seed`` draws the bootstrap samples."""
    predicted = np.array(predicted_ms, dtype=np.float64)
    rng = np.random.default_rng(seed)
    medians = np.array([item.median_ms for item in measured])
    drawn = rng.integers(0, len(predicted), (BOOTSTRAP_SAMPLES, len(predicted)))
    interval = {}
    for name, statistic in (("rank_correlation", rank_correlation), ("median_error", median_error)):
        values = [statistic(predicted[rows], medians[rows]) for rows in drawn]
        low, high = np.nanquantile(values, (0.025, 0.975))
        interval[name] = (float(low), float(high))
    return LatencyComparison(
        tuple(predicted.tolist()),
        tuple(measured),
        rank_correlation(predicted, medians),
        median_error(predicted, medians),
        interval,
    )


def median_error(predicted: Array, measured: Array) -> float:
    """Return the median of |predicted / measured - 1|."""
    return float(np.median(np.abs(predicted / measured - 1)))


def rank_correlation(first: Array, second: Array) -> float:
    """Return Spearman's correlation of two (n,) arrays, with mean ranks for ties; NaN where either is constant."""
    ranks = [_mean_ranks(values) for values in (first, second)]
    deviations = [values - values.mean() for values in ranks]
    scale = float(np.sqrt((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum()))
    return float((deviations[0] * deviations[1]).sum()) / scale if scale else float("nan")


def _mean_ranks(values: Array) -> Array:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last: Array = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]
