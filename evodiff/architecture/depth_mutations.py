"""Mutations of depth: levels of resolution, and the stages that stand on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.architecture.genome import (
    GENES,
    ArchitectureComponent,
    ArchitectureGenome,
    Connection,
    LayerGene,
    layer,
)
from evodiff.architecture.graph import RESAMPLING
from evodiff.architecture.layer_mutations import copies
from evodiff.architecture.mutation import key_before, mutation, pick
from evodiff.architecture.repair import fresh_key, sizes

if TYPE_CHECKING:
    import numpy as np

    from evodiff.architecture.limits import Limits


@mutation
def insert_level(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Halve the resolution of a run of layers, by a downsample layer before it and an upsample layer behind it."""
    size = sizes(genome.layers, limits.shape.size // genome.parameters.patch)
    starts = [index for index in range(len(genome.layers)) if size[index] >= 4 and size[index] % 2 == 0]
    if not starts:
        return None
    start = pick(starts, rng)
    stops = []
    for stop in range(start + 1, len(genome.layers) + 1):
        if size[stop] > size[start]:
            break
        if size[stop] == size[start]:
            stops.append(stop)
    if not stops:
        return genome  # it starts with the last layer of a level; another start may do
    stop = pick(stops, rng)
    down = _resampling(genome, ArchitectureComponent.DOWNSAMPLE, start, rng)
    up = _resampling(genome, ArchitectureComponent.UPSAMPLE, stop, rng)
    layers = (*genome.layers[:start], down, *genome.layers[start:stop], up, *genome.layers[stop:])
    return ArchitectureGenome(layers, genome.connections, genome.parameters)


@mutation
def remove_level(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Remove a downsample layer with its upsample layer: what stands between them doubles its resolution."""
    pairs = resampling_pairs(genome.layers)
    if not pairs:
        return None
    pair = pick(pairs, rng)
    layers = tuple(gene for index, gene in enumerate(genome.layers) if index not in pair)
    return ArchitectureGenome(layers, genome.connections, genome.parameters) if layers else None


@mutation
def deepen_stage(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Repeat the last layer before a downsampling and the first behind its upsampling, and connect the two copies."""
    pairs = [
        (down, up)
        for down, up in resampling_pairs(genome.layers)
        if down > 0
        and up + 1 < len(genome.layers)
        and genome.layers[down - 1].component not in RESAMPLING
        and genome.layers[up + 1].component not in RESAMPLING
    ]
    if not pairs:
        return None
    down, up = pick(pairs, rng)
    first = copies(genome, down - 1, down)
    widened = ArchitectureGenome(
        (*genome.layers[:down], *first, *genome.layers[down:]), genome.connections, genome.parameters
    )
    second = copies(widened, up + 2, up + 3)
    layers = (*widened.layers[: up + 3], *second, *widened.layers[up + 3 :])
    merge = genome.connections[0].merge if genome.connections else "concat"
    edge = Connection(first[0].key, second[0].key, merge)
    return ArchitectureGenome(layers, (*genome.connections, edge), genome.parameters)


def resampling_pairs(layers: tuple[LayerGene, ...]) -> list[tuple[int, int]]:
    """Return the positions of each downsample layer and of the upsample layer that restores its resolution."""
    pairs = []
    unmatched = []
    for index, gene in enumerate(layers):
        if gene.component is ArchitectureComponent.DOWNSAMPLE:
            unmatched.append(index)
        elif gene.component is ArchitectureComponent.UPSAMPLE:
            pairs.append((unmatched.pop(), index))
    return pairs


def _resampling(
    genome: ArchitectureGenome, component: ArchitectureComponent, index: int, rng: np.random.Generator
) -> LayerGene:
    key = fresh_key((gene.key for gene in genome.layers), key_before(genome.layers, index), component)
    return layer(key, component, method=pick(GENES[component]["method"], rng))
