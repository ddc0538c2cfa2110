"""What is known of targets without measuring."""

from __future__ import annotations

import pytest

from evodiff.errors import SettingsError
from evodiff.hardware import TARGETS, physical_memory_mb, target_profile, working_set_mb


def test_sustained_speed_is_a_share_of_the_peak():
    m1 = TARGETS["m1"]
    assert m1.flops_per_ms == pytest.approx(0.6 * 2.6e12 / 1e3)
    assert m1.bytes_per_ms == pytest.approx(0.8 * 68e9 / 1e3)


@pytest.mark.parametrize(
    ("name", "memory_gb", "share"), [("m1", 8, 0.66), ("m1", 16, 0.74), ("m1-max", 64, 0.74), ("m2-max", 96, 0.84)]
)
def test_the_working_set_leaves_memory_to_the_system(name, memory_gb, share):
    assert TARGETS[name].working_set_mb(memory_gb) == pytest.approx(share * memory_gb * 1e3)


def test_the_working_set_of_a_profile_is_that_of_its_largest_configuration():
    assert working_set_mb("m2-ultra") == pytest.approx(0.84 * 192e3)
    assert working_set_mb("cuda") == TARGETS["cuda"].memory_gb * 1e3


def test_the_working_set_of_this_machine_is_its_memory():
    assert 100 < working_set_mb() == physical_memory_mb() < 1e8


@pytest.mark.parametrize("spelling", ["m2-pro", "M2 Pro", "Apple M2 Pro", "m2_pro "])
def test_a_target_may_be_spelt_as_its_maker_does(spelling):
    assert target_profile(spelling) is TARGETS["m2-pro"]


def test_an_unknown_target_is_refused_with_the_names_there_are():
    with pytest.raises(SettingsError, match=r"Unknown target 'm9'.*m4-max.*evodiff calibrate"):
        target_profile("m9")


@pytest.mark.parametrize("generation", ["m1", "m2", "m3", "m4"])
def test_a_larger_chip_of_a_generation_is_no_slower_than_a_smaller(generation):
    chips = [TARGETS[name] for name in (generation, f"{generation}-pro", f"{generation}-max")]
    assert sorted(chip.flops_per_ms for chip in chips) == [chip.flops_per_ms for chip in chips]
    assert sorted(chip.bytes_per_ms for chip in chips) == [chip.bytes_per_ms for chip in chips]
