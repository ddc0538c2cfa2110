"""Repair makes a network of whatever an operator left, and leaves a valid genome as it is."""

from __future__ import annotations

from genome_strategies import SHAPES, sampled, seeds, wild_genomes
from hypothesis import given, settings
from hypothesis import strategies as st

from evodiff.architecture.genome import ArchitectureComponent, ArchitectureGenome, GlobalParameters, ImageShape, layer
from evodiff.architecture.graph import KEY_PATTERN, resolve
from evodiff.architecture.repair import fresh_key, repair, sizes

shapes = st.sampled_from([*SHAPES, ImageShape(3, 28, 0), ImageShape(1, 7, 3), ImageShape(1, 2, 0)])


@given(wild_genomes(), shapes)
@settings(max_examples=300, deadline=None)
def test_whatever_was_cut_or_joined_makes_a_network_after_repair(genome, shape):
    repaired = repair(genome, shape)
    resolve(repaired, shape)
    assert repair(repaired, shape) == repaired


@given(seeds, st.sampled_from(SHAPES))
@settings(max_examples=60, deadline=None)
def test_a_valid_genome_comes_back_equal(seed, shape):
    genome = sampled(shape, seed)
    assert repair(genome, shape) == genome


def test_resampling_without_a_partner_is_dropped_and_the_rest_kept():
    names = ("downsample", "residual", "downsample", "conv", "upsample", "norm")
    genome = ArchitectureGenome(tuple(layer(f"k{index}", name) for index, name in enumerate(names)))
    assert [gene.key for gene in repair(genome, SHAPES[0]).layers] == ["k1", "k2", "k3", "k4", "k5"]


def test_a_network_deaf_to_the_time_step_gets_a_modulation():
    conv = ArchitectureGenome((layer("a", "norm"), layer("b", "conv")))
    assert repair(conv, SHAPES[0]).layers[1].settings["modulation"] == "add"
    norm = ArchitectureGenome((layer("a", "norm"),))
    assert [gene.component.value for gene in repair(norm, SHAPES[0]).layers] == ["residual", "norm"]


def test_a_patch_that_does_not_divide_the_image_becomes_the_next_smaller_one():
    genome = ArchitectureGenome((layer("a", "residual"),), parameters=GlobalParameters(patch=4))
    assert repair(genome, ImageShape(1, 14, 0)).parameters.patch == 2
    assert repair(genome, ImageShape(1, 7, 0)).parameters.patch == 1
    assert repair(genome, ImageShape(1, 28, 0)).parameters.patch == 4


def test_sizes_are_what_resolution_finds():
    genome = sampled(SHAPES[2], 11)
    resolved = resolve(genome, SHAPES[2])
    expected = [resolved.stem_size, *(item.out_size for item in resolved.layers)]
    assert sizes(genome.layers, resolved.stem_size) == expected


@given(st.lists(st.sampled_from(list(ArchitectureComponent)), min_size=1, max_size=20), st.sampled_from("ab"))
@settings(max_examples=50, deadline=None)
def test_a_fresh_key_is_unused_and_depends_on_its_place_alone(components, after):
    taken: set[str] = set()
    for component in components:
        key = fresh_key(taken, after, component)
        assert key == fresh_key(sorted(taken), after, component)
        assert key not in taken
        assert KEY_PATTERN.fullmatch(key)
        taken.add(key)
