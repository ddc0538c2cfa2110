"""From genome and image shape to a resolved graph: which layer sees how many channels at which resolution.

The network, its costs and the operators all read this one resolution, so they cannot disagree. Pure Python, no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from evodiff.architecture.genome import (
    MAX_LAYERS,
    STEM,
    ArchitectureComponent,
    ArchitectureGenome,
    Connection,
    ImageShape,
    LayerGene,
    LayerKind,
)
from evodiff.errors import InvalidGenome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Keys become names of modules and of tensors in a safetensors file, where a dot separates levels.
KEY_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
WIDENING = frozenset({ArchitectureComponent.CONV, ArchitectureComponent.RESIDUAL})
RESAMPLING = frozenset({ArchitectureComponent.DOWNSAMPLE, ArchitectureComponent.UPSAMPLE})


class Edge(NamedTuple):
    """An incoming connection: position of its source (-1 is the stem), the source's channels, and how it merges."""

    source: int
    channels: int
    merge: str


class ResolvedLayer(NamedTuple):
    """A layer with its shapes filled in.

    ``trunk_channels`` come from the layer before. ``in_channels`` is what the layer's own operation sees: the trunk
    plus concatenated channels for ``conv`` and ``residual``; every other component first fuses a concatenation back to
    ``trunk_channels`` with a 1x1 convolution, so there both are equal. An ``add`` edge whose channels differ from the
    trunk's is projected by a 1x1 convolution. ``in_size`` and ``out_size`` are heights in positions (images are
    square).
    """

    position: int
    gene: LayerGene
    edges: tuple[Edge, ...]
    trunk_channels: int
    in_channels: int
    out_channels: int
    in_size: int
    out_size: int


@dataclass(frozen=True, eq=False)
class ResolvedGenome:
    """A genome as a network of known shapes for images of ``shape``; equal to itself alone, so that hashing is free.

    ``channels`` and ``sizes``, n + 1 of each, are those of the outputs of the stem and of the n layers, ``in_channels``
    what the operation of each layer sees. ``edges`` are the incoming connections, sources in order, by the position of
    their target. ``layers`` tells the same a layer at a time.
    """

    genome: ArchitectureGenome
    shape: ImageShape
    kinds: tuple[LayerKind, ...]
    edges: Mapping[int, tuple[Edge, ...]]
    channels: tuple[int, ...]
    in_channels: tuple[int, ...]
    sizes: tuple[int, ...]
    time_embedding_channels: int

    @cached_property
    def layers(self) -> tuple[ResolvedLayer, ...]:
        """The layers, each with its shapes."""
        shapes = zip(
            self.channels[:-1], self.in_channels, self.channels[1:], self.sizes[:-1], self.sizes[1:], strict=True
        )
        return tuple(
            ResolvedLayer(index, gene, self.edges.get(index, ()), *shape)
            for index, (gene, shape) in enumerate(zip(self.genome.layers, shapes, strict=True))
        )

    @property
    def width(self) -> int:
        """Channels that leave the stem."""
        return self.channels[0]

    @property
    def stem_size(self) -> int:
        """Height in positions behind the stem, and before the output stage."""
        return self.sizes[0]

    @property
    def out_channels(self) -> int:
        """Channels that enter the output stage."""
        return self.channels[-1]


@lru_cache(maxsize=8192)
def resolve(genome: ArchitectureGenome, shape: ImageShape) -> ResolvedGenome:
    """Fill in channels and resolutions; what was resolved lately is remembered.

    Raises:
        InvalidGenome: the genome makes no network for this shape; the message names the gene and the remedy.
    """
    position = _positions(genome)
    kinds = tuple([gene.kind for gene in genome.layers])
    width = genome.parameters.width
    sizes = _sizes(genome, kinds, _stem_size(genome, shape))
    channels = _channels(kinds, width)
    in_channels = channels[:-1]
    edges = {}
    if genome.connections:
        edges = _edges(genome, position, channels, sizes)
        in_channels = _with_concatenated(in_channels, kinds, edges)
    embedding = width * genome.parameters.time_embedding
    return ResolvedGenome(genome, shape, kinds, edges, tuple(channels), tuple(in_channels), sizes, embedding)


def _channels(kinds: Sequence[LayerKind], width: int) -> list[int]:
    """Return the channels of the outputs of the stem and of each layer."""
    current = width
    found = [current]
    for kind in kinds:
        if kind.channels is not None:
            current = kind.channels * width
        found.append(current)
    return found


def _with_concatenated(
    trunk: Sequence[int], kinds: Sequence[LayerKind], edges: Mapping[int, Sequence[Edge]]
) -> list[int]:
    """Return the channels that each layer sees: the trunk's, and those concatenated where the layer takes them in."""
    found = list(trunk)
    for target, arriving in edges.items():
        if kinds[target].channels is not None:
            found[target] += sum([edge.channels for edge in arriving if edge.merge == "concat"])
    return found


def _sizes(genome: ArchitectureGenome, kinds: Sequence[LayerKind], stem_size: int) -> tuple[int, ...]:
    """Return the resolutions of the outputs of the stem and of each layer."""
    size = stem_size
    found = [size]
    for index, kind in enumerate(kinds):
        if kind.halvings:
            size = _resampled(genome.layers[index], size, stem_size)
        found.append(size)
    if size != stem_size:
        raise InvalidGenome(
            "Resolution not restored",
            where="layers",
            expected=f"{stem_size} positions at the end",
            found=size,
            remedy="Give every downsample layer an upsample layer after it.",
        )
    return tuple(found)


def _positions(genome: ArchitectureGenome) -> dict[str, int]:
    """Return the position of each layer by its key, that of the stem being -1."""
    count = len(genome.layers)
    if not 1 <= count <= MAX_LAYERS:
        raise InvalidGenome(
            "Number of layers",
            where="layers",
            expected=f"1 to {MAX_LAYERS}",
            found=count,
            remedy="Add or remove layers.",
        )
    keys = [STEM, *[gene.key for gene in genome.layers]]
    position = dict(zip(keys, range(-1, count), strict=True))
    if len(position) <= count or not all(map(_can_name_a_layer, keys)):
        _refuse_keys(keys)
    if not any(gene.kind.modulated for gene in genome.layers):
        raise InvalidGenome(
            "No layer hears the time step",
            where="layers",
            expected="at least one modulation",
            found="'none' everywhere",
            remedy="Set modulation of a residual, conv or attention layer to add, scale_shift or gated.",
        )
    return position


def _refuse_keys(keys: Sequence[str]) -> None:
    """Raise for the first key, behind that of the stem, that cannot name a layer or was used before."""
    for index, key in enumerate(keys[1:]):
        if not _can_name_a_layer(key):
            raise InvalidGenome(
                "Key cannot name a layer",
                where=f"layers[{index}].key",
                expected="a letter, then at most 63 letters, digits or underscores",
                found=repr(key)[:80],
                remedy="Rename it, also in the connections.",
            )
        if key in keys[: index + 1]:
            raise InvalidGenome(
                "Key used twice",
                where=f"layers[{index}].key",
                expected="a key of its own",
                found=repr(key),
                remedy=f"Rename it; {STEM!r} is taken by the stem.",
            )


@lru_cache(maxsize=8192)
def _can_name_a_layer(key: str) -> bool:
    return KEY_PATTERN.fullmatch(key) is not None


def _stem_size(genome: ArchitectureGenome, shape: ImageShape) -> int:
    patch = genome.parameters.patch
    if shape.size % patch or shape.size // patch < 2:
        raise InvalidGenome(
            "Patch does not fit",
            where="parameters.patch",
            expected=f"a divisor of the image size {shape.size} that leaves 2 or more patches a side",
            found=patch,
            remedy="Take a smaller patch.",
        )
    return shape.size // patch


def _edges(
    genome: ArchitectureGenome, position: Mapping[str, int], channels: Sequence[int], sizes: Sequence[int]
) -> dict[int, tuple[Edge, ...]]:
    """Return the connections by the position of their target, in the order of their sources."""
    incoming: dict[int, list[Edge]] = {}
    pairs: set[tuple[int, int]] = set()
    for index, edge in enumerate(genome.connections):
        source, target = position.get(edge.source), position.get(edge.target)
        if source is None or target is None:
            raise _unknown_end(edge, index, position)
        if target - source < 2:
            raise InvalidGenome(
                "Connection skips nothing",
                where=f"connections[{index}]",
                expected="a target two or more layers after",
                found=f"{edge.source} -> {edge.target}",
                remedy="Point it further on, or remove it.",
            )
        if (source, target) in pairs:
            raise InvalidGenome(
                "Connection given twice",
                where=f"connections[{index}]",
                expected="one connection between two layers",
                found=f"{edge.source} -> {edge.target}",
                remedy="Remove one of them.",
            )
        if sizes[source + 1] != sizes[target]:
            raise InvalidGenome(
                "Resolutions differ",
                where=f"connection {edge.source} -> {edge.target}",
                expected=f"{sizes[target]} positions, as at {edge.target}",
                found=sizes[source + 1],
                remedy="Connect layers of one resolution, or remove the connection.",
            )
        pairs.add((source, target))
        incoming.setdefault(target, []).append(Edge(source, channels[source + 1], edge.merge))
    return {target: tuple(sorted(arriving)) for target, arriving in incoming.items()}


def _unknown_end(edge: Connection, index: int, position: Mapping[str, int]) -> InvalidGenome:
    name = "target" if edge.source in position else "source"
    return InvalidGenome(
        "Unknown layer",
        where=f"connections[{index}].{name}",
        expected=f"a key out of {sorted(position)}",
        found=repr(getattr(edge, name)),
        remedy="Name an existing layer, or remove the connection.",
    )


def _resampled(gene: LayerGene, in_size: int, stem_size: int) -> int:
    """Return the resolution behind a layer that resamples."""
    if gene.component is ArchitectureComponent.DOWNSAMPLE:
        if in_size % 2 or in_size < 4:
            raise InvalidGenome(
                "Cannot downsample",
                where=f"layer {gene.key}",
                expected="an even size of at least 4",
                found=in_size,
                remedy="Remove this layer, or move it before another downsample.",
            )
        return in_size // 2
    if in_size * 2 > stem_size:
        raise InvalidGenome(
            "Cannot upsample",
            where=f"layer {gene.key}",
            expected=f"less than {stem_size} positions",
            found=in_size,
            remedy="Put a downsample layer before it, or remove it.",
        )
    return in_size * 2
