"""The diffusers shell: configuration, saving, loading, outputs, checkpointing."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DOutput

from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.architecture.network import build_network
from evodiff.architecture.unet import EvolvedUNet2DModel
from evodiff.architecture.zoo import tiny, uvit
from evodiff.errors import InvalidGenome

SHAPE = ImageShape(1, 8, 3)


def _model(genome=None, seed=0, **changes):
    genome = genome or uvit(SHAPE)
    arguments = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "classes": 3, "seed": seed} | changes
    model = EvolvedUNet2DModel(genome=genome.to_json(), **arguments)
    torch.nn.init.normal_(model.network.output.conv.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    return model


@pytest.fixture
def sample():
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_genome_stands_in_the_configuration_and_survives_it(tmp_path):
    model = _model()
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert ArchitectureGenome.from_json(stored["genome"]) == uvit(SHAPE)
    assert "seed" not in stored
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert EvolvedUNet2DModel.from_config(model.config, seed=1).genome == uvit(SHAPE)


def test_saving_and_loading_keeps_every_bit(tmp_path, sample):
    model = _model()
    model.save_pretrained(tmp_path)
    loaded = EvolvedUNet2DModel.from_pretrained(tmp_path)
    assert torch.equal(loaded(sample, 10).sample, model(sample, 10).sample)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_model_of_a_network_is_a_copy_of_it(sample):
    network = build_network(tiny(SHAPE), SHAPE, seed=4)
    torch.nn.init.normal_(network.output.conv.weight)
    model = EvolvedUNet2DModel.from_network(network)
    timestep = torch.tensor([7, 7])
    assert torch.equal(model(sample, 7).sample, network(sample, timestep))
    with torch.no_grad():
        network.stem.weight.zero_()
    assert not torch.equal(model(sample, 7).sample, network(sample, timestep))


@pytest.mark.parametrize("timestep", [7, 7.0, torch.tensor(7), torch.tensor([7]), torch.tensor([7, 7])])
def test_time_steps_come_as_a_number_or_a_tensor(timestep, sample):
    model = _model()
    expected = model.network(sample, torch.tensor([7, 7]))
    assert torch.equal(model(sample, timestep).sample, expected)


def test_outputs_are_those_of_the_stock_model(sample):
    model = _model()
    output = model(sample, 7, torch.tensor([0, 3]))
    assert isinstance(output, UNet2DOutput)
    assert torch.equal(model(sample, 7, torch.tensor([0, 3]), return_dict=False)[0], output.sample)
    assert torch.equal(model(sample, 7).sample[1], output.sample[1])  # label 3 is the null class
    assert not torch.equal(model(sample, 7).sample[0], output.sample[0])


def test_gradient_checkpointing_is_switched_on_and_off_the_usual_way(sample):
    model = _model()
    model.enable_gradient_checkpointing()
    assert model.network.gradient_checkpointing
    assert model.is_gradient_checkpointing
    model(sample, 7).sample.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.disable_gradient_checkpointing()
    assert not model.network.gradient_checkpointing


def test_half_precision_runs(sample):
    output = _model().to(torch.bfloat16)(sample.to(torch.bfloat16), 7).sample
    assert output.dtype is torch.bfloat16
    assert output.isfinite().all()


def test_a_genome_that_fits_no_image_of_this_size_is_refused():
    with pytest.raises(InvalidGenome, match=r"parameters\.patch"):
        _model(sample_size=7)


def test_different_channels_in_and_out_are_refused():
    with pytest.raises(InvalidGenome, match="out_channels"):
        _model(out_channels=2)
