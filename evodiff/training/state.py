"""All that a training needs to go on: weights, their average, the optimiser's moments, and the losses so far."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A training after ``step`` steps, as tensors on the CPU that share no memory with it.

    Names are "PART/NAME": ``weights/NAME`` (the network's state), and for every parameter ``average/NAME`` and the
    optimiser's ``moment1/NAME`` and ``moment2/NAME``; ``losses/all`` is (step,) float32.
    """

    step: int
    tensors: Mapping[str, Tensor]

    def part(self, part: str) -> dict[str, Tensor]:
        """Return one part's tensors by their own names."""
        prefix = f"{part}/"
        return {name.removeprefix(prefix): tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def capture(network: nn.Module, parts: Mapping[str, Mapping[str, Tensor]], losses: list[float]) -> TrainingState:
    """Copy a training's state out of the network and the other ``parts`` (tensors by part and parameter name)."""
    whole = {"weights": network.state_dict(), **parts, "losses": {"all": torch.tensor(losses, dtype=torch.float32)}}
    return TrainingState(
        len(losses),
        {f"{part}/{name}": own_copy(tensor) for part, tensors in whole.items() for name, tensor in tensors.items()},
    )


@torch.no_grad()
def restore(state: TrainingState, network: nn.Module, parts: Mapping[str, Mapping[str, Tensor]]) -> list[float]:
    """Put a state back into its places, and return the losses so far."""
    network.load_state_dict(state.part("weights"))
    for part, tensors in parts.items():
        for name, tensor in state.part(part).items():
            tensors[name].copy_(tensor)
    losses: list[float] = state.tensors["losses/all"].tolist()
    return losses


def own_copy(tensor: Tensor) -> Tensor:
    """Return a contiguous copy on the CPU."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
