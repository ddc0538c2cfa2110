"""Small denoisers and images for the tests of training."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from evodiff.sampling.noise import NoiseSchedule
from evodiff.settings import TrainingSettings

sys.path.insert(0, str(Path(__file__).parent))

from small_denoiser import small_images, small_labels


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def schedule() -> NoiseSchedule:
    return NoiseSchedule.named("linear")


@pytest.fixture
def settings() -> TrainingSettings:
    return TrainingSettings(batch_size=8, warmup_steps=3)


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    return small_images()


@pytest.fixture(scope="session")
def labels() -> torch.Tensor:
    return small_labels()
