"""Tensors of a network out of those of a narrower or wider one (Net2Net, Chen et al. 2016).

A :class:`ChannelMap` says which channel of the parent each channel of the child carries. Where a channel is carried
more than once, the weights that read it are shared out among its copies, so that what they add up to stays the same.
Shared out evenly, copies would receive equal gradients and never part. So each copy is read with the child's own first
weights on top, less their mean over the copies: that cancels while the copies agree, and sets them apart as they learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

NEW: Final = -1


@dataclass(frozen=True)
class ChannelMap:
    """For every channel of the child the parent's channel that it carries, :data:`NEW` for one that carries none."""

    sources: tuple[int, ...]
    parent_channels: int

    @cached_property
    def identical(self) -> bool:
        """Whether the channels are the parent's, one for one."""
        return self.sources == tuple(range(self.parent_channels))

    @cached_property
    def covers(self) -> bool:
        """Whether every channel of the parent is carried."""
        return set(range(self.parent_channels)) <= set(self.sources)

    @cached_property
    def even(self) -> bool:
        """Whether each channel of the parent is carried equally often, by neighbours, and none is new.

        Then the mean and the variance over all channels, or over each of several equal runs of them, are the parent's,
        so that normalisations return what they returned.
        """
        times, rest = divmod(len(self.sources), max(self.parent_channels, 1))
        return not rest and self.sources == tuple(index // times for index in range(len(self.sources)))

    @cached_property
    def known(self) -> Tensor:
        """Which channels carry one of the parent's, (child channels,) booleans."""
        return self._index >= 0

    @cached_property
    def index(self) -> Tensor:
        """The sources as (child channels,) integers, 0 in place of NEW."""
        return self._index.clamp(min=0)

    @cached_property
    def multiplicity(self) -> Tensor:
        """How often the source of each channel is carried, (child channels,) floats, 1 for a channel that is new."""
        counts = torch.bincount(self._index[self.known], minlength=self.parent_channels)
        return torch.where(self.known, counts[self.index], 1).float()

    @cached_property
    def _index(self) -> Tensor:
        return torch.tensor(self.sources, dtype=torch.long)


def spread(parent: int, child: int) -> ChannelMap:
    """Return a map that keeps the order: each channel is repeated in place, or every so many are taken.

    Groups of neighbouring channels, as group normalisation forms them, stay together.
    """
    return ChannelMap(tuple(index * parent // child for index in range(child)), parent)


def padded(parent: int, child: int) -> ChannelMap:
    """Return a map in which the parent's channels come first, as many as there is room for, and new ones behind."""
    return ChannelMap(tuple(index if index < parent else NEW for index in range(child)), parent)


def unknown(child: int) -> ChannelMap:
    """Return the map of channels that the parent does not have."""
    return ChannelMap((NEW,) * child, 0)


def joined(parts: Iterable[tuple[ChannelMap, int]], parent: int) -> ChannelMap:
    """Return the map of a concatenation; each part comes with the position of its source among ``parent`` channels."""
    sources = tuple(NEW if source == NEW else offset + source for part, offset in parts for source in part.sources)
    return ChannelMap(sources, parent)


def stacked(parts: Iterable[ChannelMap]) -> ChannelMap:
    """Return the map of a concatenation whose parts the parent has in the same order."""
    placed, offset = [], 0
    for part in parts:
        placed.append((part, offset))
        offset += part.parent_channels
    return joined(placed, offset)


def inherited_rows(parent: Tensor, fresh: Tensor, rows: ChannelMap) -> Tensor:
    """Return ``fresh``, of shape (child channels, ...), with the rows that the parent has."""
    if rows.identical:
        return parent.clone()
    known = rows.known.view(-1, *[1] * (fresh.ndim - 1))
    return torch.where(known, parent[rows.index], fresh)


def inherited_matrix(parent: Tensor, fresh: Tensor, rows: ChannelMap, columns: ChannelMap) -> Tensor:
    """Return a weight of shape (child outputs, child inputs, ...) that answers the child's inputs as the parent's did.

    Outputs that carry none of the parent's keep their ``fresh`` rows; the others do not read inputs that carry none.
    """
    if rows.identical and columns.identical:
        return parent.clone()
    weight = parent[:, columns.index] / _along_columns(columns.multiplicity, parent)
    weight = torch.where(_along_columns(columns.known, parent), weight, 0.0)[rows.index]
    return inherited_rows(weight + _apart(fresh, columns), fresh, ChannelMap(_own_rows(rows), len(rows.sources)))


def resized_kernel(parent: Tensor, size: int) -> Tensor:
    """Return convolution weights (outputs, inputs, k, k) with a kernel of ``size``: cut, or with zeros round it."""
    margin = (size - parent.shape[-1]) // 2
    return F.pad(parent, (margin,) * 4) if margin else parent


def _own_rows(rows: ChannelMap) -> tuple[int, ...]:
    return tuple(NEW if source == NEW else index for index, source in enumerate(rows.sources))


def _apart(fresh: Tensor, columns: ChannelMap) -> Tensor:
    """Return the first weights less their mean over the copies of one channel: 0 where a channel is not repeated."""
    repeated = columns.known & (columns.multiplicity > 1)
    if not repeated.any():
        return torch.zeros_like(fresh)
    sums = fresh.new_zeros((fresh.shape[0], columns.parent_channels, *fresh.shape[2:]))
    sums.index_add_(1, columns.index[columns.known], fresh[:, columns.known])
    means = sums[:, columns.index] / _along_columns(columns.multiplicity, fresh)
    return torch.where(_along_columns(repeated, fresh), fresh - means, 0.0)


def _along_columns(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.ndim - 2))
