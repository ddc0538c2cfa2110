"""Children of two architectures: valid, aligned by key, made of what the parents have."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from genome_strategies import SHAPES, SPACES, sampled, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from evodiff.architecture.crossover import aligned, crossover
from evodiff.architecture.genome import ArchitectureGenome, GlobalParameters, layer
from evodiff.architecture.limits import Limits
from evodiff.architecture.zoo import convnet, ddpm_unet, ddpm_unet_small, dit

DIGITS = SHAPES[0]
FREE = Limits(DIGITS)


@given(st.sampled_from(SHAPES), seeds, seeds, seeds)
@settings(max_examples=150, deadline=None)
def test_children_of_any_two_genomes_are_valid_and_under_the_cap(shape, first_seed, second_seed, seed):
    space = SPACES[shape]
    first, second = sampled(shape, first_seed), sampled(shape, second_seed)
    children = space.crossover(first, second, np.random.default_rng(seed))
    for child in children:
        space.validate(child)
    assert children == space.crossover(first, second, np.random.default_rng(seed))


@given(st.sampled_from(SHAPES), seeds, seeds)
@settings(max_examples=40, deadline=None)
def test_children_of_a_genome_with_itself_are_that_genome(shape, genome_seed, seed):
    genome = sampled(shape, genome_seed)
    for child in crossover(genome, genome, np.random.default_rng(seed), Limits(shape)):
        assert child.canonical() == genome.canonical()


@given(seeds, seeds)
@settings(max_examples=60, deadline=None)
def test_relatives_give_each_gene_the_component_and_settings_of_either_parent(mutation_seed, seed):
    rng = np.random.default_rng(mutation_seed)
    space = SPACES[DIGITS]
    parents = [ddpm_unet_small(DIGITS)] * 2
    for _ in range(6):
        parents = [space.mutate(parent, rng) for parent in parents]
    for child in crossover(parents[0], parents[1], np.random.default_rng(seed), FREE):
        for gene in child.layers:
            sources = [other for parent in parents for other in parent.layers if other.key == gene.key]
            assert any(source.component is gene.component for source in sources)
            for name, value in gene.settings.items():
                inherited = {source.settings[name] for source in sources if source.component is gene.component}
                assert value in inherited or name == "modulation"  # repair may add the only modulation
        for name in ("width", "patch", "time_embedding", "positional"):
            assert getattr(child.parameters, name) in {getattr(parent.parameters, name) for parent in parents}


def test_aligned_layers_keep_their_keys_and_their_order():
    first, second = ddpm_unet(DIGITS), convnet(DIGITS)
    anchors = [first.layers[index].key for index, _ in aligned(first.layers, second.layers)]
    assert anchors == ["down0_downsample", "up1_upsample"]
    for seed in range(10):
        for child in crossover(first, second, np.random.default_rng(seed), FREE):
            assert [gene.key for gene in child.layers if gene.key in anchors] == anchors


def test_what_one_child_gets_of_an_aligned_pair_the_other_does_not():
    first = ddpm_unet(DIGITS)
    second = ArchitectureGenome(
        tuple(
            gene.with_settings(norm="rms", modulation="gated") if "norm" in gene.settings else gene
            for gene in first.layers
        ),
        first.connections,
        GlobalParameters(width=16, time_embedding=1),
    )
    for seed in range(5):
        one, other = crossover(first, second, np.random.default_rng(seed), FREE)
        assert one.connections == other.connections == first.connections
        for left, right, a, b in zip(one.layers, other.layers, first.layers, second.layers, strict=True):
            for name in left.settings:
                assert {left.settings[name], right.settings[name]} == {a.settings[name], b.settings[name]}
        assert {one.parameters.width, other.parameters.width} == {16, 32}


def test_strangers_are_cut_and_joined_and_keep_connections_within_a_part():
    first, second = ddpm_unet(DIGITS), dit(DIGITS)
    mixed = 0
    for seed in range(20):
        for child in crossover(first, second, np.random.default_rng(seed), FREE):
            origins = {gene.key.split("_")[0].rstrip("0123456789") for gene in child.layers}
            mixed += "block" in origins and len(origins) > 1
    assert mixed >= 20


def test_parents_come_back_where_no_child_fits():
    tight = Limits(DIGITS, max_parameters=1)
    small = ArchitectureGenome((layer("a", "residual"),), parameters=GlobalParameters(width=8))
    large = ArchitectureGenome((layer("b", "residual"), layer("c", "residual"), layer("d", "residual")))
    for seed in range(5):
        for child in crossover(small, large, np.random.default_rng(seed), tight):
            assert tight.admits(child, small, large)


keys = st.lists(st.sampled_from("abcdefg"), unique=True, max_size=7)


@given(keys, keys)
@settings(max_examples=100, deadline=None)
def test_the_alignment_is_a_longest_common_subsequence(first, second):
    one = [layer(key, "norm") for key in first]
    other = [layer(key, "norm") for key in second]
    found = aligned(one, other)
    assert all(first[i] == second[j] for i, j in found)
    assert found == sorted(found)
    assert [j for _, j in found] == sorted(j for _, j in found)
    subsequences = {run for size in range(len(first) + 1) for run in combinations(first, size)}
    longest = max(
        len(run) for size in range(len(second) + 1) for run in combinations(second, size) if run in subsequences
    )
    assert len(found) == longest
