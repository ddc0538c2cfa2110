"""Folders to serve: small networks with weights drawn by chance, written as `evodiff export` writes them."""

from __future__ import annotations

from pathlib import Path

import torch

from evodiff.architecture.genome import ImageShape
from evodiff.architecture.network import build_network
from evodiff.architecture.pipeline_folder import write_pipeline_folder
from evodiff.architecture.zoo import ddpm_unet

SHAPE = ImageShape(channels=1, size=8, classes=10)


def write_model(folder: Path, *, seed: int = 0, shape: ImageShape = SHAPE, **changes: float) -> Path:
    """Write a model; ``changes`` are values with which whole tensors are filled, dots in their names as ``__``."""
    network = build_network(ddpm_unet(shape, "ddpm_unet_small"), shape, seed=seed)
    chance = torch.Generator().manual_seed(seed)
    weights = {
        name: tensor + 0.05 * torch.randn(tensor.shape, generator=chance)
        for name, tensor in network.state_dict().items()
    }
    for name, value in changes.items():
        weights[name.replace("__", ".")].fill_(value)
    write_pipeline_folder(
        folder,
        {name: tensor.numpy() for name, tensor in weights.items()},
        network.genome.to_json(),
        shape,
        prediction="v_prediction",
        noise_schedule="linear",
    )
    return folder


def write_blank_model(folder: Path) -> Path:
    """Write a model whose output is the same everywhere, so large that every image is black."""
    return write_model(folder, output__conv__weight=0.0, output__conv__bias=1e4)
