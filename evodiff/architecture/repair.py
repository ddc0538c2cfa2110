"""Repair of genomes that an operator has cut or joined, so that every child makes a network.

Repair only removes what has become meaningless (unmatched resampling, connections that lost an end) and adds the least
that a network needs; a valid genome comes back equal.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, cast

from evodiff.architecture.genome import (
    GLOBALS,
    MAX_LAYERS,
    STEM,
    ArchitectureComponent,
    ArchitectureGenome,
    Connection,
    GlobalParameters,
    ImageShape,
    LayerGene,
    layer,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def repair(genome: ArchitectureGenome, shape: ImageShape) -> ArchitectureGenome:
    """Return a genome that ``graph.resolve`` accepts for ``shape``, equal to ``genome`` where that is valid already.

    1. A patch that does not divide the image becomes the largest allowed smaller one.
    2. Layers beyond the permitted number, and repeated keys, are dropped.
    3. ``downsample`` and ``upsample`` layers without a partner, or without room, are dropped.
    4. A genome in which nothing hears the time step gets a modulation, or a residual layer that has one.
    5. Connections whose ends are gone, equal, adjacent, of different resolution or already connected are dropped.
    """
    parameters = _fit_patch(genome.parameters, shape.size)
    stem_size = shape.size // parameters.patch
    layers = balanced(_modulated(_distinct(genome.layers)), stem_size)
    connections = _feasible(genome.connections, layers, stem_size)
    return ArchitectureGenome(tuple(layers), connections, parameters)


def fresh_key(taken: Iterable[str], after: str, component: ArchitectureComponent) -> str:
    """Return an unused key for a new layer of ``component`` behind the layer ``after``.

    The key depends on the place and the component alone, so that the same invention made twice in a population gets the
    same key and is aligned in crossover, as by the innovation numbers of NEAT (Stanley and Miikkulainen 2002).
    """
    used = set(taken)
    attempt = 0
    while True:
        digest = blake2b(f"{after}/{component.value}/{attempt}".encode(), digest_size=3).hexdigest()
        key = f"{component.value}_{digest}"
        if key not in used:
            return key
        attempt += 1


def balanced(layers: Iterable[LayerGene], stem_size: int) -> list[LayerGene]:
    """Return the layers without resampling that has no partner or no room."""
    layers = list(layers)
    if not any(gene.kind.halvings for gene in layers):
        return layers
    kept: list[LayerGene | None] = []
    open_downsamples: list[int] = []
    size = stem_size
    for gene in layers:
        halvings = gene.kind.halvings
        if halvings > 0:
            if size % 2 or size < 4:
                continue
            open_downsamples.append(len(kept))
            size //= 2
        elif halvings < 0:
            if not open_downsamples:
                continue
            open_downsamples.pop()
            size *= 2
        kept.append(gene)
    for index in open_downsamples:
        kept[index] = None
    return [gene for gene in kept if gene is not None]


def sizes(layers: Iterable[LayerGene], stem_size: int) -> list[int]:
    """Return the resolution behind the stem and behind each layer: layer i sees entry i and gives entry i + 1."""
    size = stem_size
    found = [size]
    for gene in layers:
        halvings = gene.kind.halvings
        if halvings:
            size = size // 2 if halvings > 0 else size * 2
        found.append(size)
    return found


def _fit_patch(parameters: GlobalParameters, size: int) -> GlobalParameters:
    if size % parameters.patch == 0 and size // parameters.patch >= 2:
        return parameters
    patches = cast("tuple[int, ...]", GLOBALS["patch"])
    fitting = [p for p in patches if p <= parameters.patch and size % p == 0 and size // p >= 2]
    return replace(parameters, patch=max(fitting, default=1))


def _distinct(layers: Sequence[LayerGene]) -> list[LayerGene]:
    keys = {STEM, *[gene.key for gene in layers]}
    if len(keys) == len(layers) + 1 <= MAX_LAYERS + 1:
        return list(layers)
    first: dict[str, LayerGene] = {}
    for gene in layers:
        first.setdefault(gene.key, gene)
    first.pop(STEM, None)
    return list(first.values())[:MAX_LAYERS]


def _modulated(layers: list[LayerGene]) -> list[LayerGene]:
    if any(gene.kind.modulated for gene in layers):
        return layers
    able = [index for index, gene in enumerate(layers) if "modulation" in gene.settings]
    if able:
        layers[able[0]] = layers[able[0]].with_settings(modulation="add")
        return layers
    key = fresh_key((gene.key for gene in layers), STEM, ArchitectureComponent.RESIDUAL)
    return [layer(key, ArchitectureComponent.RESIDUAL), *layers[: MAX_LAYERS - 1]]


def _feasible(connections: tuple[Connection, ...], layers: list[LayerGene], stem_size: int) -> tuple[Connection, ...]:
    if not connections:
        return ()
    position = {STEM: -1} | {gene.key: index for index, gene in enumerate(layers)}
    size = sizes(layers, stem_size)
    seen: set[tuple[str, str]] = set()
    found = []
    for edge in connections:
        source, target = position.get(edge.source), position.get(edge.target)
        if source is None or target is None or target - source < 2 or (edge.source, edge.target) in seen:
            continue
        if size[source + 1] == size[target]:
            seen.add((edge.source, edge.target))
            found.append(edge)
    return tuple(found)
