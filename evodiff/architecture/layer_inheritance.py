"""How a layer inherits from the layer of the same key in a parent, and how a new one starts as the identity.

The channels between layers are spread (each repeated, in order), so that normalisations see the statistics that they
saw. Channels inside a layer that nothing normalises (the middle of a bottleneck, the features of attention heads) get
the parent's first and new ones behind, which start unread: those can learn what they like at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

from evodiff.architecture.genome import ArchitectureComponent
from evodiff.architecture.graph import WIDENING
from evodiff.architecture.widening import NEW, ChannelMap, joined, padded, spread, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from evodiff.architecture.graph import ResolvedLayer
    from evodiff.architecture.transfer import Transfer

# Settings that may differ without a change of the function; the shapes tell what becomes of them.
_SIZES: Final = frozenset({"channels", "kernel", "expansion", "heads"})
_PROJECTIONS: Final = "junction.add_projections."
_SHIFTED_PARTS: Final = {"none": 0, "add": 1, "scale_shift": 2, "gated": 2}


class LayerPair:
    """A layer of the child and its counterpart.

    ``matches`` gives, for each connection that arrives at the child's layer, the position of the parent's connection
    from the same source with the same merge, None where there is none. ``embedding`` maps the channels of the time
    embedding.
    """

    def __init__(
        self, child: ResolvedLayer, parent: ResolvedLayer, matches: Sequence[int | None], embedding: ChannelMap
    ) -> None:
        self.child, self.parent, self.matches, self.embedding = child, parent, tuple(matches), embedding
        self.trunk = spread(parent.trunk_channels, child.trunk_channels)
        self.output = spread(parent.out_channels, child.out_channels)
        self.merged = self._merged()
        self.input = self.merged if child.gene.component in WIDENING else self.trunk

    def same(self, *names: str) -> bool:
        """Return whether both layers have equal settings of these names."""
        ours, theirs = self.child.gene.settings, self.parent.gene.settings
        return all(ours[name] == theirs[name] for name in names)

    def edge(self, index: int) -> ChannelMap:
        """Return the map of the channels that a connection of the child brings."""
        channels, match = self.child.edges[index].channels, self.matches[index]
        return unknown(channels) if match is None else spread(self.parent.edges[match].channels, channels)

    def _merged(self) -> ChannelMap:
        """Return the map of the trunk with what is concatenated behind it."""
        offsets, total = {}, self.parent.trunk_channels
        for index, edge in enumerate(self.parent.edges):
            if edge.merge == "concat":
                offsets[index] = total
                total += edge.channels
        parts = [(self.trunk, 0)]
        for index, edge in enumerate(self.child.edges):
            if edge.merge == "concat":
                match = self.matches[index]
                parts.append((self.edge(index), 0 if match is None else offsets[match]))
        return joined(parts, total)


def inherit_layer(pair: LayerPair, transfer: Transfer) -> None:
    """Take over the tensors of a layer whose component both have."""
    names = [name for name in pair.child.gene.settings if name not in _SIZES]
    transfer.require(pair.same(*names))
    _junction(pair, transfer)
    _OPERATIONS[pair.child.gene.component](pair, transfer)


def start_as_identity(layer: ResolvedLayer, transfer: Transfer) -> bool:
    """Let a new layer return its trunk, repeated or thinned out to its channels, if it has a branch to silence.

    The last weights of the branch start at zero, but where a gate does: both would never move.

    Returns:
        Whether the layer now does so.
    """
    last = _last_of_branch(layer)
    if last is None or _adds_to_trunk(layer):
        return False
    if layer.gene.settings["modulation"] != "gated":
        _silence(transfer, last)
    for index, edge in enumerate(layer.edges):
        if edge.merge == "add":
            _silence(transfer, f"{_PROJECTIONS}{index}")
    trunk = range(layer.trunk_channels)
    chosen = spread(layer.trunk_channels, layer.out_channels).sources
    for name, rows in (("junction.fuse", trunk), ("operation.shortcut", chosen), ("operation.projection", chosen)):
        if f"{name}.weight" in transfer.child:
            _select(transfer, name, rows)
    return True


def _adds_to_trunk(layer: ResolvedLayer) -> bool:
    """Return whether something reaches the output of a layer past its trunk and its branch, without a weight."""
    unprojected = layer.in_channels == layer.out_channels and layer.in_channels != layer.trunk_channels
    return unprojected or any(edge.merge == "add" and edge.channels == layer.trunk_channels for edge in layer.edges)


def _last_of_branch(layer: ResolvedLayer) -> str | None:
    settings = layer.gene.settings
    match layer.gene.component:
        case ArchitectureComponent.RESIDUAL:
            return "operation.conv2"
        case ArchitectureComponent.ATTENTION:
            return "operation.out"
        case ArchitectureComponent.CONV if settings["shortcut"]:
            if settings["expansion"] != 1:
                return "operation.project"
            return "operation.conv.1" if settings["separable"] else "operation.conv"
        case _:
            return None


def _silence(transfer: Transfer, name: str) -> None:
    for part in ("weight", "bias"):
        transfer.set(f"{name}.{part}", torch.zeros_like(transfer.child[f"{name}.{part}"]))


def _select(transfer: Transfer, name: str, rows: Sequence[int]) -> None:
    """Let a 1x1 convolution return these of its input channels."""
    weight = torch.zeros_like(transfer.child[f"{name}.weight"])
    weight[torch.arange(len(rows)), torch.tensor(tuple(rows))] = 1.0
    transfer.set(f"{name}.weight", weight)
    transfer.set(f"{name}.bias", torch.zeros_like(transfer.child[f"{name}.bias"]))


def _junction(pair: LayerPair, transfer: Transfer) -> None:
    matched = {match for match in pair.matches if match is not None}
    transfer.require(len(matched) == len(pair.parent.edges))
    transfer.parent = _with_own_edges(pair, transfer.parent)
    for index, edge in enumerate(pair.child.edges):
        if edge.merge == "add":
            _added_edge(pair, transfer, index)
    if pair.child.gene.component not in WIDENING:
        transfer.shortcut("junction.fuse", pair.trunk, pair.merged)


def _with_own_edges(pair: LayerPair, parent: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parent's tensors with the projections of its connections under the numbers that the child gives."""
    renamed = {name: tensor for name, tensor in parent.items() if not name.startswith(_PROJECTIONS)}
    for index, match in enumerate(pair.matches):
        for part in ("weight", "bias"):
            theirs = f"{_PROJECTIONS}{match}.{part}"
            if theirs in parent:
                renamed[f"{_PROJECTIONS}{index}.{part}"] = parent[theirs]
    return renamed


def _added_edge(pair: LayerPair, transfer: Transfer, index: int) -> None:
    name = f"{_PROJECTIONS}{index}"
    if pair.matches[index] is None:
        transfer.require(f"{name}.weight" in transfer.child)
        if f"{name}.weight" in transfer.child:
            _silence(transfer, name)
        return
    transfer.shortcut(name, pair.trunk, pair.edge(index))


def _modulation(pair: LayerPair, transfer: Transfer, shifted: ChannelMap) -> None:
    kind = str(pair.child.gene.settings["modulation"])
    if pair.same("modulation"):
        gate = [pair.output] if kind == "gated" else []
        transfer.modulation("operation.modulation", [shifted] * _SHIFTED_PARTS[kind] + gate, pair.embedding)


def _residual(pair: LayerPair, transfer: Transfer) -> None:
    transfer.norm("operation.norm1", pair.input)
    transfer.matrix("operation.conv1", pair.output, pair.input)
    transfer.norm("operation.norm2", pair.output)
    transfer.matrix("operation.conv2", pair.output, pair.output)
    transfer.shortcut("operation.shortcut", pair.output, pair.input)
    _modulation(pair, transfer, pair.output)


def _conv(pair: LayerPair, transfer: Transfer) -> None:
    transfer.norm("operation.norm", pair.input)
    _modulation(pair, transfer, pair.input)
    if pair.child.gene.settings["shortcut"]:
        transfer.shortcut("operation.projection", pair.output, pair.input)
    expansions = [int(layer.gene.settings["expansion"]) for layer in (pair.parent, pair.child)]
    if (min(expansions) == 1 and max(expansions) > 1) or not pair.same("separable"):
        transfer.require(False)  # what is convolved, and where the activation stands, is another
        return
    inner = pair.output
    if expansions[0] > 1:
        inner = padded(expansions[0] * pair.parent.out_channels, expansions[1] * pair.child.out_channels)
        transfer.matrix("operation.project", pair.output, inner)
    if pair.child.gene.settings["separable"]:
        transfer.depthwise("operation.conv.0", pair.input)
        transfer.matrix("operation.conv.1", inner, pair.input)
    else:
        transfer.matrix("operation.conv", inner, pair.input)


def _attention(pair: LayerPair, transfer: Transfer) -> None:
    transfer.norm("operation.norm", pair.trunk)
    _modulation(pair, transfer, pair.trunk)
    layout = _HeadLayout(pair)
    transfer.require(layout.exact)
    transfer.matrix("operation.qkv", layout.rows(), pair.trunk)
    for name in ("weight", "bias"):
        layout.adjust(transfer.tensors[f"operation.qkv.{name}"], is_bias=name == "bias")
    transfer.matrix("operation.out", pair.output, layout.values)


class _HeadLayout:
    """Where the features of the parent's heads stand in the child's.

    More heads, and heads of more features, can do what the parent's do: full attention with further features of the
    query at zero and the rest scaled for the larger root; linear attention with features repeated and their logits
    lowered by the logarithm of how often. Values are padded, and so are heads. With fewer of either, rows are taken as
    they come, and the function is another.
    """

    def __init__(self, pair: LayerPair) -> None:
        self.linear = pair.child.gene.settings["kind"] == "linear"
        self.channels = pair.child.trunk_channels
        self.parent_channels = pair.parent.trunk_channels
        self.heads, self.parent_heads = (int(layer.gene.settings["heads"]) for layer in (pair.child, pair.parent))
        self.size, self.parent_size = self.channels // self.heads, self.parent_channels // self.parent_heads
        self.exact = self.heads >= self.parent_heads and self.size >= self.parent_size
        self.values = self._map(padded(self.parent_size, self.size))
        self.keys = self._map(spread(self.parent_size, self.size)) if self.linear else self.values

    def rows(self) -> ChannelMap:
        """Return the map of the rows of ``qkv``."""
        parts = [(self.keys, 0), (self.keys, self.parent_channels), (self.values, 2 * self.parent_channels)]
        return joined(parts, 3 * self.parent_channels)

    def adjust(self, tensor: Tensor, *, is_bias: bool) -> None:
        """Make the queries in rows of ``qkv`` fit the size of the child's heads, in place."""
        if not self.exact or self.size == self.parent_size:
            return
        old_heads = slice(0, self.parent_heads * self.size)
        known = self.keys.known[old_heads]
        query = tensor[: self.channels][old_heads]
        if self.linear:
            if is_bias:
                query -= self.keys.multiplicity[old_heads].log()
            return
        query *= math.sqrt(self.size / self.parent_size)
        query[~known] = 0.0

    def _map(self, within_head: ChannelMap) -> ChannelMap:
        if not self.exact:
            return padded(self.parent_channels, self.channels)
        sources = []
        for head in range(self.heads):
            for source in within_head.sources:
                known = head < self.parent_heads and source != NEW
                sources.append(head * self.parent_size + source if known else NEW)
        return ChannelMap(tuple(sources), self.parent_channels)


def _resampling(pair: LayerPair, transfer: Transfer) -> None:
    transfer.matrix("operation.conv", pair.output, pair.trunk)


_OPERATIONS: Final[dict[ArchitectureComponent, Callable[[LayerPair, Transfer], None]]] = {
    ArchitectureComponent.ATTENTION: _attention,
    ArchitectureComponent.CONV: _conv,
    ArchitectureComponent.RESIDUAL: _residual,
    ArchitectureComponent.NORM: lambda pair, transfer: transfer.norm("operation.inner", pair.trunk),
    ArchitectureComponent.ACTIVATION: lambda pair, transfer: None,
    ArchitectureComponent.DOWNSAMPLE: _resampling,
    ArchitectureComponent.UPSAMPLE: _resampling,
}
