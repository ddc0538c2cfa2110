"""The distance of architectures: its axioms, its alignment against a plain reference, and its sense of near and far."""

from __future__ import annotations

import numpy as np
import pytest
from genome_strategies import SHAPES, SPACES, sampled, seeds, wild_genomes
from hypothesis import given, settings
from hypothesis import strategies as st

from evodiff.architecture.distance import (
    ALL_SETTINGS,
    ANY_SETTING,
    GAP,
    GLOBAL_WEIGHT,
    LAYER_WEIGHT,
    OTHER_COMPONENT,
    distance,
)
from evodiff.architecture.genome import GENES, STEM, ArchitectureGenome, Connection, GlobalParameters, LayerGene, layer
from evodiff.architecture.repair import repair
from evodiff.architecture.zoo import ddpm_unet, ddpm_unet_deep, dit, tiny

DIGITS = SHAPES[0]


@given(st.sampled_from(SHAPES), seeds, seeds)
@settings(max_examples=100, deadline=None)
def test_it_is_symmetric_between_0_and_1_and_0_for_equal_canonical_strings_alone(shape, first_seed, second_seed):
    first, second = sampled(shape, first_seed), sampled(shape, second_seed)
    found = distance(first, second)
    assert found == distance(second, first)
    assert 0 <= found <= 1
    assert (found == 0) == (first.canonical() == second.canonical())


@given(wild_genomes(), wild_genomes())
@settings(max_examples=100, deadline=None)
def test_repaired_wild_genomes_keep_the_axioms(first, second):
    first, second = repair(first, DIGITS), repair(second, DIGITS)
    assert distance(first, second) == distance(second, first)
    assert 0 <= distance(first, second) <= 1
    assert (distance(first, second) == 0) == (first.canonical() == second.canonical())


@given(st.sampled_from(SHAPES), seeds, seeds)
@settings(max_examples=60, deadline=None)
def test_every_mutant_that_is_another_network_is_at_a_distance(shape, seed, mutation_seed):
    genome = sampled(shape, seed)
    mutant = SPACES[shape].mutate(genome, np.random.default_rng(mutation_seed))
    if mutant is not genome:
        assert distance(genome, mutant) > 0


def test_renamed_layers_are_no_distance_away():
    genome = ddpm_unet(DIGITS)
    names = {gene.key: f"x{index}" for index, gene in enumerate(genome.layers)} | {STEM: STEM}
    renamed = ArchitectureGenome(
        tuple(LayerGene(names[gene.key], gene.component, gene.settings) for gene in genome.layers),
        tuple(Connection(names[edge.source], names[edge.target], edge.merge) for edge in genome.connections[::-1]),
        genome.parameters,
    )
    assert distance(genome, renamed) == 0


def _substitution(first, second):
    if first.component is not second.component:
        return OTHER_COMPONENT
    total = len(GENES[first.component])
    differing = sum(first.settings[name] != second.settings[name] for name in first.settings)
    return ANY_SETTING + ALL_SETTINGS * differing // total if differing else 0


def _plain_alignment(first, second):
    """Return the cost of the cheapest alignment, by the textbook's recursion."""
    row = [GAP * j for j in range(len(second) + 1)]
    for i, one in enumerate(first, start=1):
        above, row = row, [GAP * i]
        for j, other in enumerate(second, start=1):
            row.append(min(above[j] + GAP, row[j - 1] + GAP, above[j - 1] + _substitution(one, other)))
    return row[-1]


@given(seeds, seeds)
@settings(max_examples=60, deadline=None)
def test_layers_count_by_the_cheapest_alignment(first_seed, second_seed):
    first, second = (ArchitectureGenome(sampled(SHAPES[1], seed).layers) for seed in (first_seed, second_seed))
    most = GAP * (len(first.layers) + len(second.layers))
    assert distance(first, second) == pytest.approx(LAYER_WEIGHT * _plain_alignment(first.layers, second.layers) / most)


def test_global_parameters_count_by_the_share_that_differs():
    layers = (layer("a", "residual"),)
    one = ArchitectureGenome(layers, parameters=GlobalParameters(width=8, patch=1))
    other = ArchitectureGenome(layers, parameters=GlobalParameters(width=128, patch=2))
    assert distance(one, other) == pytest.approx(GLOBAL_WEIGHT * 2 / 4)


def test_connections_are_compared_where_layers_are_aligned_not_by_position():
    genome = ddpm_unet(DIGITS)
    shifted = ArchitectureGenome((layer("new", "norm"), *genome.layers), genome.connections, genome.parameters)
    alone = LAYER_WEIGHT * GAP / (GAP * (2 * len(genome.layers) + 1))
    assert distance(genome, shifted) == pytest.approx(alone)


def test_relatives_are_nearer_than_strangers():
    genome = ddpm_unet(DIGITS)
    one_setting = ArchitectureGenome(
        (genome.layers[0].with_settings(norm="rms"), *genome.layers[1:]), genome.connections, genome.parameters
    )
    near = distance(genome, one_setting)
    deeper = distance(genome, ddpm_unet_deep(DIGITS))
    assert 0 < near < 0.05 < deeper < distance(genome, dit(DIGITS))
    assert distance(genome, tiny(DIGITS)) > deeper
