"""The weights of one module of a child out of those of its counterpart in a parent, part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from evodiff.architecture.widening import (
    NEW,
    ChannelMap,
    inherited_matrix,
    inherited_rows,
    resized_kernel,
    stacked,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

Kind = Literal["copied", "widened", "overlapped", "new"]


class Transfer:
    """Takes over the parts of one module and keeps count.

    ``child`` and ``parent`` hold the tensors of the module under their names in it. ``tensors`` is what the child gets,
    ``inherited`` how many of its numbers come from the parent. ``exact`` stays true while the child's module answers
    inputs that carry the parent's by outputs that carry the parent's.
    """

    def __init__(self, child: Mapping[str, Tensor], parent: Mapping[str, Tensor]) -> None:
        self.child = child
        self.parent = parent
        self.tensors: dict[str, Tensor] = {}
        self.inherited = 0
        self.exact = True

    def require(self, condition: bool) -> None:
        """Note that the module is only exact where ``condition`` holds."""
        self.exact = self.exact and condition

    def norm(self, name: str, channels: ChannelMap) -> None:
        """Take over a normalisation: its weight, and its bias where it has one."""
        self.require(channels.even)
        self._vector(_part(name, "weight"), channels)
        self._vector(_part(name, "bias"), channels)

    def matrix(self, name: str, rows: ChannelMap, columns: ChannelMap) -> None:
        """Take over a convolution or a linear layer."""
        self.require(rows.covers and columns.covers)
        if self._in_both(_part(name, "weight")):
            fresh, parent = self.child[_part(name, "weight")], self._kernel(_part(name, "weight"))
            weight = inherited_matrix(parent, fresh, rows, columns)
            self._take(_part(name, "weight"), weight, _count(rows) * _count(columns))
            self._vector(_part(name, "bias"), rows)

    def depthwise(self, name: str, channels: ChannelMap) -> None:
        """Take over a depthwise convolution without bias."""
        self._vector(_part(name, "weight"), channels)

    def shortcut(self, name: str, rows: ChannelMap, columns: ChannelMap) -> None:
        """Take over a 1x1 convolution in place of which child and parent of equal inputs and outputs have nothing."""
        weight, bias = _part(name, "weight"), _part(name, "bias")
        if weight not in self.child:
            self.require(weight not in self.parent and rows.sources == columns.sources)
        elif weight in self.parent:
            self.matrix(name, rows, columns)
        else:
            self.require(rows.covers and columns.covers)
            identity = torch.eye(rows.parent_channels, columns.parent_channels)[:, :, None, None]
            self.set(weight, inherited_matrix(identity, self.child[weight], rows, columns))
            self.set(bias, torch.zeros_like(self.child[bias]))

    def modulation(self, name: str, parts: Sequence[ChannelMap], embedding: ChannelMap) -> None:
        """Take over the projection of a modulation whose rows are ``parts``."""
        if parts:
            self.matrix(f"{name}.projection", stacked(parts), embedding)

    def table(self, name: str, columns: ChannelMap) -> None:
        """Take over a table (entries, channels) whose new channels keep what they have."""
        self.require(columns.covers)
        fresh, parent = self.child[name], self.parent[name]
        self.set(name, inherited_rows(parent.t(), fresh.t(), columns).t().contiguous(), len(fresh) * _count(columns))

    def position(self, name: str, channels: ChannelMap) -> None:
        """Take over a learned position (1, channels, size, size); where the parent has none, it starts at zero."""
        fresh, parent = self.child[name], self.parent.get(name)
        if parent is None:
            self.set(name, torch.zeros_like(fresh))
            return
        self.require(channels.covers and fresh.shape[2:] == parent.shape[2:])
        if fresh.shape[2:] == parent.shape[2:]:
            self.set(name, parent[:, channels.index].clone(), fresh.numel())

    def set(self, name: str, tensor: Tensor, inherited: int = 0) -> None:
        """Give the child a tensor, of which ``inherited`` numbers are the parent's."""
        self.tensors[name] = tensor
        self.inherited += inherited

    def kind(self, *, same_gene: bool = True) -> Kind:
        """Return what became of the module: see :class:`~evodiff.architecture.inheritance.Inheritance`."""
        if not self.inherited and (self.child or not self.exact):
            return "new"
        if not self.exact:
            return "overlapped"
        unchanged = self.tensors.keys() == self.child.keys() and all(
            name in self.parent and torch.equal(tensor, self.parent[name]) for name, tensor in self.tensors.items()
        )
        return "copied" if unchanged and same_gene else "widened"

    def _vector(self, name: str, rows: ChannelMap) -> None:
        self.require(rows.covers)
        if self._in_both(name):
            fresh = self.child[name]
            parent = self._kernel(name) if fresh.ndim == 4 else self.parent[name]
            self._take(name, inherited_rows(parent, fresh, rows), _count(rows))

    def _in_both(self, name: str) -> bool:
        self.require((name in self.child) == (name in self.parent))
        return name in self.child and name in self.parent

    def _kernel(self, name: str) -> Tensor:
        fresh, parent = self.child[name], self.parent[name]
        if fresh.ndim < 4:
            return parent
        self.require(fresh.shape[-1] >= parent.shape[-1])
        return resized_kernel(parent, fresh.shape[-1])

    def _take(self, name: str, tensor: Tensor, channels: int) -> None:
        """Take a tensor of which ``channels`` rows, or pairs of row and column, are the parent's."""
        kernel = min(self.child[name].shape[-1], self.parent[name].shape[-1]) ** 2 if tensor.ndim == 4 else 1
        self.set(name, tensor, channels * kernel)


def _part(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def _count(channels: ChannelMap) -> int:
    return sum(source != NEW for source in channels.sources)
