"""Measured latency: one denoiser call at the serving batch, on the device at hand."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from evodiff.sampling import initial_noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from evodiff.architecture.genome import ImageShape

WARM_UP_CALLS = 5


@dataclass(frozen=True)
class LatencyMeasurement:
    """Milliseconds of repeated calls: their median, and the quartiles around it."""

    median_ms: float
    low_ms: float
    high_ms: float
    repeats: int


@torch.inference_mode()
def measure_latency_ms(
    network: nn.Module, shape: ImageShape, batch: int, device: str = "cpu", *, repeats: int = 20
) -> LatencyMeasurement:
    """Time ``network(x_t, t, labels)`` for ``batch`` images, without guidance, on ``device``, where the network is.

    The first calls compile and allocate for the shape, so they do not count; each counted call waits until the device
    has finished. Nothing else should run meanwhile.
    """
    x_t = initial_noise(0, batch, (shape.channels, shape.size, shape.size)).to(device)
    t = torch.full((batch,), 500, dtype=torch.long, device=device)
    labels = torch.arange(batch, device=device) % shape.classes if shape.classes else None
    synchronise = _synchroniser(device)
    for _ in range(WARM_UP_CALLS):
        network(x_t, t, labels)
    synchronise()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        network(x_t, t, labels)
        synchronise()
        times.append(1e3 * (time.perf_counter() - started))
    low, median, high = statistics.quantiles(times, n=4)
    return LatencyMeasurement(median, low, high, repeats)


def _synchroniser(device: str) -> Callable[[], None]:
    if device.startswith("cuda"):
        return torch.cuda.synchronize
    if device.startswith("mps"):
        return torch.mps.synchronize
    return lambda: None
