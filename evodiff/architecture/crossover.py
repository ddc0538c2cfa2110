"""Crossover of two genomes, aligned by layer key."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evodiff.architecture.genome import (
    GLOBALS,
    STEM,
    ArchitectureGenome,
    Connection,
    GlobalParameters,
    LayerGene,
    kind_of,
)
from evodiff.architecture.repair import repair, sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from evodiff.architecture.limits import Limits

ATTEMPTS = 4


def crossover(
    first: ArchitectureGenome, second: ArchitectureGenome, rng: np.random.Generator, limits: Limits
) -> tuple[ArchitectureGenome, ArchitectureGenome]:
    """Return two valid children of two valid genomes.

    1. The layers that both parents have, in the same order, are aligned by key (longest common subsequence).
    2. Of an aligned pair each child takes every setting from either parent, the other child the rest; of a pair of
       different components, the whole gene.
    3. The unmatched layers between two aligned pairs stay together: one child inherits the first parent's, the other
       the second's. Parents with no layer in common are cut once each, at places of equal resolution.
    4. Connections of either parent are inherited where both ends survive: shared ones by both children.
    5. Each global parameter comes from either parent.

    Children are repaired (``repair``). Where they stay over the limits, the parents are returned.
    """
    for _ in range(ATTEMPTS):
        pair = _recombined(first, second, rng, limits)
        if all(limits.admits(child, first, second) for child in pair):
            return pair
    return first, second


@dataclass(frozen=True)
class _Halves:
    """What one child and its sibling inherit."""

    one: list[LayerGene]
    other: list[LayerGene]


def _recombined(
    first: ArchitectureGenome, second: ArchitectureGenome, rng: np.random.Generator, limits: Limits
) -> tuple[ArchitectureGenome, ArchitectureGenome]:
    anchors = aligned(first.layers, second.layers)
    if anchors:
        halves = _mixed_layers(first.layers, second.layers, anchors, rng)
    else:
        halves = _cut_layers(first, second, rng, limits.shape.size)
    edges = _mixed_connections(first.connections, second.connections, halves, rng)
    parameters = _mixed_parameters(first.parameters, second.parameters, rng)
    one, other = (
        repair(ArchitectureGenome(tuple(layers), connections, globals_), limits.shape)
        for layers, connections, globals_ in zip((halves.one, halves.other), edges, parameters, strict=True)
    )
    return one, other


def aligned(first: Sequence[LayerGene], second: Sequence[LayerGene]) -> list[tuple[int, int]]:
    """Return the positions of layers with equal keys that stand in the same order in both, as many as possible.

    Keys are unique in a genome, so this is a longest increasing subsequence: O(n log n).
    """
    position = {gene.key: index for index, gene in enumerate(second)}
    matches = [(index, position[gene.key]) for index, gene in enumerate(first) if gene.key in position]
    tails: list[int] = []  # tails[k]: least end, in ``second``, of an increasing run of k + 1 matches
    ends: list[int] = []  # the match that ends it
    before: list[int] = []
    for index, (_, place) in enumerate(matches):
        k = bisect_left(tails, place)
        before.append(ends[k - 1] if k else -1)
        if k == len(tails):
            tails.append(place)
            ends.append(index)
        else:
            tails[k], ends[k] = place, index
    found = []
    index = ends[-1] if ends else -1
    while index >= 0:
        found.append(matches[index])
        index = before[index]
    return found[::-1]


def _mixed_layers(
    first: Sequence[LayerGene],
    second: Sequence[LayerGene],
    anchors: list[tuple[int, int]],
    rng: np.random.Generator,
) -> _Halves:
    one: list[LayerGene] = []
    other: list[LayerGene] = []
    start_first = start_second = 0
    for stop_first, stop_second in [*anchors, (len(first), len(second))]:
        segments = first[start_first:stop_first], second[start_second:stop_second]
        left, right = segments if rng.random() < 0.5 else segments[::-1]
        one += left
        other += right
        if stop_first < len(first):  # an anchor, not the end
            mine, theirs = _mixed_genes(first[stop_first], second[stop_second], rng)
            one.append(mine)
            other.append(theirs)
        start_first, start_second = stop_first + 1, stop_second + 1
    return _Halves(one, other)


def _mixed_genes(first: LayerGene, second: LayerGene, rng: np.random.Generator) -> tuple[LayerGene, LayerGene]:
    if first.component is not second.component:
        return (first, second) if rng.random() < 0.5 else (second, first)
    if first.kind is second.kind or first.settings == second.settings:
        return first, second
    one, other = [], []
    drawn = rng.random(len(first.settings)).tolist()
    for mine, theirs, share in zip(first.kind.chosen, second.kind.chosen, drawn, strict=True):
        swapped = share < 0.5
        one.append(theirs if swapped else mine)
        other.append(mine if swapped else theirs)
    kinds = (kind_of(first.component, tuple(chosen)) for chosen in (one, other))
    mixed, rest = (LayerGene.of(first.key, kind) for kind in kinds)
    return mixed, rest


def _cut_layers(
    first: ArchitectureGenome, second: ArchitectureGenome, rng: np.random.Generator, image_size: int
) -> _Halves:
    """Cut both parents once and swap their ends, at the place of the second that is most like the first's."""
    cut = int(rng.integers(1, max(2, len(first.layers))))
    stem_sizes = [image_size // parent.parameters.patch for parent in (first, second)]
    reduction = stem_sizes[0] // sizes(first.layers, stem_sizes[0])[cut]
    share = cut / len(first.layers)
    places = [
        place for place, size in enumerate(sizes(second.layers, stem_sizes[1])) if stem_sizes[1] // size == reduction
    ] or [0]
    place = min(places, key=lambda place: abs(place / len(second.layers) - share))
    return _Halves(
        [*first.layers[:cut], *second.layers[place:]],
        [*second.layers[:place], *first.layers[cut:]],
    )


def _mixed_connections(
    first: Sequence[Connection], second: Sequence[Connection], halves: _Halves, rng: np.random.Generator
) -> tuple[tuple[Connection, ...], tuple[Connection, ...]]:
    """Give shared connections to both children, and every other one to the child that has its ends, or to either."""
    children: tuple[list[Connection], list[Connection]] = [], []
    keys = [{STEM, *(gene.key for gene in layers)} for layers in (halves.one, halves.other)]
    joined_first = {(edge.source, edge.target): edge for edge in first}
    for edge in second:
        twin = joined_first.pop((edge.source, edge.target), None)
        side = int(rng.random() < 0.5)
        if twin is not None:
            children[side].append(twin)
            children[1 - side].append(edge)
        else:
            children[_home(edge, keys, side)].append(edge)
    for edge in joined_first.values():
        children[_home(edge, keys, int(rng.random() < 0.5))].append(edge)
    return tuple(children[0]), tuple(children[1])


def _home(edge: Connection, keys: Sequence[set[str]], side: int) -> int:
    """Return ``side``, or the other one where only that has both ends."""
    return side if edge.source in keys[side] and edge.target in keys[side] else 1 - side


def _mixed_parameters(
    first: GlobalParameters, second: GlobalParameters, rng: np.random.Generator
) -> tuple[GlobalParameters, GlobalParameters]:
    one: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for name, swapped in zip(GLOBALS, rng.random(len(GLOBALS)) < 0.5, strict=True):
        values = getattr(first, name), getattr(second, name)
        one[name], other[name] = values[::-1] if swapped else values
    return GlobalParameters(**one), GlobalParameters(**other)
