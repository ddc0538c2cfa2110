"""The zoo: known architectures, valid for every image shape, and the stock U-Net among them."""

from __future__ import annotations

import pytest
from genome_strategies import SHAPES

from evodiff.architecture import cost
from evodiff.architecture.genome import ArchitectureComponent, ArchitectureGenome, ImageShape
from evodiff.architecture.graph import resolve
from evodiff.architecture.zoo import STOCK_SIZES, ZOO, ddpm_unet, stock_unet_arguments, zoo

DIGITS = SHAPES[0]
ALL_SHAPES = [
    ImageShape(channels, size, classes) for channels in (1, 3) for size in (8, 16, 28, 32) for classes in (0, 10)
]


@pytest.mark.parametrize("shape", ALL_SHAPES, ids=str)
@pytest.mark.parametrize("name", ZOO)
def test_every_architecture_is_valid_for_every_shape(name, shape):
    genome = ZOO[name](shape)
    resolve(genome, shape)
    assert ArchitectureGenome.from_json(genome.to_json()) == genome


@pytest.mark.parametrize("size", [2, 4, 5, 6, 7, 9, 12, 64])
def test_unusual_sizes_get_networks_too(size):
    for genome in zoo(ImageShape(3, size, 0)).values():
        resolve(genome, ImageShape(3, size, 0))


@pytest.mark.parametrize(
    ("name", "parameters"), [("ddpm_unet_small", 177_553), ("ddpm_unet", 702_753), ("ddpm_unet_deep", 1_003_137)]
)
def test_the_ddpm_unets_have_the_parameters_of_the_stock_network(name, parameters):
    """The numbers are those of diffusers' ``UNet2DModel`` 0.42 with the arguments that the zoo names."""
    assert cost.parameter_count(resolve(ZOO[name](DIGITS), DIGITS)) == parameters


@pytest.mark.parametrize("shape", ALL_SHAPES, ids=str)
@pytest.mark.parametrize("name", STOCK_SIZES)
def test_stock_arguments_say_what_the_genome_says(name, shape):
    genome, arguments = ddpm_unet(shape, name), stock_unet_arguments(shape, name)
    resolved = resolve(genome, shape)
    attention = [item for item in resolved.layers if item.gene.component is ArchitectureComponent.ATTENTION]
    assert {item.in_channels // item.gene.settings["heads"] for item in attention} == {arguments["attention_head_dim"]}
    assert max(item.out_channels for item in resolved.layers) == arguments["block_out_channels"][-1]
    halvings = sum(gene.component is ArchitectureComponent.DOWNSAMPLE for gene in genome.layers)
    assert len(arguments["down_block_types"]) == len(arguments["up_block_types"]) == halvings + 1
    assert arguments["num_class_embeds"] == (shape.classes + 1 if shape.classes else None)


def test_families_are_what_their_names_say():
    components = {name: {gene.component.value for gene in genome.layers} for name, genome in zoo(SHAPES[2]).items()}
    assert components["tiny"] == {"conv"}
    assert components["convnet"] == {"conv", "downsample", "upsample"}
    assert components["dit"] == components["uvit"] == {"attention", "conv"}
    assert components["ddpm_unet"] == {"residual", "attention", "downsample", "upsample"}
    assert all(gene.settings["modulation"] == "gated" for gene in zoo(SHAPES[2])["dit"].layers if "block" in gene.key)
    assert [edge.merge for edge in zoo(SHAPES[2])["uvit"].connections] == ["concat", "concat"]
