"""An architecture as a vector."""

from __future__ import annotations

import numpy as np
import pytest
from genome_strategies import SHAPES, SPACES, sampled, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from evodiff.architecture import cost
from evodiff.architecture.features import FEATURE_NAMES, FEATURE_WEIGHTS
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
        "level0_blocks": 3,
        "level1_blocks": 5,
        "level1_attention": 4,
        "level1_log_channels": np.log(64),
        "level2_blocks": 0,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-8)


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
