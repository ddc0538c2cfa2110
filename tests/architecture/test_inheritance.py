"""Children start as their parents where mathematics allows, and say so; elsewhere they keep what overlaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from genome_strategies import SHAPES, SPACES, sampled

from evodiff.architecture.genome import ArchitectureGenome, Connection, GlobalParameters, ImageShape, layer
from evodiff.architecture.inheritance import Inheritance, Parent, inherit
from evodiff.architecture.limits import Limits
from evodiff.architecture.network import build_network
from evodiff.architecture.operators import MUTATIONS
from evodiff.architecture.widening import joined, padded, spread
from evodiff.architecture.zoo import ddpm_unet, tiny
from evodiff.errors import SettingsError

SHAPE = ImageShape(2, 8, 3)
FREE = Limits(SHAPE)
STEMS = GlobalParameters(width=8)
TOLERANCE = 1e-5


def trained(genome, shape=SHAPE, seed=1):
    """A network whose every weight, also of gates and of the last convolution, is other than at its start."""
    network = build_network(genome, shape, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def images(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = network.shape
    sample = torch.randn(4, shape.channels, shape.size, shape.size, generator=generator)
    labels = torch.arange(4) % (shape.classes + 1) if shape.classes else None
    with torch.no_grad():
        return network(sample, torch.tensor([0, 40, 500, 999]), labels)


def child_of(genome, *parents, shape=SHAPE, seed=2):
    """The child's network and what it got of parents, which are networks."""
    network = build_network(genome, shape, seed=seed)
    report = inherit(network, [Parent(parent.genome, parent.state_dict()) for parent in parents])
    return network.eval(), report


def difference(child, parent):
    found, expected = images(child), images(parent)
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))


def assert_the_same_function(genome, parent_genome, shape=SHAPE):
    parent = trained(parent_genome, shape)
    child, report = child_of(genome, parent, shape=shape)
    assert report.preserves_function
    assert not report.overlapped
    assert difference(child, parent) < TOLERANCE
    return report


def genome_of(*layers, connections=(), parameters=STEMS):
    return ArchitectureGenome(layers, tuple(Connection(*edge) for edge in connections), parameters)


def with_layer(genome, key, **settings):
    layers = tuple(gene.with_settings(**settings) if gene.key == key else gene for gene in genome.layers)
    return replace(genome, layers=layers)


CHAIN = genome_of(
    layer("a", "residual", norm="group"),
    layer("b", "conv", norm="layer", expansion=2, kernel=1, modulation="scale_shift"),
    layer("down", "downsample"),
    layer("c", "attention", norm="rms", modulation="gated", heads=2),
    layer("up", "upsample"),
    layer("d", "residual", norm="rms", modulation="scale_shift"),
    layer("e", "conv", separable=True, modulation="add"),
    connections=(("a", "d", "add"), ("stem", "e", "concat")),
)


def test_a_child_of_the_parents_genome_is_the_parent_bit_for_bit():
    parent = trained(CHAIN)
    child, report = child_of(CHAIN, parent)
    assert all(torch.equal(tensor, parent.state_dict()[name]) for name, tensor in child.state_dict().items())
    assert report.share == 1
    assert report.preserves_function
    assert report.widened == report.overlapped == report.new == ()
    assert {"stem", "time_embedding", "class_embedding", "output", "layers.a"} <= set(report.copied)


@pytest.mark.parametrize("norm", ["group", "layer", "rms"])
@pytest.mark.parametrize("modulation", ["add", "scale_shift", "gated", "none"])
@pytest.mark.parametrize("channels", [2, 3])
def test_more_channels_in_the_middle_of_a_chain_leave_the_function_as_it_was(norm, modulation, channels):
    parent = genome_of(
        layer("a", "residual"),
        layer("b", "residual", norm=norm, modulation=modulation),
        layer("c", "conv", norm=norm, modulation=modulation),
        layer("d", "attention", norm=norm, modulation=modulation),
        layer("e", "residual", norm=norm),
    )
    report = assert_the_same_function(with_layer(parent, "b", channels=channels), parent)
    assert "layers.b" in report.widened
    assert "layers.a" in report.copied


def test_a_whole_stage_widens_without_a_change_of_function():
    assert_the_same_function(with_layer(with_layer(CHAIN, "a", channels=2), "b", channels=2), CHAIN)


@pytest.mark.parametrize(("width", "wider"), [(8, 16), (8, 24), (16, 32), (32, 64)])
@pytest.mark.parametrize("kind", ["full", "linear"])
def test_a_wider_network_returns_what_the_narrower_one_did(width, wider, kind):
    parent = replace(with_layer(CHAIN, "c", kind=kind), parameters=GlobalParameters(width=width, positional=True))
    child = replace(parent, parameters=replace(parent.parameters, width=wider))
    report = assert_the_same_function(child, parent)
    assert report.share > 0.5


@pytest.mark.parametrize("width", [16, 24])
def test_a_wider_ddpm_unet_returns_what_the_narrower_one_did(width):
    shape = ImageShape(1, 8, 0)
    parent = replace(ddpm_unet(shape), parameters=replace(ddpm_unet(shape).parameters, width=8))
    assert_the_same_function(replace(parent, parameters=replace(parent.parameters, width=width)), parent, shape)


@pytest.mark.parametrize(("name", "value"), [("time_embedding", 4), ("positional", True)])
def test_a_larger_time_embedding_and_a_new_position_change_nothing(name, value):
    parent = replace(CHAIN, parameters=GlobalParameters(width=8, time_embedding=2))
    assert_the_same_function(replace(parent, parameters=replace(parent.parameters, **{name: value})), parent)


@pytest.mark.parametrize("settings", [{"kernel": 5}, {"kernel": 3}, {"expansion": 4}, {"expansion": 4, "channels": 2}])
def test_larger_kernels_and_bottlenecks_change_nothing(settings):
    assert_the_same_function(with_layer(CHAIN, "b", **settings), CHAIN)


@pytest.mark.parametrize("kind", ["full", "linear"])
def test_more_heads_in_more_channels_change_nothing(kind):
    parent = genome_of(layer("a", "residual"), layer("b", "attention", kind=kind, heads=2))
    child = with_layer(with_layer(parent, "a", channels=3), "b", heads=4)
    assert_the_same_function(child, parent)


def test_heads_that_are_split_are_another_function_and_said_to_be():
    parent = trained(genome_of(layer("a", "residual"), layer("b", "attention", heads=2)))
    child, report = child_of(with_layer(parent.genome, "b", heads=4), parent)
    assert report.overlapped == ("layers.b",)
    assert not report.preserves_function
    assert torch.equal(child.layers["b"].operation.qkv.weight, parent.layers["b"].operation.qkv.weight)


NEWCOMERS = [
    layer("new", "residual", modulation="none"),
    layer("new", "residual", modulation="gated"),
    layer("new", "residual", channels=4),
    layer("new", "conv"),
    layer("new", "conv", expansion=4, kernel=1, modulation="gated"),
    layer("new", "conv", separable=True),
    layer("new", "attention", kind="linear"),
    layer("new", "attention", modulation="gated"),
]


@pytest.mark.parametrize("newcomer", NEWCOMERS)
@pytest.mark.parametrize("edge", [(), ("stem", "new", "concat")])
def test_a_layer_that_comes_in_on_a_branch_starts_as_the_identity_and_can_learn(newcomer, edge):
    parent = genome_of(layer("a", "residual"), layer("b", "conv", channels=3), layer("c", "conv"))
    child = replace(
        parent,
        layers=(*parent.layers[:1], newcomer, *parent.layers[1:]),
        connections=(Connection(*edge),) if edge else (),
    )
    assert_the_same_function(child, parent)
    network, report = child_of(child, trained(parent))
    assert report.new == ("layers.new",)
    network.train()
    network(torch.ones(2, 2, 8, 8).cumsum(-1), torch.tensor([10, 500])).square().sum().backward()
    branch = network.layers["new"].operation.parameters()
    assert any(item.grad is not None and item.grad.abs().max() > 0 for item in branch)


def test_a_layer_that_cannot_be_silenced_is_said_to_change_the_function():
    parent = genome_of(layer("a", "residual"), layer("b", "conv"))
    for newcomer in (layer("new", "norm"), layer("new", "activation"), layer("new", "conv", shortcut=False)):
        child = replace(parent, layers=(parent.layers[0], newcomer, parent.layers[1]))
        assert not child_of(child, trained(parent))[1].preserves_function


@pytest.mark.parametrize("name", ["duplicate_block", "deepen_stage"])
def test_a_deepened_unet_returns_what_the_shallower_one_did(name):
    genome = ddpm_unet(SHAPE)
    genome = replace(genome, parameters=replace(genome.parameters, width=8))
    preserved = 0
    for seed in range(4):
        child = MUTATIONS[name](genome, np.random.default_rng(seed), FREE)
        parent = trained(genome)
        network, report = child_of(child, parent)
        preserved += report.preserves_function
        if report.preserves_function:
            assert difference(network, parent) < TOLERANCE
    assert preserved >= 3


@pytest.mark.parametrize("name", MUTATIONS)
def test_whoever_is_said_to_preserve_the_function_does(name):
    """Over random genomes and every mutation: the report is never wrong, and never raises."""
    for seed in range(3):
        shape = SHAPES[seed % len(SHAPES)]
        genome = sampled(shape, seed)
        child_genome = SPACES[shape].mutate(genome, np.random.default_rng(seed), name)
        parent = trained(genome, shape)
        child, report = child_of(child_genome, parent, shape=shape)
        if report.preserves_function:
            assert difference(child, parent) < TOLERANCE
        assert 0 <= report.share <= 1
        assert all(torch.isfinite(tensor).all() for tensor in child.state_dict().values())


def test_channels_that_grow_by_no_integer_are_taken_over_group_by_group_and_said_to_differ():
    parent = trained(replace(CHAIN, parameters=GlobalParameters(width=32)))
    child, report = child_of(replace(CHAIN, parameters=GlobalParameters(width=40)), parent)
    assert not report.preserves_function
    assert "layers.a" in report.overlapped
    assert report.share > 0.5
    stem = child.stem.weight.detach()
    assert torch.equal(stem[:5], parent.stem.weight[[0, 0, 1, 2, 3]])


def test_a_narrower_child_keeps_channels_of_every_group():
    parent = trained(replace(CHAIN, parameters=GlobalParameters(width=16)))
    child, report = child_of(CHAIN, parent)
    assert not report.preserves_function
    assert torch.equal(child.stem.weight, parent.stem.weight[::2])


def test_a_child_that_widens_and_narrows_again_is_its_grandparent():
    grandparent = trained(CHAIN)
    parent, _ = child_of(replace(CHAIN, parameters=GlobalParameters(width=16)), grandparent)
    child, _ = child_of(CHAIN, parent)
    assert torch.equal(child.stem.weight, grandparent.stem.weight)


def test_each_layer_of_a_crossover_child_comes_from_the_parent_it_came_from():
    first = trained(genome_of(layer("a", "residual"), layer("b", "conv"), layer("c", "attention")), seed=1)
    second = trained(
        genome_of(
            layer("a", "residual", kernel=5), layer("b", "conv"), layer("c", "attention"), layer("d", "residual")
        ),
        seed=2,
    )
    genome = genome_of(
        layer("a", "residual", kernel=5), layer("b", "conv"), layer("c", "attention", heads=1), layer("d", "residual")
    )
    child, report = child_of(genome, first, second)
    ours, one, other = child.state_dict(), first.state_dict(), second.state_dict()
    for name, tensor in ours.items():
        if name.startswith(("layers.a", "layers.d", "output")):
            assert torch.equal(tensor, other[name])
        elif not name.startswith("layers.c"):
            assert torch.equal(tensor, one[name])
    assert torch.equal(ours["layers.c.operation.out.weight"], one["layers.c.operation.out.weight"])
    assert report.overlapped == ("layers.c",)
    assert not report.preserves_function


def test_copies_of_a_channel_learn_apart():
    parent = genome_of(layer("a", "residual"), layer("b", "residual"))
    network, _ = child_of(with_layer(parent, "a", channels=2), trained(parent))
    network.train()
    network(torch.ones(2, 2, 8, 8).cumsum(-1), torch.tensor([10, 500])).square().sum().backward()
    gradient = network.layers["a"].operation.conv1.weight.grad
    assert (gradient[::2] - gradient[1::2]).abs().amax(dim=(1, 2, 3)).min() > 0


def test_inheritance_depends_on_its_arguments_alone():
    parent = trained(tiny(SHAPE))
    genome = replace(tiny(SHAPE), parameters=replace(tiny(SHAPE).parameters, width=48))
    torch.manual_seed(1)
    one, report = child_of(genome, parent)
    torch.manual_seed(2)
    other, again = child_of(genome, parent)
    assert report == again
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert Inheritance(**{k: tuple(v) if isinstance(v, list) else v for k, v in report.to_json().items()}) == report


def test_weights_of_another_genome_are_refused():
    parent = trained(CHAIN)
    with pytest.raises(SettingsError, match=r"layers\.new"):
        inherit(
            build_network(CHAIN, SHAPE, seed=0),
            [Parent(replace(CHAIN, layers=(*CHAIN.layers, layer("new", "conv"))), parent.state_dict())],
        )
    with pytest.raises(SettingsError, match="found none"):
        inherit(build_network(CHAIN, SHAPE, seed=0), [])


def test_maps_of_channels():
    assert spread(2, 5).sources == (0, 0, 0, 1, 1)
    assert spread(4, 2).sources == (0, 2)
    assert spread(2, 4).even
    assert not spread(2, 5).even
    assert spread(2, 5).multiplicity.tolist() == [3, 3, 3, 2, 2]
    assert padded(2, 3).sources == (0, 1, -1)
    assert padded(3, 2).sources == (0, 1)
    assert not padded(3, 2).covers
    assert joined([(spread(1, 2), 2), (spread(2, 2), 0)], 3).sources == (2, 2, 0, 1)
    assert joined([(spread(1, 2), 0), (spread(2, 4), 1)], 3).even
    assert not joined([(spread(1, 2), 0), (spread(2, 2), 1)], 3).even
