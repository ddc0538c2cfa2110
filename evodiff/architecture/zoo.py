"""Known architectures as genomes: starting points of a search, and references in reports.

Every function takes the image shape and returns a genome that is valid for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from evodiff.architecture.genome import (
    ArchitectureComponent,
    ArchitectureGenome,
    GlobalParameters,
    ImageShape,
)
from evodiff.architecture.repair import repair
from evodiff.architecture.skeletons import (
    ConvolutionPlan,
    TransformerPlan,
    UNetPlan,
    convolutions,
    most_levels,
    transformer,
    unet,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ATTENTION_HEADS: Final = 4


@dataclass(frozen=True)
class StockSize:
    """What a stock U-Net may vary: base ``width`` in channels, and residual blocks a level of its down path."""

    width: int
    layers_per_block: int


# For 8x8 digits of ten classes "ddpm_unet_small" has 0.18 million parameters, "ddpm_unet" 0.70, "ddpm_unet_deep" 1.00.
STOCK_SIZES: Final = MappingProxyType(
    {
        "ddpm_unet_small": StockSize(16, 1),
        "ddpm_unet": StockSize(32, 1),
        "ddpm_unet_deep": StockSize(32, 2),
    }
)


def level_multipliers(size: int) -> tuple[int, ...]:
    """Return channels a level in units of the width: (1, 2) at 8 px, (1, 2, 2) at 16 px, (1, 2, 2, 2) from 32 px."""
    return (1,) + (2,) * (most_levels(size) - 1)


def ddpm_unet(shape: ImageShape, name: str = "ddpm_unet") -> ArchitectureGenome:
    """DDPM's U-Net (Ho et al. 2020): the blocks, in the order, of the ``UNet2DModel`` of diffusers.

    Residual blocks, attention at the lowest level, a middle of residual, attention, residual, and a connection from the
    stem, every block and every downsampling into the up path. Its network has exactly the parameters of
    ``UNet2DModel(**stock_unet_arguments(shape, name))``: with ``name`` ``ddpm_unet`` and 8x8 digits that is
    ``block_out_channels=(32, 64)``, ``layers_per_block=1``, 8 groups a norm, attention at the lower level and 4 heads.

    ``name`` is one of :data:`STOCK_SIZES`.
    """
    size = STOCK_SIZES[name]
    multipliers = level_multipliers(shape.size)
    plan = UNetPlan(
        multipliers=multipliers,
        blocks_per_level=size.layers_per_block,
        attention_levels=frozenset({len(multipliers) - 1}),
        attention_settings={"heads": ATTENTION_HEADS},
        parameters=GlobalParameters(width=size.width),
    )
    return repair(unet(plan), shape)


def ddpm_unet_small(shape: ImageShape) -> ArchitectureGenome:
    """The same blocks at half the width: 0.18 million parameters for 8x8 digits."""
    return ddpm_unet(shape, "ddpm_unet_small")


def ddpm_unet_deep(shape: ImageShape) -> ArchitectureGenome:
    """The same blocks, two a level: 1.0 million parameters for 8x8 digits."""
    return ddpm_unet(shape, "ddpm_unet_deep")


def stock_unet_arguments(shape: ImageShape, name: str = "ddpm_unet") -> dict[str, Any]:
    """Return the arguments of the diffusers ``UNet2DModel`` that :func:`ddpm_unet` writes down as a genome.

    With classes it embeds one more, for samples without a label.
    """
    size = STOCK_SIZES[name]
    channels = tuple(size.width * multiplier for multiplier in level_multipliers(shape.size))
    plain = len(channels) - 1
    return {
        "sample_size": shape.size,
        "in_channels": shape.channels,
        "out_channels": shape.channels,
        "block_out_channels": channels,
        "layers_per_block": size.layers_per_block,
        "down_block_types": ("DownBlock2D",) * plain + ("AttnDownBlock2D",),
        "up_block_types": ("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
        "attention_head_dim": channels[-1] // ATTENTION_HEADS,
        "norm_num_groups": 8,
        "num_class_embeds": shape.classes + 1 if shape.classes else None,
    }


def uvit(shape: ImageShape) -> ArchitectureGenome:
    """Like U-ViT (Bao et al. 2023): patches, transformer blocks, long connections from the first half to the second."""
    plan = TransformerPlan(
        blocks=5,
        channels=2,
        attention_settings={"norm": "layer", "modulation": "add"},
        mlp_settings={"norm": "layer"},
        long_skips=True,
        parameters=GlobalParameters(width=32, patch=_patch(shape.size), positional=True),
    )
    return repair(transformer(plan), shape)


def dit(shape: ImageShape) -> ArchitectureGenome:
    """Like DiT (Peebles and Xie 2023): patches, positions, transformer blocks with gated modulation (adaLN-Zero)."""
    plan = TransformerPlan(
        blocks=4,
        channels=2,
        attention_settings={"norm": "layer", "modulation": "gated"},
        mlp_settings={"norm": "layer", "modulation": "gated"},
        parameters=GlobalParameters(width=32, patch=_patch(shape.size), positional=True),
    )
    return repair(transformer(plan), shape)


def convnet(shape: ImageShape) -> ArchitectureGenome:
    """Convolutions only: a U-Net of separable 5x5 blocks with expansion, like ConvNeXt's (Liu et al. 2022)."""
    multipliers = level_multipliers(shape.size)[:3]
    plan = UNetPlan(
        multipliers=multipliers,
        blocks_per_level=2,
        block=ArchitectureComponent.CONV,
        block_settings={"kernel": 5, "separable": True, "expansion": 2, "activation": "gelu", "modulation": "add"},
        middle_attention=False,
        skips="stage",
        parameters=GlobalParameters(width=32),
    )
    return repair(unet(plan), shape)


def tiny(shape: ImageShape) -> ArchitectureGenome:
    """The smallest net worth training: four convolutions of 16 channels."""
    plan = ConvolutionPlan(
        blocks=4,
        block_settings={"modulation": "add"},
        parameters=GlobalParameters(width=16, time_embedding=2),
    )
    return repair(convolutions(plan), shape)


def _patch(size: int) -> int:
    """Return the patch that leaves at most 8 x 8 positions, or as near as the genes allow."""
    return 2 if size <= 16 else 4


ZOO: Final[MappingProxyType[str, Callable[[ImageShape], ArchitectureGenome]]] = MappingProxyType(
    {
        "tiny": tiny,
        "ddpm_unet_small": ddpm_unet_small,
        "convnet": convnet,
        "uvit": uvit,
        "dit": dit,
        "ddpm_unet": ddpm_unet,
        "ddpm_unet_deep": ddpm_unet_deep,
    }
)


def zoo(shape: ImageShape) -> dict[str, ArchitectureGenome]:
    """Return every architecture of the zoo, by name, for images of ``shape``."""
    return {name: write(shape) for name, write in ZOO.items()}
