"""Images from exported folders, sound and damaged ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evodiff.architecture.export import export_pipeline
from evodiff.architecture.genome import ImageShape
from evodiff.architecture.network import build_network
from evodiff.architecture.zoo import tiny
from evodiff.errors import LedgerError, SettingsError
from evodiff.pipeline.export import LARGEST_SEED, sample_folder

DIGITS = ImageShape(1, 8, 10)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_pipeline(
        build_network(tiny(DIGITS), DIGITS, seed=1).eval(), tmp_path_factory.mktemp("export") / "tiny"
    )


def emptied(path: Path) -> None:
    path.write_text("{}")


def garbled(path: Path) -> None:
    path.write_bytes(b"\xff{")


INDEX, NETWORK, SCHEDULER = "model_index.json", "unet/config.json", "scheduler/scheduler_config.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
DAMAGE = [
    *((name, damage) for name in (NETWORK, WEIGHTS) for damage in (emptied, garbled, Path.unlink)),
    (INDEX, emptied),
    (INDEX, garbled),
    (SCHEDULER, garbled),
    (SCHEDULER, Path.unlink),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE)
def test_a_damaged_folder_is_no_pipeline_and_is_to_be_exported_again(
    name: str, damage: Callable[[Path], None], exported: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(exported, tmp_path / "damaged")
    damage(folder / name)
    with pytest.raises(LedgerError, match="not a pipeline that evodiff can load") as caught:
        sample_folder(folder, 1, steps=2)
    assert "evodiff export" in caught.value.remedy


def test_seeds_reach_as_far_as_those_of_torch(exported: Path) -> None:
    assert sample_folder(exported, 2, seed=LARGEST_SEED, steps=2).shape == (2, 8, 8, 1)
    for seed in (2**64, LARGEST_SEED + 1, -1):
        with pytest.raises(SettingsError, match="seed: expected 0 to"):
            sample_folder(exported, 1, seed=seed, steps=2)
