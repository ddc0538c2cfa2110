"""Shapes of the resolved graph, and what is said of a genome that makes no network."""

from __future__ import annotations

import copy

import pytest
from genome_strategies import SHAPES

from evodiff.architecture.genome import (
    MAX_LAYERS,
    STEM,
    ArchitectureGenome,
    Connection,
    GlobalParameters,
    ImageShape,
    layer,
)
from evodiff.architecture.graph import resolve
from evodiff.architecture.zoo import ddpm_unet
from evodiff.errors import InvalidGenome

DIGITS = SHAPES[0]


def test_a_copy_of_a_resolved_genome_has_the_same_kinds():
    resolved = resolve(ddpm_unet(DIGITS), DIGITS)
    again = copy.deepcopy(resolved)
    assert again.genome == resolved.genome
    assert all(one is other for one, other in zip(again.kinds, resolved.kinds, strict=True))
    assert again.layers == resolved.layers


def test_up_blocks_of_the_ddpm_unet_see_trunk_and_skip():
    resolved = resolve(ddpm_unet(DIGITS), DIGITS)
    seen = {
        item.gene.key: (item.in_channels, item.out_channels, item.in_size, item.out_size) for item in resolved.layers
    }
    assert seen["down0_residual0"] == (32, 32, 8, 8)
    assert seen["down0_downsample"] == (32, 32, 8, 4)
    assert seen["down1_residual0"] == (32, 64, 4, 4)
    assert seen["up1_residual0"] == (64 + 64, 64, 4, 4)
    assert seen["up1_residual1"] == (64 + 32, 64, 4, 4)
    assert seen["up1_upsample"] == (64, 64, 4, 8)
    assert seen["up0_residual0"] == (64 + 32, 32, 8, 8)
    assert seen["up0_residual1"] == (32 + 32, 32, 8, 8)
    assert (resolved.out_channels, resolved.stem_size, resolved.time_embedding_channels) == (32, 8, 128)


def test_only_layers_that_widen_see_concatenated_channels():
    layers = (layer("a", "residual", channels=2), layer("b", "attention"), layer("c", "attention"), layer("d", "conv"))
    edges = (Connection(STEM, "c"), Connection("a", "c", "add"), Connection(STEM, "d"), Connection("a", "d"))
    resolved = resolve(ArchitectureGenome(layers, edges), DIGITS)
    attention, conv = resolved.layers[2], resolved.layers[3]
    assert (attention.trunk_channels, attention.in_channels) == (64, 64)
    assert (conv.trunk_channels, conv.in_channels, conv.out_channels) == (64, 64 + 32 + 64, 32)
    assert [edge.source for edge in conv.edges] == [-1, 0]


def test_a_patch_divides_the_resolution_that_layers_see():
    genome = ArchitectureGenome((layer("a", "residual"),), parameters=GlobalParameters(patch=4))
    assert resolve(genome, ImageShape(3, 32, 0)).layers[0].in_size == 8


HEARING = layer("a", "residual")


def _genome(*layers, edges=(), **parameters):
    return ArchitectureGenome(layers, tuple(edges), GlobalParameters(**parameters))


def _plain(key):
    return layer(key, "conv")


@pytest.mark.parametrize(
    ("genome", "where", "named"),
    [
        (_genome(), "layers", "1 to 64"),
        (_genome(HEARING, *(_plain(f"b{i}") for i in range(MAX_LAYERS))), "layers", "65"),
        (_genome(HEARING, HEARING), "layers[1].key", "'a'"),
        (_genome(layer(STEM, "residual")), "layers[0].key", "stem"),
        (_genome(layer("a.b", "residual")), "layers[0].key", "a.b"),
        (_genome(layer("2", "residual")), "layers[0].key", "a letter"),
        (_genome(_plain("a"), layer("b", "norm")), "layers", "modulation"),
        (_genome(HEARING, patch=4, width=8), "parameters.patch", "4"),
        (_genome(HEARING, layer("b", "downsample")), "layers", "upsample"),
        (_genome(layer("b", "upsample"), HEARING), "layer b", "downsample"),
        (_genome(HEARING, layer("b", "downsample"), layer("c", "downsample")), "layer c", "even size"),
        (_genome(HEARING, edges=[Connection("z", "a")]), "connections[0].source", "'z'"),
        (_genome(HEARING, edges=[Connection(STEM, "z")]), "connections[0].target", "'z'"),
        (_genome(HEARING, edges=[Connection(STEM, "a")]), "connections[0]", "stem -> a"),
        (_genome(HEARING, _plain("b"), edges=[Connection("b", "a")]), "connections[0]", "b -> a"),
        (
            _genome(HEARING, _plain("b"), edges=[Connection(STEM, "b"), Connection(STEM, "b", "add")]),
            "connections[1]",
            "stem -> b",
        ),
        (
            _genome(
                HEARING, layer("b", "downsample"), _plain("c"), layer("d", "upsample"), edges=[Connection("a", "c")]
            ),
            "connection a -> c",
            "resolution",
        ),
    ],
)
def test_a_genome_that_makes_no_network_is_refused_with_the_gene_and_a_remedy(genome, where, named):
    with pytest.raises(InvalidGenome) as refusal:
        resolve(genome, ImageShape(1, 4, 0))
    assert refusal.value.where == where
    assert named in str(refusal.value)
    assert refusal.value.remedy
