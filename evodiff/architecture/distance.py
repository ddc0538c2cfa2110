"""How far two architectures are apart: a weighted edit distance that layer keys have no part in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from evodiff.architecture.genome import GENES, STEM, ArchitectureComponent, ArchitectureGenome, GlobalParameters
from evodiff.architecture.global_mutations import WIDTHS

LAYER_WEIGHT: Final = 0.7
CONNECTION_WEIGHT: Final = 0.15
GLOBAL_WEIGHT: Final = 0.15

# Integers, so that sums are exact and the distance symmetric to the last bit.
GAP: Final = 60  # a layer that the other architecture lacks
OTHER_COMPONENT: Final = 110
ANY_SETTING: Final = 20  # the same component with other settings: this, and
ALL_SETTINGS: Final = 70  # this times the share of settings that differ

_COMPONENTS = list(ArchitectureComponent)
_SLOTS = max(len(settings) for settings in GENES.values())
_SETTING_COUNTS = np.array([len(GENES[component]) for component in _COMPONENTS])


@dataclass(frozen=True)
class _Encoded:
    """A genome as numbers: (n, 1 + slots) component and settings of each layer; connections by position."""

    layers: np.ndarray
    edges: dict[tuple[int, int], str]
    parameters: GlobalParameters


def distance(first: ArchitectureGenome, second: ArchitectureGenome) -> float:
    """Return a number in [0, 1]: 0 for equal canonical strings, more than 0 otherwise, the same both ways.

    1. Layers: the cheapest alignment (Needleman and Wunsch 1970) in which a missing layer costs 60, another component
       110, the same component with other settings 20 to 90; divided by the cost of matching nothing.
    2. Connections: one minus the share, of all connections of either, whose ends are aligned in the other; half a match
       where only the merge differs.
    3. Global parameters: the mean difference of their values.

    The sum is weighted .7, .15, .15. O(n m) for n and m layers, vectorised over one of them.
    """
    if first.canonical() == second.canonical():
        return 0.0
    if second.canonical() < first.canonical():
        first, second = second, first  # an alignment can be ambiguous: both directions must take the same one
    one, other = _encode(first), _encode(second)
    table = _alignment_table(one.layers, other.layers)
    most = GAP * (len(one.layers) + len(other.layers))
    layers = float(table[-1, -1]) / most
    connections = _connection_distance(one, other, table) if one.edges or other.edges else 0.0
    return (
        LAYER_WEIGHT * layers
        + CONNECTION_WEIGHT * connections
        + GLOBAL_WEIGHT * _global_distance(one.parameters, other.parameters)
    )


@lru_cache(maxsize=4096)
def _encode(genome: ArchitectureGenome) -> _Encoded:
    layers = np.full((len(genome.layers), 1 + _SLOTS), -1, dtype=np.int64)
    for row, gene in zip(layers, genome.layers, strict=True):
        row[0] = _COMPONENTS.index(gene.component)
        for slot, (name, choices) in enumerate(GENES[gene.component].items(), start=1):
            row[slot] = choices.index(gene.settings[name])
    position = {STEM: -1} | {gene.key: index for index, gene in enumerate(genome.layers)}
    edges = {(position[edge.source], position[edge.target]): edge.merge for edge in genome.connections}
    return _Encoded(layers, edges, genome.parameters)


def _substitution_costs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the (n, m) costs of matching each layer of one architecture with each of another."""
    differing = (first[:, None, 1:] != second[None, :, 1:]).sum(axis=2)
    total = _SETTING_COUNTS[first[:, 0]][:, None]
    settings = np.where(differing > 0, ANY_SETTING + ALL_SETTINGS * differing // total, 0)
    same = first[:, None, 0] == second[None, :, 0]
    return np.where(same, settings, OTHER_COMPONENT)


def _alignment_table(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the (n + 1, m + 1) costs of aligning the first i layers of one with the first j of the other.

    Along a row, insertions are a running minimum: cost[j] = min over k <= j of t[k] + (j - k) gap.
    """
    costs = _substitution_costs(first, second)
    gaps = GAP * np.arange(len(second) + 1)
    table = np.empty((len(first) + 1, len(second) + 1), dtype=np.int64)
    table[0] = gaps
    for index, row in enumerate(costs):
        above = table[index]
        below = table[index + 1]
        below[0] = above[0] + GAP
        np.minimum(above[1:] + GAP, above[:-1] + row, out=below[1:])
        below -= gaps
        np.minimum.accumulate(below, out=below)
        below += gaps
    return table


def _aligned_positions(table: np.ndarray) -> dict[int, int]:
    """Return, for layers of the first that are matched, the position of their partner in the second."""
    cost = table.tolist()
    i, j = len(cost) - 1, len(cost[0]) - 1
    partner = {-1: -1}
    while i > 0 and j > 0:
        if cost[i][j] == cost[i - 1][j] + GAP:
            i -= 1
        elif cost[i][j] == cost[i][j - 1] + GAP:
            j -= 1
        else:
            i, j = i - 1, j - 1
            partner[i] = j
    return partner


def _connection_distance(one: _Encoded, other: _Encoded, table: np.ndarray) -> float:
    partner = _aligned_positions(table)
    shared = 0
    matched = 0.0
    for (source, target), merge in one.edges.items():
        if source in partner and target in partner:
            found = other.edges.get((partner[source], partner[target]))
            if found is not None:
                shared += 1
                matched += 1.0 if found == merge else 0.5
    return 1 - matched / (len(one.edges) + len(other.edges) - shared)


def _global_distance(first: GlobalParameters, second: GlobalParameters) -> float:
    differences = (
        abs(WIDTHS.index(first.width) - WIDTHS.index(second.width)) / (len(WIDTHS) - 1),
        first.patch != second.patch,
        first.time_embedding != second.time_embedding,
        first.positional != second.positional,
    )
    return sum(differences) / len(differences)
