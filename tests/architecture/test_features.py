"""An architecture as a vector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from genome_strategies import SHAPES, SPACES, sampled, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from evodiff.architecture import cost
from evodiff.architecture.features import FEATURE_NAMES, FEATURE_WEIGHTS, features
from evodiff.architecture.graph import resolve
from evodiff.architecture.zoo import ddpm_unet

DIGITS = SHAPES[0]


@given(st.sampled_from(SHAPES), seeds)
@settings(max_examples=60, deadline=None)
def test_features_are_finite_and_of_one_length_for_every_genome(shape, seed):
    found = SPACES[shape].features(sampled(shape, seed))
    assert found.shape == (len(FEATURE_NAMES),)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()


def test_the_ddpm_unet_has_the_features_that_one_counts_by_hand():
    genome = ddpm_unet(DIGITS)
    found = dict(zip(FEATURE_NAMES, SPACES[DIGITS].features(genome), strict=True))
    expected = {
        "log_parameters": np.log(702753),
        "log_flops": np.log(cost.flops(resolve(genome, DIGITS))),
        "log_width": np.log(32),
        "positional": 0,
        "layers": 14,
        "modulated_layers": 8,
        "full_attention_log_positions": np.log(16),
        "lowest_size": 4,
        "count_residual": 8,
        "count_attention": 4,
        "count_conv": 0,
        "share_attention_heads_4": 1,
        "share_residual_channels_2": 5 / 8,
        "share_conv_channels_1": 0,
        "connections": 4,
        "concat_connections": 4,
        "connections_from_stem": 1,
        "unbridged_halvings": 0,
        "level0_blocks": 3,
        "level1_blocks": 5,
        "level1_attention": 4,
        "level1_log_channels": np.log(64),
        "level2_blocks": 0,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-8)


@given(st.sampled_from(SHAPES), seeds)
@settings(max_examples=60, deadline=None)
def test_unbridged_halvings_are_those_that_no_way_to_the_output_avoids(shape, seed):
    """The largest resolution at which one comes from the stem to the output without ever meeting a smaller one."""
    genome = sampled(shape, seed)
    for connections in (genome.connections, ()):
        network = resolve(replace(genome, connections=connections), shape)
        ways = {(position, position + 1) for position in range(len(network.layers))}
        ways |= {(edge.source + 1, layer.position + 1) for layer in network.layers for edge in layer.edges}

        def passes(size, network=network, ways=ways):
            reached = {0}
            for source, target in sorted(ways):
                if source in reached and network.sizes[target] >= size:
                    reached.add(target)
            return len(network.layers) in reached

        best = max(size for size in set(network.sizes) if passes(size))
        found = dict(zip(FEATURE_NAMES, features(network), strict=True))
        assert found["unbridged_halvings"] == np.log2(network.stem_size / best)


def test_a_unet_without_skip_connections_bridges_nothing():
    genome = ddpm_unet(DIGITS)
    bare = features(resolve(replace(genome, connections=()), DIGITS))
    assert bare[FEATURE_NAMES.index("unbridged_halvings")] == 1


def test_many_genomes_make_one_row_each_and_different_nets_differ():
    space = SPACES[DIGITS]
    genomes = list({genome.canonical(): genome for genome in (sampled(DIGITS, seed) for seed in range(80))}.values())
    table = space.features_many(genomes)
    assert table.shape == (len(genomes), len(FEATURE_NAMES))
    assert (table[7] == space.features(genomes[7])).all()
    assert len(np.unique(table, axis=0)) >= 0.98 * len(genomes)


def test_names_are_unique():
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)


def test_the_choices_of_a_setting_weigh_together_as_much_as_any_other_feature():
    weights = dict(zip(FEATURE_NAMES, FEATURE_WEIGHTS, strict=True))
    kernels = [weights[f"share_conv_kernel_{size}"] for size in (1, 3, 5)]
    assert sum(weight**2 for weight in kernels) == pytest.approx(1)
    assert {weight for name, weight in weights.items() if not name.startswith("share_")} == {1.0}
    assert (SPACES[DIGITS].feature_weights() == FEATURE_WEIGHTS).all()
