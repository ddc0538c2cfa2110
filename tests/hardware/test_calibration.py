"""Calibrations: made on this machine, stored, and read again."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
import torch

from evodiff.errors import SettingsError
from evodiff.hardware import (
    KINDS,
    Calibration,
    Timing,
    calibrate,
    calibration_path,
    load_or_calibrate,
    predict_ms,
    roofline,
    target_profile,
)
from evodiff.hardware import operation as op
from evodiff.hardware.calibration import FORMAT


def test_a_tiny_budget_times_every_kind_of_operation(measured):
    assert {item.operation.kind for item in measured.timings} == set(KINDS)
    assert all(1e-4 < item.milliseconds < 1e4 for item in measured.timings)


def test_a_calibration_says_what_it_was_made_on(measured):
    assert measured.device == "cpu"
    assert measured.device_name
    assert measured.torch_version == torch.__version__
    assert measured.threads == 1
    assert measured.measured


def test_calibrating_leaves_the_threads_of_torch_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        calibrate("cpu", budget_seconds=0.01)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_progress_goes_from_little_to_all_and_never_back():
    shares: list[float] = []
    calibrate("cpu", budget_seconds=0.05, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_json_and_back_is_the_same_calibration(measured):
    data = json.loads(json.dumps(measured.to_json()))
    again = Calibration.from_json(data)
    assert again == measured
    assert again.digest == data["digest"] == measured.digest
    item = op.conv(8, 24, 40, 8, 3)
    assert predict_ms([item], again) == predict_ms([item], measured)


def test_a_profile_survives_json():
    target = roofline(target_profile("m3-max"))
    assert Calibration.from_json(target.to_json()) == target
    assert not target.measured


def test_another_timing_is_another_digest(measured):
    first = measured.timings[0]
    slower = Timing(first.operation, 2 * first.milliseconds)
    assert replace(measured, timings=(slower, *measured.timings[1:])).digest != measured.digest


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data | {"format": 99},
        lambda data: data | {"threads": 7},
        lambda data: {name: value for name, value in data.items() if name != "timings"},
        lambda data: data | {"timings": [{"operation": {"kind": "conv", "shape": 3}, "milliseconds": 1}]},
        lambda data: [],
        lambda data: None,
    ],
)
def test_a_damaged_calibration_is_refused_with_the_remedy(damage):
    with pytest.raises(SettingsError, match="evodiff calibrate"):
        Calibration.from_json(damage(roofline(target_profile("m1")).to_json()))


def test_a_stored_calibration_is_read_and_not_measured_again(tmp_path):
    first = load_or_calibrate(tmp_path, "cpu", budget_seconds=0.05)
    assert load_or_calibrate(tmp_path, "cpu", budget_seconds=0.05) == first
    assert [path.name for path in tmp_path.rglob("*.json")] == [calibration_path(tmp_path, "cpu").name]


def test_a_refreshed_calibration_replaces_the_stored_one(tmp_path):
    load_or_calibrate(tmp_path, "cpu", budget_seconds=0.05)
    fresh = load_or_calibrate(tmp_path, "cpu", budget_seconds=0.05, refresh=True)
    assert load_or_calibrate(tmp_path, "cpu", budget_seconds=0.05) == fresh


def test_a_damaged_file_is_measured_anew_with_a_warning(tmp_path):
    path = calibration_path(tmp_path, "cpu")
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 1, "timings"', encoding="utf-8")
    with pytest.warns(UserWarning, match="measured anew"):
        fresh = load_or_calibrate(tmp_path, "cpu", budget_seconds=0.05)
    assert Calibration.from_json(json.loads(path.read_text(encoding="utf-8"))) == fresh


def test_a_table_of_an_older_format_is_readable_but_measured_anew_where_it_is_cached(measured, tmp_path):
    older = replace(measured, format=1)
    assert Calibration.from_json(older.to_json()) == older != measured
    path = calibration_path(tmp_path, "cpu")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(older.to_json()), encoding="utf-8")
    with pytest.warns(UserWarning, match="format 1"):
        fresh = load_or_calibrate(tmp_path, "cpu", budget_seconds=0.05)
    assert fresh.format == Calibration.from_json(json.loads(path.read_text(encoding="utf-8"))).format == FORMAT


def test_of_two_that_calibrate_at_once_both_get_the_same_table(tmp_path):
    results: list[Calibration] = []
    together = threading.Barrier(2)

    def work() -> None:
        together.wait()
        results.append(load_or_calibrate(tmp_path, "cpu", budget_seconds=0.05))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]
    assert not list(tmp_path.rglob("*.part"))
