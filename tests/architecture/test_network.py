"""What a network computes, layer by layer, and where its first weights come from."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from evodiff.architecture.attention import full_attention, linear_attention, project
from evodiff.architecture.cost import parameter_count
from evodiff.architecture.embedding import sinusoidal_embedding
from evodiff.architecture.genome import (
    GENES,
    GLOBALS,
    ArchitectureComponent,
    ArchitectureGenome,
    Connection,
    GlobalParameters,
    ImageShape,
    layer,
)
from evodiff.architecture.graph import resolve
from evodiff.architecture.layers import separable_convolution
from evodiff.architecture.network import CHANNELS_LAST_FROM, build_network, module_name
from evodiff.architecture.normalization import make_norm
from evodiff.architecture.zoo import zoo
from evodiff.errors import InvalidGenome

SHAPE = ImageShape(2, 8, 3)
NARROW = GlobalParameters(width=8)
EVERY_SETTING = [
    (component, setting, value)
    for component, choices in GENES.items()
    for setting, values in choices.items()
    for value in values
]


def _genome(*layers, connections=(), parameters=NARROW):
    """A genome of these layers behind one that hears the time step."""
    return ArchitectureGenome((layer("first", "residual"), *layers), tuple(connections), parameters)


def _one_layer(component, **settings):
    gene = layer("tested", component, **settings)
    if component is ArchitectureComponent.DOWNSAMPLE:
        return _genome(gene, layer("back", "upsample"))
    if component is ArchitectureComponent.UPSAMPLE:
        return _genome(layer("down", "downsample"), gene)
    return _genome(gene)


def _inputs(shape=SHAPE, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(batch, shape.channels, shape.size, shape.size, generator=generator)
    timestep = torch.randint(0, 1000, (batch,), generator=generator)
    return sample, timestep, torch.randint(0, shape.classes + 1, (batch,), generator=generator)


def _randomised(network, seed=1):
    """Move every weight off its special first values, such as the zeros of gates and of the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.rand(parameter.shape, generator=generator) * 0.2 - 0.1)
    return network


def _assert_every_parameter_learns(genome, shape=SHAPE):
    network = _randomised(build_network(genome, shape, seed=0))
    sample, timestep, labels = _inputs(shape)
    output = network(sample, timestep, labels if shape.classes else None)
    assert output.shape == sample.shape
    output.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert sum(p.numel() for p in network.parameters()) == parameter_count(resolve(genome, shape))


@pytest.mark.parametrize(("component", "setting", "value"), EVERY_SETTING)
def test_every_value_of_every_setting_runs_and_teaches_every_parameter(component, setting, value):
    _assert_every_parameter_learns(_one_layer(component, **{setting: value}))


@pytest.mark.parametrize(
    ("expansion", "separable", "shortcut", "modulation"),
    list(itertools.product((1, 4), (False, True), (False, True), GENES[ArchitectureComponent.CONV]["modulation"])),
)
def test_the_forms_of_conv_teach_every_parameter(expansion, separable, shortcut, modulation):
    settings = {"expansion": expansion, "separable": separable, "shortcut": shortcut, "modulation": modulation}
    _assert_every_parameter_learns(_one_layer(ArchitectureComponent.CONV, channels=2, **settings))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in GLOBALS for value in GLOBALS[name]])
def test_every_global_parameter_runs(name, value):
    _assert_every_parameter_learns(_genome(parameters=replace(NARROW, **{name: value})))


@pytest.mark.parametrize("merge", ["concat", "add"])
@pytest.mark.parametrize("component", list(ArchitectureComponent))
def test_connections_into_every_component_run(component, merge):
    genome = _one_layer(component)
    position = [gene.key for gene in genome.layers].index("tested")
    wide = layer("wide", "conv", channels=2)
    spacer = layer("spacer", "activation")
    genes = (*genome.layers[:position], wide, spacer, *genome.layers[position:])
    _assert_every_parameter_learns(
        ArchitectureGenome(genes, (Connection("wide", "tested", merge),), NARROW), replace(SHAPE, size=16)
    )


@pytest.mark.parametrize("name", zoo(SHAPE))
def test_every_architecture_of_the_zoo_learns_with_and_without_labels(name):
    _assert_every_parameter_learns(zoo(SHAPE)[name])
    unlabelled = replace(SHAPE, classes=0)
    network = build_network(zoo(unlabelled)[name], unlabelled, seed=0)
    assert network.class_embedding is None


def test_an_unfit_genome_is_refused_with_a_remedy():
    with pytest.raises(InvalidGenome, match="upsample layer"):
        build_network(_genome(layer("down", "downsample")), SHAPE)


def test_a_network_starts_by_predicting_zero():
    network = build_network(_genome(), SHAPE, seed=0)
    assert not network(*_inputs()).any()


def test_no_labels_mean_the_null_class():
    network = _randomised(build_network(_genome(), SHAPE, seed=0))
    sample, timestep, _ = _inputs()
    null = torch.full((3,), SHAPE.classes)
    assert torch.equal(network(sample, timestep), network(sample, timestep, null))
    assert not torch.equal(network(sample, timestep), network(sample, timestep, null - 1))


def test_labels_are_refused_where_there_are_no_classes():
    shape = replace(SHAPE, classes=0)
    sample, timestep, _ = _inputs(shape)
    with pytest.raises(ValueError, match="leave class_labels out"):
        build_network(_genome(), shape, seed=0)(sample, timestep, torch.zeros(3, dtype=torch.long))


def test_time_steps_may_be_fractional_and_change_the_prediction():
    network = _randomised(build_network(_genome(), SHAPE, seed=0))
    sample, timestep, labels = _inputs()
    assert torch.equal(network(sample, timestep, labels), network(sample, timestep.double(), labels))
    assert not torch.equal(network(sample, timestep, labels), network(sample, timestep + 0.5, labels))


@pytest.mark.parametrize("component", ["residual", "conv", "attention"])
def test_a_gated_layer_starts_as_the_identity(component):
    network = build_network(_genome(layer("gated", component, modulation="gated")), SHAPE, seed=3)
    operation = network.layers["gated"].operation
    x = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    embedding = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(operation(x, embedding), x)


def test_a_gated_layer_without_shortcut_starts_open():
    gene = layer("gated", "conv", modulation="gated", shortcut=False)
    operation = build_network(_genome(gene), SHAPE, seed=3).layers["gated"].operation
    x = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    assert operation(x, torch.zeros(3, 32)).abs().mean() > 0.01


def test_equal_canonical_strings_start_from_equal_weights():
    genes = [layer("a", "attention"), layer("b", "conv", channels=2), layer("c", "norm"), layer("d", "residual")]
    edges = [Connection("first", "b"), Connection("stem", "d"), Connection("a", "d", "add")]
    genome = _genome(*genes, connections=edges)
    names = {"first": "z", "a": "items", "b": "y", "c": "x", "d": "training"}
    renamed = ArchitectureGenome(
        tuple(replace(gene, key=names[gene.key]) for gene in genome.layers),
        tuple(Connection(names.get(edge.source, "stem"), names[edge.target], edge.merge) for edge in reversed(edges)),
        NARROW,
    )
    assert genome.canonical() == renamed.canonical()
    first, second = (_randomised(build_network(item, SHAPE, seed=5)) for item in (genome, renamed))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(first(*_inputs()), second(*_inputs()))


def test_the_seed_decides_the_first_weights_and_nothing_else_does():
    torch.manual_seed(1)
    first = build_network(_genome(layer("a", "attention")), SHAPE, seed=5).state_dict()
    torch.manual_seed(2)
    again = build_network(_genome(layer("a", "attention")), SHAPE, seed=5).state_dict()
    other = build_network(_genome(layer("a", "attention")), SHAPE, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.weight"], other["stem.weight"])


def test_building_with_a_seed_leaves_the_global_generator_alone_and_without_one_draws_from_it():
    state = torch.get_rng_state()
    build_network(_genome(), SHAPE, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    first = build_network(_genome(), SHAPE).stem.weight
    second = build_network(_genome(), SHAPE).stem.weight
    torch.manual_seed(7)
    assert torch.equal(build_network(_genome(), SHAPE).stem.weight, first)
    assert not torch.equal(first, second)


def test_a_layer_keeps_its_first_weights_when_one_is_appended():
    short = build_network(_genome(layer("a", "conv")), SHAPE, seed=5)
    long = build_network(_genome(layer("a", "conv"), layer("b", "conv")), SHAPE, seed=5)
    assert torch.equal(short.layers["a"].operation.conv.weight, long.layers["a"].operation.conv.weight)
    assert not torch.equal(long.layers["a"].operation.conv.weight, long.layers["b"].operation.conv.weight)


def test_first_weights_are_uniform_within_the_inverse_root_of_the_fan_in():
    network = build_network(_genome(parameters=GlobalParameters(width=32)), SHAPE, seed=0)
    convolution = network.layers["first"].operation.conv1
    bound = (32 * 9) ** -0.5
    assert convolution.weight.abs().max() <= bound
    assert convolution.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert not convolution.bias.any()


def test_class_labels_are_told_apart_from_the_start():
    table = build_network(_genome(), replace(SHAPE, classes=100), seed=0).class_embedding.weight
    assert table.std().item() == pytest.approx(1, rel=0.05)


def test_layer_keys_name_modules_even_where_torch_has_the_name_itself():
    keys = ["items", "keys", "training", "forward", "pop", "conv"]
    genome = _genome(*(layer(key, "activation") for key in keys))
    assert [module_name(key) for key in keys] == ["items-", "keys-", "training-", "forward-", "pop-", "conv"]
    assert list(build_network(genome, SHAPE, seed=0).layers) == ["first", *map(module_name, keys)]


def test_skips_are_released_when_their_last_reader_has_merged_them():
    edges = [Connection("stem", "b"), Connection("first", "c"), Connection("first", "b", "add")]
    genome = _genome(*(layer(key, "conv") for key in "abcd"), connections=edges)
    network = build_network(genome, SHAPE, seed=0)
    outputs: dict[str, weakref.ref] = {}
    living: dict[str, set[str]] = {}
    for key, module in [("stem", network.stem), *network.layers.items()]:
        module.register_forward_hook(lambda _, __, output, key=key: outputs.update({key: weakref.ref(output)}))
        if key == "stem":
            continue
        module.operation.register_forward_pre_hook(
            lambda *_, key=key: living.update({key: {skip for skip in ("stem", "first") if _is_alive(outputs, skip)}})
        )
    with torch.no_grad():
        network(*_inputs())
    assert living == {"first": {"stem"}, "a": {"stem", "first"}, "b": {"first"}, "c": set(), "d": set()}


def _is_alive(outputs, name):
    return name in outputs and outputs[name]() is not None


@pytest.mark.parametrize("size", [8, CHANNELS_LAST_FROM])
def test_gradient_checkpointing_changes_no_gradient(size):
    shape = replace(SHAPE, size=size)
    genome = _genome(
        layer("a", "attention", modulation="gated"), layer("b", "conv"), connections=[Connection("first", "b")]
    )
    gradients = []
    for checkpointed in (False, True):
        network = _randomised(build_network(genome, shape, seed=0))
        network.gradient_checkpointing = checkpointed
        network(*_inputs(shape)).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_the_memory_format_changes_the_result_by_rounding_only():
    shape = replace(SHAPE, size=CHANNELS_LAST_FROM)
    for name, genome in zoo(shape).items():
        network = _randomised(build_network(genome, shape, seed=0))
        with torch.no_grad():
            outputs = []
            for channels_last in (True, False):
                network._channels_last = channels_last
                outputs.append(network(*_inputs(shape, batch=1)))
        assert torch.allclose(*outputs, rtol=1e-3, atol=1e-4), name
        assert all(output.is_contiguous() for output in outputs)


def test_sinusoids_have_their_closed_form():
    embedding = sinusoidal_embedding(torch.tensor([0, 500]), 4)
    phases = torch.tensor([500.0, 5.0])
    assert torch.equal(embedding[0], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert torch.allclose(embedding[1], torch.cat([phases.cos(), phases.sin()]), atol=1e-4)


def test_full_attention_to_equal_keys_is_the_mean_of_the_values():
    value = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    query = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    expected = value.mean(dim=2, keepdim=True).expand_as(value)
    assert torch.allclose(full_attention(query, torch.ones_like(value), value), expected, atol=1e-6)
    # Linear attention, too: its context has the mean of the values in every row, and the query's softmax sums to 1.
    assert torch.allclose(linear_attention(query, torch.ones_like(value), value), expected, atol=1e-6)


def test_linear_attention_weighs_positions_by_products_of_softmaxes():
    query, key, value = (torch.randn(1, 1, 6, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    weights = torch.einsum("id,jd->ij", query[0, 0].softmax(dim=1), key[0, 0].softmax(dim=0))
    assert torch.allclose(weights.sum(dim=1), torch.ones(6), atol=1e-6)
    assert torch.allclose(linear_attention(query, key, value)[0, 0], weights @ value[0, 0], atol=1e-6)


def test_heads_attend_apart():
    """With two heads, a change of the second half of the keys leaves the first half of the mixture alone."""
    network = build_network(_genome(layer("a", "attention", heads=2)), SHAPE, seed=0)
    attention = network.layers["a"].operation
    attention.out = nn.Identity()
    x = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = attention._mix(x)
        attention.qkv.weight[8 + 4 : 16] += 1.0
        after = attention._mix(x)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_norms_have_their_closed_forms(memory_format):
    x = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    x = x.contiguous(memory_format=memory_format)
    by_layer = make_norm("layer", 16)(x)
    assert torch.allclose(by_layer.mean(dim=1), torch.zeros(2, 4, 4), atol=1e-5)
    assert torch.allclose(by_layer.square().mean(dim=1), torch.ones(2, 4, 4), atol=1e-3)
    assert torch.allclose(make_norm("rms", 16)(x), x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt(), atol=1e-5)
    groups = make_norm("group", 16)(x).reshape(2, 8, -1)
    assert torch.allclose(groups.mean(dim=2), torch.zeros(2, 8), atol=1e-5)


def test_convolutions_before_a_pointwise_one_carry_no_bias():
    operation = build_network(_genome(layer("a", "conv", separable=True)), SHAPE, seed=0).layers["a"].operation
    assert operation.conv[0].bias is None
    assert operation.conv[0].groups == 8
    assert operation.conv[1].bias is not None


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_separable_convolution_of_kernel_1_is_that_of_torch_with_the_same_weights(memory_format):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 24, 6, 6, generator=generator).contiguous(memory_format=memory_format)
    theirs = nn.Sequential(nn.Conv2d(24, 24, 1, groups=24, bias=False), nn.Conv2d(24, 40, 1))
    ours = separable_convolution(24, 40, 1)
    ours.load_state_dict(theirs.state_dict())
    scaled = ours[0](x)
    assert torch.allclose(scaled, theirs[0](x), rtol=1e-6, atol=1e-6)
    assert scaled.is_contiguous(memory_format=memory_format)
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    assert torch.allclose(ours[0].weight.grad, theirs[0].weight.grad, rtol=1e-4, atol=1e-4)


class Copies(TorchDispatchMode):
    """Counts copies of tensors."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten.clone.default, torch.ops.aten.copy_.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("batch", [1, 3])
def test_tokens_of_a_row_major_map_are_projected_without_a_copy_where_no_gradient_is_asked_for(batch):
    linear = nn.Linear(24, 40)
    features = torch.randn(batch, 24, 6, 6, generator=torch.Generator().manual_seed(0))
    tokens = features.flatten(2).transpose(1, 2)
    with torch.no_grad(), Copies() as copies:
        projected = project(linear, tokens)
    assert copies.count == 0
    assert torch.allclose(projected, tokens @ linear.weight.t() + linear.bias, atol=1e-6)
    assert torch.allclose(project(linear, tokens), projected, atol=1e-6)
    assert torch.allclose(project(linear, tokens.contiguous()), projected, atol=1e-6)


def test_modulation_rows_come_as_documented():
    genome = _genome(layer("a", "conv", channels=2, modulation="gated"))
    modulation = build_network(genome, SHAPE, seed=0).layers["a"].operation.modulation
    assert modulation.row_parts == (8, 8, 16)
    assert not modulation.projection.weight[16:].any()
    assert modulation.projection.weight[:16].abs().min() > 0
