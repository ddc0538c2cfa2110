"""Measured latency, and its comparison with predictions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from evodiff.architecture.genome import ImageShape
from evodiff.architecture.network import build_network
from evodiff.architecture.zoo import zoo
from evodiff.evaluation.latency import (
    LatencyMeasurement,
    compare_latency,
    judge_predictions,
    measure_latency_ms,
    rank_correlation,
)
from evodiff.hardware import roofline, target_profile

SHAPE = ImageShape(1, 8, 10)


class Recorder(torch.nn.Module):
    """A network that notes what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[torch.Size, torch.Size, torch.Tensor | None, bool]] = []

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        self.calls.append((x_t.shape, t.shape, labels, torch.is_grad_enabled()))
        return x_t


def test_a_call_is_one_unguided_batch_without_gradients():
    network = Recorder()
    measure_latency_ms(network, SHAPE, 4, repeats=3)
    shapes, steps, labels, gradients = zip(*network.calls, strict=True)
    assert set(shapes) == {(4, 1, 8, 8)}
    assert set(steps) == {(4,)}
    assert all(item.shape == (4,) for item in labels)
    assert not any(gradients)
    assert len(network.calls) > 3  # warm-up calls do not count


def test_a_network_without_classes_gets_no_labels():
    network = Recorder()
    measure_latency_ms(network, ImageShape(3, 16), 2, repeats=2)
    assert all(labels is None for _, _, labels, _ in network.calls)


def test_median_and_quartiles_are_those_of_the_clock():
    # Two readings a call; calls take 1, 2, 3, 4, 5 ms.
    readings = itertools.chain.from_iterable((0, n * 1_000_000) for n in range(1, 6))
    result = measure_latency_ms(Recorder(), SHAPE, 2, repeats=5, clock=lambda: next(readings))
    assert result == LatencyMeasurement(median_ms=3.0, low_ms=1.5, high_ms=4.5, repeats=5)


def test_a_real_network_takes_some_time():
    network = build_network(zoo(SHAPE)["tiny"], SHAPE, seed=0)
    result = measure_latency_ms(network, SHAPE, 8, repeats=4)
    assert 0 < result.low_ms <= result.median_ms <= result.high_ms


def test_prediction_and_measurement_of_candidates_are_compared():
    genomes = [zoo(SHAPE)[name] for name in ("tiny", "ddpm_unet_small", "ddpm_unet_deep")]
    result = compare_latency(genomes, SHAPE, 8, roofline(target_profile("cpu")), turns=2)
    assert list(result.predicted_ms) == sorted(result.predicted_ms)
    assert all(item.repeats == 4 for item in result.measured)
    assert result == judge_predictions(result.predicted_ms, result.measured)


def test_errors_are_relative_to_what_was_measured():
    measured = [LatencyMeasurement(value, value, value, 2) for value in (1.0, 2.0, 4.0)]
    result = judge_predictions([1.1, 1.0, 4.0], measured)
    assert result.median_error == pytest.approx(0.1)
    assert result.rank_correlation == pytest.approx(0.5)
    low, high = result.interval["median_error"]
    assert low <= result.median_error <= high


def test_rank_correlation_is_spearmans_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 6, (2, 12)).astype(float)
        assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
