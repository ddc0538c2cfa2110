"""Predicted latency: from a calibration to the milliseconds of any list of operations.

For a measured target, each group of operations (:func:`evodiff.hardware.design.group`) has a model of two parts:

1. A roofline with overhead, t0 = a + b flops + c padding + d activation bytes + e parameter bytes with a to e >= 0,
   fitted to the group's timings by least squares of relative errors. Padding is the flops that are lost where channels
   do not fill whole vectors of 16.
2. A Gaussian process (Rasmussen and Williams 2006, eq. 2.25) for log(t / t0) over the logarithms of the shape, with an
   exponential kernel whose length and noise are chosen by leave-one-out error (ibid., eq. 5.12). Near timed shapes it
   interpolates; far from all of them it fades, and the roofline remains.

The latency of a network is the sum over its operations. For a target known by its profile alone, an operation takes its
dispatch and the larger of arithmetic and memory traffic at sustained speed (Williams et al. 2009, Roofline).
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no type information

from evodiff.errors import SettingsError
from evodiff.hardware.design import Group, group
from evodiff.hardware.operation import FLOAT_BYTES, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evodiff.hardware.calibration import Calibration, Timing
    from evodiff.hardware.profiles import TargetProfile

Array = NDArray[np.float64]

VECTOR: Final = 16
LENGTHS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
NOISES: Final = (0.01, 0.05, 0.2, 1.0)
# A group with fewer timings is predicted by its roofline alone.
FEWEST_TIMINGS: Final = 6
# No shape is believed to run this many times faster or slower than the roofline of its group.
LARGEST_FACTOR: Final = 4.0
# How far the two memory formats are from each other, in doublings of a size.
FORMAT_DISTANCE: Final = 3.0
# What an operation of several calls issues, and how often it passes over its tensor, next to one.
CALLS: Final = {
    ("attention", "linear"): 5,
    ("attention", "full"): 2,
    ("norm", "rms"): 6,
    ("norm", "group"): 2,
    ("elementwise", "scale_shift"): 2,
    ("embedding", "sinusoid"): 7,
    ("embedding", "class"): 2,
    ("stem", ""): 2,
}


def predict_ms(operations: Iterable[Operation], calibration: Calibration) -> float:
    """Return the milliseconds that ``operations``, one after the other, take on the target of ``calibration``.

    The same operations and the same calibration give the same number: it is rounded to 6 digits, which the last bits of
    another processor's arithmetic do not reach.
    """
    model = _model(calibration)
    return float(f"{math.fsum(model.milliseconds(item) for item in operations):.6g}")


class RooflineModel:
    """Latency from a profile."""

    def __init__(self, profile: TargetProfile) -> None:
        self._profile = profile

    def milliseconds(self, operation: Operation) -> float:
        """Return the predicted latency of one operation."""
        calls = CALLS.get(operation.key, 1)
        traffic = calls * (operation.read_bytes + operation.write_bytes) / self._profile.bytes_per_ms
        arithmetic = operation.flops / self._profile.flops_per_ms
        return calls * self._profile.dispatch_us / 1e3 + max(arithmetic, traffic)


class TableModel:
    """Latency from timings. Groups are fitted when they are first asked for, and predictions are remembered."""

    def __init__(self, timings: Iterable[Timing]) -> None:
        self._timings: dict[Group, list[Timing]] = defaultdict(list)
        for timing in timings:
            self._timings[group(timing.operation)].append(timing)
        self._models: dict[Group, GroupModel] = {}
        self._known: dict[Operation, float] = {}

    def milliseconds(self, operation: Operation) -> float:
        """Return the predicted latency of one operation.

        Raises:
            SettingsError: nothing of its kind was timed.
        """
        known = self._known.get(operation)
        if known is None:
            key = group(operation)
            model = self._models.get(key)
            if model is None:
                # The matrices are small: several threads would only wait for each other, for seconds on a busy machine.
                with threadpool_limits(1, user_api="blas"):
                    model = self._models[key] = GroupModel(self._members(key))
            known = self._known[operation] = model.milliseconds(operation)
        return known

    def _members(self, key: Group) -> list[Timing]:
        """Return the timings of a group, or of all of its kind where the group has none."""
        kind = key[0]
        members = self._timings.get(key) or [
            timing for other, timings in self._timings.items() if other[0] == kind for timing in timings
        ]
        if not members:
            raise SettingsError(
                f"No timing of {kind!r} in the calibration.", remedy="Run `evodiff calibrate` with a larger budget."
            )
        return members


class GroupModel:
    """Latency of one group of operations: a fitted roofline times a Gaussian process's factor."""

    def __init__(self, timings: list[Timing]) -> None:
        work = np.array([_work(timing.operation) for timing in timings])
        milliseconds = np.array([timing.milliseconds for timing in timings])
        self._coefficients = _nonnegative_fit(work / milliseconds[:, None])
        self._shapes = np.array([_shape(timing.operation) for timing in timings])
        log_factor = np.log(milliseconds / (work @ self._coefficients))
        self._length, self._weights = _gaussian_process(self._shapes, log_factor)

    def milliseconds(self, operation: Operation) -> float:
        """Return the predicted latency of one operation."""
        base = float(np.sum(np.array(_work(operation)) * self._coefficients))
        distances = np.abs(self._shapes - np.array(_shape(operation))).sum(axis=1)
        log_factor = float(np.sum(np.exp(-distances / self._length) * self._weights))
        limit = math.log(LARGEST_FACTOR)
        return base * math.exp(min(limit, max(-limit, log_factor)))


@lru_cache(maxsize=16)
def _model(calibration: Calibration) -> RooflineModel | TableModel:
    if calibration.timings:
        return TableModel(calibration.timings)
    if calibration.profile is None:
        raise SettingsError("The calibration is empty.", remedy="Run `evodiff calibrate`, or name a target's profile.")
    return RooflineModel(calibration.profile)


def _work(operation: Operation) -> tuple[float, ...]:
    """Return 1, flops, flops that padding adds, bytes of activations, and bytes of parameters (or attention scores)."""
    traffic = operation.read_bytes + operation.write_bytes
    if operation.kind in ("conv", "stem", "linear"):
        channels = operation.in_channels * operation.out_channels
        padded = _whole_vectors(operation.in_channels) * _whole_vectors(operation.out_channels)
        parameters = FLOAT_BYTES * channels * operation.kernel**2
        return 1.0, operation.flops, operation.flops * (padded / channels - 1), traffic - parameters, parameters
    if operation.kind == "attention":
        positions = operation.size**2
        across = positions if operation.variant == "full" else operation.in_channels // operation.heads
        scores = FLOAT_BYTES * operation.batch * operation.heads * positions * across
        return 1.0, operation.flops, 0.0, traffic, scores
    return 1.0, operation.flops, 0.0, traffic, 0.0


def _whole_vectors(channels: int) -> int:
    return -(-channels // VECTOR) * VECTOR


def _shape(operation: Operation) -> tuple[float, ...]:
    """Return an operation's coordinates among those of its group: logarithms, and whether channels fill vectors."""
    return (
        math.log2(operation.batch),
        math.log2(operation.in_channels),
        math.log2(operation.out_channels),
        math.log2(operation.size),
        math.log2(operation.heads),
        float(operation.in_channels % VECTOR == 0),
        float(operation.out_channels % VECTOR == 0),
        FORMAT_DISTANCE * operation.channels_last,
    )


def _nonnegative_fit(rows: Array) -> Array:
    """Return w >= 0 that minimises |rows w - 1|: the best of the fits to subsets of columns that are nonnegative."""
    columns = [index for index in range(rows.shape[1]) if np.any(rows[:, index])]
    best, best_error = np.zeros(rows.shape[1]), math.inf
    scale = np.where(rows.max(axis=0) > 0, rows.max(axis=0), 1.0)
    for count in range(1, len(columns) + 1):
        for chosen in map(list, combinations(columns, count)):
            solution = np.linalg.lstsq(rows[:, chosen] / scale[chosen], np.ones(len(rows)), rcond=None)[0]
            error = float(np.sum((rows[:, chosen] / scale[chosen] @ solution - 1) ** 2))
            if np.all(solution >= 0) and error < best_error * (1 - 1e-9):
                best = np.zeros(rows.shape[1])
                best[chosen] = solution / scale[chosen]
                best_error = error
    return best


def _gaussian_process(shapes: Array, values: Array) -> tuple[float, Array]:
    """Return length and weights of the process with the smallest mean leave-one-out error."""
    if len(values) < FEWEST_TIMINGS:
        return 1.0, np.zeros(len(values))
    distances = np.abs(shapes[:, None] - shapes[None]).sum(axis=-1)
    best_error, best = float(np.mean(np.abs(values))), (1.0, np.zeros(len(values)))
    for length in LENGTHS:
        spectrum, basis = np.linalg.eigh(np.exp(-distances / length))
        rotated = basis.T @ values
        for noise in NOISES:
            weights = basis @ (rotated / (spectrum + noise))
            error = float(np.mean(np.abs(weights / ((basis**2) @ (1 / (spectrum + noise))))))
            if error < best_error * (1 - 1e-9):
                best_error, best = error, (length, weights)
    return best
