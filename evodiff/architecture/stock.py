"""Which genomes are a stock ``UNet2DModel`` of diffusers, and how their weights are named there.

A stock U-Net is rigid: every level has as many residual blocks, attention in all of them or in none, and one modulation
for all. :func:`stock_unet` reads the few numbers that such a genome would have, writes the genome out of them, and
compares: equal canonical strings mean the same network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evodiff.architecture.genome import (
    STEM,
    ArchitectureComponent,
    ArchitectureGenome,
    Connection,
    GlobalParameters,
    ImageShape,
    LayerGene,
    layer,
)
from evodiff.architecture.normalization import EPSILON, GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESIDUAL, _ATTENTION = ArchitectureComponent.RESIDUAL, ArchitectureComponent.ATTENTION
_DOWNSAMPLE, _UPSAMPLE = ArchitectureComponent.DOWNSAMPLE, ArchitectureComponent.UPSAMPLE


@dataclass(frozen=True)
class StockUNet:
    """A stock U-Net: its size, and which of its levels have attention on the way down and on the way up.

    ``multipliers`` are channels a level in units of the width, highest resolution first, as are the two tuples of
    flags. ``head_channels`` are those of one attention head. Modulation is "add", or ``scale_shift``.
    """

    parameters: GlobalParameters
    multipliers: tuple[int, ...]
    layers_per_block: int
    down_attention: tuple[bool, ...]
    middle_attention: bool
    up_attention: tuple[bool, ...]
    head_channels: int
    scale_shift: bool

    def arguments(self, shape: ImageShape, *, classes: int) -> dict[str, Any]:
        """Return the arguments of ``UNet2DModel``; with ``classes`` it embeds one more, for no label."""
        width = self.parameters.width
        return {
            "sample_size": shape.size,
            "in_channels": shape.channels,
            "out_channels": shape.channels,
            "time_embedding_dim": width * self.parameters.time_embedding,
            "block_out_channels": tuple(width * multiplier for multiplier in self.multipliers),
            "layers_per_block": self.layers_per_block,
            "down_block_types": tuple("AttnDownBlock2D" if has else "DownBlock2D" for has in self.down_attention),
            "up_block_types": tuple("AttnUpBlock2D" if has else "UpBlock2D" for has in reversed(self.up_attention)),
            "add_attention": self.middle_attention,
            "attention_head_dim": self.head_channels,
            "norm_num_groups": GROUPS,
            "attn_norm_num_groups": GROUPS,
            "norm_eps": EPSILON,
            "resnet_time_scale_shift": "scale_shift" if self.scale_shift else "default",
            "num_class_embeds": classes + 1 if classes else None,
        }

    def genome(self) -> ArchitectureGenome:
        """Return it as a genome, its layer keys the positions."""
        paths = self.layer_paths()
        genes = []
        connections = []
        skips = [STEM]
        for position, (component, multiplier, path) in enumerate(paths):
            key = f"layer{position}"
            genes.append(self._gene(key, component, multiplier))
            if component is _RESIDUAL and path.startswith("up_blocks"):
                connections.append(Connection(skips.pop(), key))
            if component is _ATTENTION and path.startswith("down_blocks"):
                skips.pop()  # the block with its attention is one skip
            if path.startswith("down_blocks"):
                skips.append(key)
        return ArchitectureGenome(tuple(genes), tuple(connections), self.parameters)

    def layer_paths(self) -> list[tuple[ArchitectureComponent, int, str]]:
        """Return component, multiplier of the channels, and name in ``UNet2DModel`` of every layer in order."""
        return [*self._down_paths(), *self._middle_paths(), *self._up_paths()]

    def _gene(self, key: str, component: ArchitectureComponent, multiplier: int) -> LayerGene:
        if component is _RESIDUAL:
            return layer(key, component, channels=multiplier, modulation="scale_shift" if self.scale_shift else "add")
        if component is _ATTENTION:
            return layer(key, component, heads=self.parameters.width * multiplier // self.head_channels)
        return layer(key, component)

    def _down_paths(self) -> Iterator[tuple[ArchitectureComponent, int, str]]:
        for level, multiplier in enumerate(self.multipliers):
            block = f"down_blocks.{level}"
            for index in range(self.layers_per_block):
                yield _RESIDUAL, multiplier, f"{block}.resnets.{index}"
                if self.down_attention[level]:
                    yield _ATTENTION, multiplier, f"{block}.attentions.{index}"
            if level < len(self.multipliers) - 1:
                yield _DOWNSAMPLE, multiplier, f"{block}.downsamplers.0"

    def _middle_paths(self) -> Iterator[tuple[ArchitectureComponent, int, str]]:
        yield _RESIDUAL, self.multipliers[-1], "mid_block.resnets.0"
        if self.middle_attention:
            yield _ATTENTION, self.multipliers[-1], "mid_block.attentions.0"
        yield _RESIDUAL, self.multipliers[-1], "mid_block.resnets.1"

    def _up_paths(self) -> Iterator[tuple[ArchitectureComponent, int, str]]:
        last = len(self.multipliers) - 1
        for level in range(last, -1, -1):
            block = f"up_blocks.{last - level}"
            for index in range(self.layers_per_block + 1):
                yield _RESIDUAL, self.multipliers[level], f"{block}.resnets.{index}"
                if self.up_attention[level]:
                    yield _ATTENTION, self.multipliers[level], f"{block}.attentions.{index}"
            if level > 0:
                yield _UPSAMPLE, self.multipliers[level], f"{block}.upsamplers.0"


def stock_unet(genome: ArchitectureGenome) -> StockUNet | None:
    """Return the stock U-Net that is the same network, None if there is none."""
    guess = _guess(genome)
    return guess if guess is not None and guess.genome().canonical() == genome.canonical() else None


def _guess(genome: ArchitectureGenome) -> StockUNet | None:
    """Read off the numbers of a stock U-Net, if the genome were one; whether it is one remains to be compared."""
    blocks = _blocks(genome)
    levels = 1 + sum(gene.component is _DOWNSAMPLE for gene in genome.layers)
    per_level, rest = divmod(len(blocks) - 2, levels)  # n blocks on the way down, 2 in the middle, n + 1 up
    has_size = not rest and per_level >= 3 and per_level % 2 == 1
    parameters = genome.parameters
    if not has_size or parameters.patch != 1 or parameters.positional or blocks[0].multiplier != 1:
        return None  # a stock stem has the channels of the first level
    down, up = per_level // 2, per_level // 2 + 1
    return StockUNet(
        parameters=parameters,
        multipliers=tuple(blocks[level * down].multiplier for level in range(levels)),
        layers_per_block=down,
        down_attention=tuple(blocks[level * down].heads > 0 for level in range(levels)),
        middle_attention=blocks[levels * down].heads > 0,
        up_attention=tuple(blocks[len(blocks) - (level + 1) * up].heads > 0 for level in range(levels)),
        head_channels=next(
            (parameters.width * block.multiplier // block.heads for block in blocks if block.heads), parameters.width
        ),
        scale_shift=blocks[0].scale_shift,
    )


@dataclass(frozen=True)
class _Block:
    """A residual layer, and the heads of the attention that comes next, 0 for none."""

    multiplier: int
    scale_shift: bool
    heads: int


def _blocks(genome: ArchitectureGenome) -> list[_Block]:
    following: list[LayerGene | None] = [*genome.layers[1:], None]
    return [
        _Block(
            multiplier=int(gene.settings["channels"]),
            scale_shift=gene.settings["modulation"] == "scale_shift",
            heads=int(after.settings["heads"]) if after is not None and after.component is _ATTENTION else 0,
        )
        for gene, after in zip(genome.layers, following, strict=True)
        if gene.component is _RESIDUAL
    ]
