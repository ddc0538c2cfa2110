"""The parameters of a network in few long tensors, so that an optimiser's step is few operations.

A small network has a hundred parameters of a few kilobytes, and a call per parameter for the gradient's norm, the
moments and the average costs more than the arithmetic. Parameters of one learning rate lie one after another in one
tensor; the network's own parameters become views into it, and their gradients views into its gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ALIGNMENT = 16  # elements, 64 bytes: every view begins where a tensor of its own would, for the vector units


class FlatParameters:
    """The parameters of ``network``, grouped by ``keys`` (a number for each parameter's name).

    ``groups`` maps each key, in rising order, to one long parameter with its gradient.
    """

    def __init__(self, network: nn.Module, keys: Mapping[str, float]) -> None:
        self._parameters = dict(network.named_parameters())
        self._places: dict[str, tuple[int, int]] = {}  # name -> (group, offset)
        self.groups: dict[float, nn.Parameter] = {}
        for index, key in enumerate(sorted(set(keys.values()))):
            names = [name for name in self._parameters if keys[name] == key]
            self.groups[key] = self._gather(index, names)
        for name, view in self.views([_gradient(group) for group in self.groups.values()]).items():
            self._parameters[name].grad = view

    def views(self, long_tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Cut tensors as long as the groups, one a group, into views by parameter name and shape."""
        return {
            name: _cut(long_tensors[self._places[name][0]], self._places[name][1], parameter.shape)
            for name, parameter in self._parameters.items()
        }

    def zero_gradients(self) -> None:
        """Set all gradients to zero, in place."""
        torch._foreach_zero_([_gradient(group) for group in self.groups.values()])

    def release(self) -> None:
        """Give the network's parameters memory of their own again, and no gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None
            parameter.data = parameter.data.clone()

    def _gather(self, index: int, names: list[str]) -> nn.Parameter:
        offset = 0
        for name in names:
            self._places[name] = index, offset
            offset += -(-self._parameters[name].numel() // _ALIGNMENT) * _ALIGNMENT
        first = self._parameters[names[0]]
        long = torch.zeros(offset, dtype=first.dtype, device=first.device)
        for name in names:
            parameter = self._parameters[name]
            view = _cut(long, self._places[name][1], parameter.shape)
            view.copy_(parameter.data)
            parameter.data = view
        group = nn.Parameter(long)
        group.grad = torch.zeros_like(long)
        return group


def _cut(long: Tensor, offset: int, shape: torch.Size) -> Tensor:
    return long[offset : offset + shape.numel()].view(shape)


def _gradient(group: nn.Parameter) -> Tensor:
    assert group.grad is not None
    return group.grad
