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

    Names are "PART/NAME": ``weights/NAME`` (the network's state), ``average/NAME``, and the optimiser's
    ``moment1/NAME``, ``moment2/NAME``, ``updates/NAME`` (a scalar count; a parameter that never had a gradient has none
    of the three); ``losses/all`` is (step,) float32.
    """

    step: int
    tensors: Mapping[str, Tensor]

    def part(self, part: str) -> dict[str, Tensor]:
        """Return one part's tensors by their own names."""
        prefix = f"{part}/"
        return {name.removeprefix(prefix): tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def capture(
    network: nn.Module, average: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, losses: list[float]
) -> TrainingState:
    """Copy a training's state out of its parts."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        tensors[f"weights/{name}"] = tensor
    for name, tensor in average.items():
        tensors[f"average/{name}"] = tensor
    for name, parameter in network.named_parameters():
        moments = optimizer.state.get(parameter)
        if moments:
            tensors[f"moment1/{name}"] = moments["exp_avg"]
            tensors[f"moment2/{name}"] = moments["exp_avg_sq"]
            tensors[f"updates/{name}"] = moments["step"]
    tensors["losses/all"] = torch.tensor(losses, dtype=torch.float32)
    return TrainingState(len(losses), {name: own_copy(tensor) for name, tensor in tensors.items()})


@torch.no_grad()
def restore(
    state: TrainingState, network: nn.Module, average: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> list[float]:
    """Put a state back into its parts, in place, and return the losses so far."""
    network.load_state_dict(state.part("weights"))
    for name, tensor in state.part("average").items():
        average[name].copy_(tensor)
    first, second, updates = state.part("moment1"), state.part("moment2"), state.part("updates")
    for name, parameter in network.named_parameters():
        if name in first:
            count_device = parameter.device  # the fused kernel keeps its counts beside the weights
            optimizer.state[parameter] = {
                "step": updates[name].clone().to(count_device),
                "exp_avg": torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(first[name]),
                "exp_avg_sq": torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(second[name]),
            }
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
