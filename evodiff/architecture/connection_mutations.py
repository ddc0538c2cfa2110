"""Mutations of the extra connections between layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from evodiff.architecture.genome import MERGES, STEM, ArchitectureGenome, Connection
from evodiff.architecture.mutation import mutation, pick
from evodiff.architecture.repair import sizes

if TYPE_CHECKING:
    import numpy as np

    from evodiff.architecture.limits import Limits


@mutation
def add_connection(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Join two layers of one resolution that are not neighbours and not joined yet."""
    target = int(rng.integers(len(genome.layers)))
    sources = _sources(genome, limits.shape.size, target)
    if not sources:
        return genome  # another target may have some
    edge = Connection(pick(sources, rng), genome.layers[target].key, pick(MERGES, rng))
    return ArchitectureGenome(genome.layers, (*genome.connections, edge), genome.parameters)


@mutation
def remove_connection(
    genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits
) -> ArchitectureGenome | None:
    """Cut one connection."""
    if not genome.connections:
        return None
    index = int(rng.integers(len(genome.connections)))
    return _with_edge(genome, index, None)


@mutation
def retarget_connection(
    genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits
) -> ArchitectureGenome | None:
    """Move one end of a connection to another layer of the same resolution."""
    if not genome.connections:
        return None
    index = int(rng.integers(len(genome.connections)))
    edge = genome.connections[index]
    position = {STEM: -1} | {gene.key: place for place, gene in enumerate(genome.layers)}
    if rng.random() < 0.5:
        sources = _sources(genome, limits.shape.size, position[edge.target])
        moved = replace(edge, source=pick(sources, rng)) if sources else edge
    else:
        targets = _targets(genome, limits.shape.size, position[edge.source])
        moved = replace(edge, target=pick(targets, rng)) if targets else edge
    return _with_edge(genome, index, moved)


@mutation
def change_merge(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Let a connection add where it concatenated, or the other way round."""
    if not genome.connections:
        return None
    index = int(rng.integers(len(genome.connections)))
    edge = genome.connections[index]
    return _with_edge(genome, index, replace(edge, merge="add" if edge.merge == "concat" else "concat"))


def _sources(genome: ArchitectureGenome, image_size: int, target: int) -> list[str]:
    """Return the keys that may be newly connected to the layer at ``target``."""
    size = sizes(genome.layers, image_size // genome.parameters.patch)
    key = genome.layers[target].key
    joined = {edge.source for edge in genome.connections if edge.target == key}
    keys = (STEM, *(gene.key for gene in genome.layers))
    return [keys[i] for i in range(target) if size[i] == size[target] and keys[i] not in joined]


def _targets(genome: ArchitectureGenome, image_size: int, source: int) -> list[str]:
    """Return the keys to which the output of the layer at ``source`` (-1: the stem) may be newly connected."""
    size = sizes(genome.layers, image_size // genome.parameters.patch)
    key = STEM if source < 0 else genome.layers[source].key
    joined = {edge.target for edge in genome.connections if edge.source == key}
    return [
        gene.key
        for index, gene in enumerate(genome.layers)
        if index >= source + 2 and size[index] == size[source + 1] and gene.key not in joined
    ]


def _with_edge(genome: ArchitectureGenome, index: int, edge: Connection | None) -> ArchitectureGenome:
    new = () if edge is None else (edge,)
    connections = genome.connections[:index] + new + genome.connections[index + 1 :]
    return ArchitectureGenome(genome.layers, connections, genome.parameters)
