"""What every mutation shares: a proposal becomes a valid child, or the genome comes back unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeVar

import numpy as np

from evodiff.architecture.genome import (
    GENES,
    MAX_LAYERS,
    STEM,
    ArchitectureComponent,
    ArchitectureGenome,
    LayerGene,
    Setting,
    layer,
)
from evodiff.architecture.graph import WIDENING
from evodiff.architecture.limits import Limits
from evodiff.architecture.repair import fresh_key, repair

Item = TypeVar("Item")
Mutation = Callable[[ArchitectureGenome, np.random.Generator, Limits], ArchitectureGenome]
Proposal = Callable[[ArchitectureGenome, np.random.Generator, Limits], ArchitectureGenome | None]

ATTEMPTS = 4

# How often a new layer is of each component.
COMPONENT_SHARES = {
    ArchitectureComponent.CONV: 0.35,
    ArchitectureComponent.RESIDUAL: 0.3,
    ArchitectureComponent.ATTENTION: 0.25,
    ArchitectureComponent.NORM: 0.05,
    ArchitectureComponent.ACTIVATION: 0.05,
}


def mutation(propose: Proposal) -> Mutation:
    """Make a mutation of a function that proposes a changed genome, or ``None`` where it does not apply.

    The proposal is repaired. One that makes the same network, or is over the limits, is drawn again a few times; after
    that the genome is returned unchanged.
    """

    @wraps(propose)
    def mutate(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome:
        for _ in range(ATTEMPTS):
            proposal = propose(genome, rng, limits)
            if proposal is None:
                return genome
            if len(proposal.layers) > MAX_LAYERS:
                continue
            child = repair(proposal, limits.shape)
            if child.canonical() != genome.canonical() and limits.admits(child, genome):
                return child
        return genome

    return mutate


def pick(items: Sequence[Item], rng: np.random.Generator) -> Item:
    """Return one item, each with the same chance."""
    return items[int(rng.integers(len(items)))]


def pick_other(choices: Sequence[Setting], current: Setting, rng: np.random.Generator) -> Setting:
    """Return a value that is not ``current``, each with the same chance."""
    return pick([choice for choice in choices if choice != current], rng)


def replaced(genome: ArchitectureGenome, genes: dict[int, LayerGene]) -> ArchitectureGenome:
    """Return the genome with the layers at some positions replaced."""
    layers = tuple(genes.get(index, gene) for index, gene in enumerate(genome.layers))
    return ArchitectureGenome(layers, genome.connections, genome.parameters)


def trunk_multiplier(layers: Sequence[LayerGene], index: int) -> int:
    """Return the channels, in units of the width, that reach position ``index``."""
    for gene in reversed(layers[:index]):
        if gene.component in WIDENING:
            return int(gene.settings["channels"])
    return 1


def key_before(layers: Sequence[LayerGene], index: int) -> str:
    """Return the key of the layer before position ``index``, or the stem's."""
    return layers[index - 1].key if index > 0 else STEM


def random_layer(genome: ArchitectureGenome, index: int, rng: np.random.Generator) -> LayerGene:
    """Return a new layer for position ``index`` that keeps the number of channels there."""
    shares = list(COMPONENT_SHARES.values())
    component = list(COMPONENT_SHARES)[int(np.searchsorted(np.cumsum(shares), rng.random() * sum(shares)))]
    settings = {name: pick(choices, rng) for name, choices in GENES[component].items()}
    if component in WIDENING:
        settings["channels"] = trunk_multiplier(genome.layers, index)
    key = fresh_key((gene.key for gene in genome.layers), key_before(genome.layers, index), component)
    return layer(key, component, **settings)
