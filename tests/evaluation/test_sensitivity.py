"""What layers are worth: measured by leaving them out, in networks in which that is known."""

from __future__ import annotations

import pytest
import torch

from evodiff.architecture.genome import ArchitectureGenome, GlobalParameters, ImageShape, layer
from evodiff.architecture.network import build_network, module_name
from evodiff.architecture.zoo import tiny
from evodiff.data import open_dataset
from evodiff.evaluation.score import ScoringInputs, denoising_loss, part
from evodiff.evaluation.sensitivity import LARGEST, layer_sensitivities
from evodiff.settings import EvaluationSettings, TrainingSettings

DIGITS = ImageShape(1, 8, 10)
TRAINING = TrainingSettings()
EVALUATION = EvaluationSettings(batch_size=40, loss_batch=48)
GENOME = ArchitectureGenome(
    (
        layer("wide", "residual", channels=2),
        layer("same", "residual", channels=2),
        layer("down", "downsample"),
        layer("plain", "conv", channels=3, shortcut=False),
        layer("up", "upsample"),
        layer("act", "activation"),
        layer("look", "attention", heads=1),
        layer("items", "conv", channels=1),
    ),
    (),
    GlobalParameters(width=8),
)


@pytest.fixture(scope="module")
def inputs() -> ScoringInputs:
    images, labels = part(open_dataset("digits"), "validation")
    return ScoringInputs(feature_net=None, images=images, labels=labels, features=None)


@pytest.fixture
def network():
    """A network all of whose layers do something."""
    found = build_network(GENOME, DIGITS, seed=3)
    generator = torch.Generator().manual_seed(0)
    for parameter in found.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return found


def measure(network, inputs):
    return layer_sensitivities(network, inputs, training=TRAINING, evaluation=EVALUATION)


def loss(network, inputs, count):
    return denoising_loss(network.eval(), inputs, TRAINING, EVALUATION, device="cpu", count=count)


def test_every_layer_has_a_number_and_the_same_one_each_time(network, inputs):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    found = measure(network, inputs)
    assert list(found) == [gene.key for gene in GENOME.layers]
    assert measure(network, inputs) == found
    assert all(abs(value) > 1e-6 for value in found.values())
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(layer.operation._forward_hooks for layer in network.layers.values())


def test_it_is_the_rise_of_the_loss_when_the_branch_is_gone(network, inputs):
    found, whole = measure(network, inputs), loss(network, inputs, 48)
    for key in ("same", "wide"):  # without and with a projection on the shortcut
        operation = network.layers[module_name(key)].operation
        weight, bias = operation.conv2.weight.data.clone(), operation.conv2.bias.data.clone()
        operation.conv2.weight.data.zero_(), operation.conv2.bias.data.zero_()
        assert found[key] == pytest.approx(loss(network, inputs, 48) / whole - 1, abs=1e-5)
        operation.conv2.weight.data.copy_(weight), operation.conv2.bias.data.copy_(bias)


def test_a_layer_that_does_nothing_is_worth_nothing(network, inputs):
    operation = network.layers[module_name("look")].operation
    for parameter in operation.parameters():
        parameter.data.zero_()
    assert measure(network, inputs)["look"] == 0


def test_a_network_that_breaks_down_without_a_layer_says_so_in_a_finite_number(network, inputs):
    down = network.layers[module_name("wide")].operation
    down.shortcut.weight.data.fill_(1e30)
    down.conv2.weight.data.zero_(), down.conv2.bias.data.zero_()
    network.layers[module_name("same")].operation.norm1.weight.data.zero_()
    with torch.no_grad():
        values = measure(build_network(tiny(DIGITS), DIGITS, seed=1), inputs)
    assert all(-1 <= value <= LARGEST for value in values.values())
