"""From genome and image shape to a resolved graph: which layer sees how many channels at which resolution.

The network, its costs and the operators all read this one resolution, so they cannot disagree. Pure Python, no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from evodiff.architecture.genome import (
    MAX_LAYERS,
    STEM,
    ArchitectureComponent,
    ArchitectureGenome,
    Connection,
    ImageShape,
    LayerGene,
)
from evodiff.errors import InvalidGenome

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
    """A genome as a network of known shapes for images of ``shape``; equal to itself alone, so that hashing is free."""

    genome: ArchitectureGenome
    shape: ImageShape
    layers: tuple[ResolvedLayer, ...]
    stem_size: int
    time_embedding_channels: int

    @property
    def width(self) -> int:
        """Channels that leave the stem."""
        return self.genome.parameters.width

    @property
    def out_channels(self) -> int:
        """Channels that enter the output stage."""
        return self.layers[-1].out_channels if self.layers else self.width


@lru_cache(maxsize=8192)
def resolve(genome: ArchitectureGenome, shape: ImageShape) -> ResolvedGenome:
    """Fill in channels and resolutions, in one pass over the layers; what was resolved lately is remembered.

    Raises:
        InvalidGenome: the genome makes no network for this shape; the message names the gene and the remedy.
    """
    position = _positions(genome)
    stem_size = _stem_size(genome, shape)
    width = genome.parameters.width
    incoming = _incoming(genome, position) if genome.connections else {}
    outputs = [(width, stem_size)]  # channels and size, of the stem and of each layer
    resolved: list[ResolvedLayer] = []
    trunk_channels, in_size = width, stem_size
    for index, gene in enumerate(genome.layers):
        edges: tuple[Edge, ...] = ()
        if index in incoming:
            arriving = sorted(incoming[index], key=itemgetter(0, 1))
            edges = tuple([_edge(edge, source, outputs[source + 1], in_size) for source, _, edge in arriving])
        in_channels = out_channels = trunk_channels
        if gene.kind.channels is not None:
            in_channels += sum([edge.channels for edge in edges if edge.merge == "concat"])
            out_channels = gene.kind.channels * width
        out_size = _out_size(gene, in_size, stem_size) if gene.component in RESAMPLING else in_size
        shapes = (trunk_channels, in_channels, out_channels, in_size, out_size)
        resolved.append(ResolvedLayer(index, gene, edges, *shapes))
        trunk_channels, in_size = out_channels, out_size
        outputs.append((out_channels, out_size))
    if in_size != stem_size:
        raise InvalidGenome(
            "Resolution not restored",
            where="layers",
            expected=f"{stem_size} positions at the end",
            found=in_size,
            remedy="Give every downsample layer an upsample layer after it.",
        )
    return ResolvedGenome(genome, shape, tuple(resolved), stem_size, width * genome.parameters.time_embedding)


def _positions(genome: ArchitectureGenome) -> dict[str, int]:
    """Return the position of each layer by its key, that of the stem being -1."""
    if not 1 <= len(genome.layers) <= MAX_LAYERS:
        raise InvalidGenome(
            "Number of layers",
            where="layers",
            expected=f"1 to {MAX_LAYERS}",
            found=len(genome.layers),
            remedy="Add or remove layers.",
        )
    position = {STEM: -1}
    for index, gene in enumerate(genome.layers):
        if not _can_name_a_layer(gene.key):
            raise InvalidGenome(
                "Key cannot name a layer",
                where=f"layers[{index}].key",
                expected="a letter, then at most 63 letters, digits or underscores",
                found=repr(gene.key)[:80],
                remedy="Rename it, also in the connections.",
            )
        if gene.key in position:
            raise InvalidGenome(
                "Key used twice",
                where=f"layers[{index}].key",
                expected="a key of its own",
                found=repr(gene.key),
                remedy=f"Rename it; {STEM!r} is taken by the stem.",
            )
        position[gene.key] = index
    if not any(gene.kind.modulated for gene in genome.layers):
        raise InvalidGenome(
            "No layer hears the time step",
            where="layers",
            expected="at least one modulation",
            found="'none' everywhere",
            remedy="Set modulation of a residual, conv or attention layer to add, scale_shift or gated.",
        )
    return position


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


def _incoming(genome: ArchitectureGenome, position: dict[str, int]) -> dict[int, list[tuple[int, str, Connection]]]:
    """Return, by the position of the target, of each connection the position of its source, its merge, and itself."""
    incoming: dict[int, list[tuple[int, str, Connection]]] = {}
    pairs: set[tuple[str, str]] = set()
    for index, edge in enumerate(genome.connections):
        where = f"connections[{index}]"
        for name, key in (("source", edge.source), ("target", edge.target)):
            if key not in position:
                raise InvalidGenome(
                    "Unknown layer",
                    where=f"{where}.{name}",
                    expected=f"a key out of {sorted(position)}",
                    found=repr(key),
                    remedy="Name an existing layer, or remove the connection.",
                )
        source, target = position[edge.source], position[edge.target]
        if target - source < 2:
            raise InvalidGenome(
                "Connection skips nothing",
                where=where,
                expected="a target two or more layers after",
                found=f"{edge.source} -> {edge.target}",
                remedy="Point it further on, or remove it.",
            )
        if (edge.source, edge.target) in pairs:
            raise InvalidGenome(
                "Connection given twice",
                where=where,
                expected="one connection between two layers",
                found=f"{edge.source} -> {edge.target}",
                remedy="Remove one of them.",
            )
        pairs.add((edge.source, edge.target))
        incoming.setdefault(target, []).append((source, edge.merge, edge))
    return incoming


def _edge(edge: Connection, source: int, output: tuple[int, int], in_size: int) -> Edge:
    channels, size = output
    if size != in_size:
        raise InvalidGenome(
            "Resolutions differ",
            where=f"connection {edge.source} -> {edge.target}",
            expected=f"{in_size} positions, as at {edge.target}",
            found=size,
            remedy="Connect layers of one resolution, or remove the connection.",
        )
    return Edge(source, channels, edge.merge)


def _out_size(gene: LayerGene, in_size: int, stem_size: int) -> int:
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
