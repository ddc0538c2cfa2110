"""The choice of a device."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from evodiff.errors import SettingsError
from evodiff.workers import choose_device


def test_auto_takes_what_torch_finds_mps_first() -> None:
    expected = "mps" if torch.backends.mps.is_available() else "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto") == expected


def test_a_named_device_is_taken_at_its_word() -> None:
    assert choose_device("cpu") == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_here_is_an_error_that_names_what_is() -> None:
    with pytest.raises(SettingsError, match=r"cuda was asked for.*finds only.*cpu"):
        choose_device("cuda")


def test_an_unknown_device_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="mps, cuda, cpu, found 'tpu'"):
        choose_device("tpu")


def test_choosing_the_cpu_and_importing_the_pool_need_no_torch() -> None:
    program = (
        "import sys; from evodiff.workers import WorkerPool, choose_device; choose_device('cpu'); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
