"""Predicted latency."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evodiff.errors import SettingsError
from evodiff.hardware import Calibration, Operation, Timing, predict_ms, roofline, target_profile
from evodiff.hardware import operation as op
from evodiff.hardware.design import pages

M1 = target_profile("m1")


def synthetic(milliseconds, noise: float = 0.0) -> Calibration:
    """A calibration of a machine that takes ``milliseconds(operation)``, times log-normal noise."""
    rng = random.Random(0)
    timings = [Timing(item, milliseconds(item) * math.exp(rng.gauss(0, noise))) for page in pages() for item in page]
    return Calibration("cpu", "a machine of the test", "", timings=tuple(timings))


def ideal(item: Operation) -> float:
    """A machine of 0.1 TFLOPS and 10 GB/s that needs 5 microseconds a call."""
    return 5e-3 + item.flops / 1e8 + (item.read_bytes + item.write_bytes) / 1e7


def test_a_large_operation_takes_its_arithmetic_on_a_profile():
    item = op.conv(8, 256, 256, 64, 3)
    expected = M1.dispatch_us / 1e3 + item.flops / M1.flops_per_ms
    assert predict_ms([item], roofline(M1)) == pytest.approx(expected, rel=1e-5)


def test_an_operation_without_arithmetic_takes_its_memory_traffic_on_a_profile():
    item = op.pointwise("elementwise", "add", 64, 256, 64)
    expected = M1.dispatch_us / 1e3 + (item.read_bytes + item.write_bytes) / M1.bytes_per_ms
    assert predict_ms([item], roofline(M1)) == pytest.approx(expected, rel=1e-5)


def test_latencies_of_a_sequence_add_up(measured):
    items = [op.conv(8, 32, 32, 8, 3), op.pointwise("norm", "group", 8, 32, 8), op.linear(8, 32, 64)]
    total = predict_ms(items, measured)
    assert total == pytest.approx(sum(predict_ms([item], measured) for item in items), rel=1e-5)
    assert predict_ms([], measured) == 0


def test_an_ideal_machine_is_predicted_almost_exactly():
    calibration = synthetic(ideal)
    for item in [op.conv(8, 72, 56, 12, 3), op.linear(8, 100, 300), op.pointwise("norm", "rms", 8, 72, 20)]:
        assert predict_ms([item], calibration) == pytest.approx(ideal(item), rel=0.15)


def test_far_beyond_the_timed_shapes_the_roofline_goes_on():
    item = op.conv(8, 1024, 1024, 64, 3)
    assert predict_ms([item], synthetic(ideal)) == pytest.approx(ideal(item), rel=0.15)


def test_noise_of_the_timings_is_averaged_out():
    noisy = synthetic(ideal, noise=0.2)
    items = [item for page in pages() for item in page if item.kind == "conv"]
    error = sum(predict_ms([item], noisy) for item in items) / sum(map(ideal, items)) - 1
    assert abs(error) < 0.05


def test_what_the_roofline_cannot_know_is_learnt_from_neighbours():
    def slow_where_narrow(item: Operation) -> float:
        return ideal(item) * (2.5 if item.in_channels <= 32 else 1.0)

    calibration = synthetic(slow_where_narrow)
    for channels in (16, 128):
        item = op.conv(8, channels, 64, 16, 3)
        assert predict_ms([item], calibration) == pytest.approx(slow_where_narrow(item), rel=0.3)


@settings(max_examples=60, deadline=None)
@given(
    channels=st.sampled_from([8, 16, 24, 48, 96, 160]),
    size=st.sampled_from([4, 8, 16, 32]),
    kernel=st.sampled_from([1, 3, 5]),
)
def test_much_more_work_never_takes_less_time(measured, channels, size, kernel):
    small = op.conv(8, channels, channels, size, kernel)
    large = op.conv(8, 4 * channels, 4 * channels, size, kernel)
    finer = op.conv(8, channels, channels, 4 * size, kernel)
    assert 0 < predict_ms([small], measured) < predict_ms([large], measured)
    assert predict_ms([small], measured) < predict_ms([finer], measured)


def test_predictions_do_not_depend_on_what_was_asked_before(measured):
    items = [op.conv(8, 24, 40, 8, 3), op.conv(8, 40, 24, 8, 3), op.attention("full", 8, 40, 8, 4)]
    fresh = Calibration.from_json(measured.to_json())
    assert predict_ms(items, measured) == predict_ms(items[::-1], fresh) == predict_ms(items, fresh)


def test_a_kind_that_was_never_timed_is_an_error_with_a_remedy():
    only = Calibration("cpu", "", "", timings=(Timing(op.conv(8, 32, 32, 8, 3), 0.1),))
    assert predict_ms([op.conv(8, 32, 32, 8, 3)], only) == pytest.approx(0.1)
    with pytest.raises(SettingsError, match=r"'linear'.*larger budget"):
        predict_ms([op.linear(8, 32, 32)], only)


def test_an_empty_calibration_predicts_nothing():
    with pytest.raises(SettingsError, match="empty"):
        predict_ms([op.linear(8, 32, 32)], Calibration("cpu", "", ""))
