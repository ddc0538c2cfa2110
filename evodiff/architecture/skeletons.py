"""The plans behind the zoo and behind random genomes: U-Nets, stacks of transformer blocks, stacks of convolutions.

Layer keys say the role (``down0_residual1``, ``block3_attention``), so that genomes of one family, drawn independently,
are aligned in crossover.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from evodiff.architecture.genome import (
    STEM,
    ArchitectureComponent,
    ArchitectureGenome,
    Connection,
    GlobalParameters,
    LayerGene,
    layer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Settings = dict[str, Any]
Skips = Literal["every", "stage", "none"]


def most_levels(size: int) -> int:
    """Return how many resolutions a network for ``size`` pixels can have: at most 4, none below 4 positions a side."""
    levels = 1
    while levels < 4 and size % 2 == 0 and size >= 8:
        levels += 1
        size //= 2
    return levels


@dataclass
class _Draft:
    """A genome while it is written down."""

    layers: list[LayerGene] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    @property
    def last(self) -> str:
        return self.layers[-1].key if self.layers else STEM

    def add(self, key: str, component: ArchitectureComponent | str, **settings: Any) -> str:
        self.layers.append(layer(key, component, **settings))
        return key

    def connect(self, source: str, target: str, merge: str) -> None:
        position = {STEM: -1} | {gene.key: index for index, gene in enumerate(self.layers)}
        if position[target] - position[source] >= 2:
            self.connections.append(Connection(source, target, merge))

    def genome(self, parameters: GlobalParameters) -> ArchitectureGenome:
        return ArchitectureGenome(tuple(self.layers), tuple(self.connections), parameters)


@dataclass(frozen=True)
class UNetPlan:
    """A U-Net: ``multipliers`` are the channels of each level in units of the width, finest first.

    ``block`` is the component of its blocks with their settings. ``attention_levels`` counts from 0, the finest; an
    attention layer follows each block there. ``skips`` says what the up path is given: ``every`` block and resampling
    (DDPM; the up path then has one block more a level), the last of each ``stage``, or ``none``.
    """

    multipliers: Sequence[int] = (1, 2)
    blocks_per_level: int = 1
    block: ArchitectureComponent = ArchitectureComponent.RESIDUAL
    block_settings: Settings = field(default_factory=dict)
    attention_levels: frozenset[int] = frozenset()
    attention_settings: Settings = field(default_factory=dict)
    middle_attention: bool = True
    skips: Skips = "every"
    merge: str = "concat"
    downsampling: str = "conv"
    upsampling: str = "conv"
    parameters: GlobalParameters = field(default_factory=GlobalParameters)


def unet(plan: UNetPlan) -> ArchitectureGenome:
    """Write down a U-Net (Ronneberger et al. 2015; with DDPM's blocks, Ho et al. 2020)."""
    draft = _Draft()
    bottom = len(plan.multipliers) - 1
    skips: list[tuple[int, str]] = [(0, STEM)]
    for level in range(bottom + 1):
        for index in range(plan.blocks_per_level):
            _unet_block(draft, plan, level, f"down{level}", index)
            skips.append((level, draft.last))
        if level < bottom:
            draft.add(f"down{level}_downsample", ArchitectureComponent.DOWNSAMPLE, method=plan.downsampling)
            skips.append((level + 1, draft.last))
    _unet_middle(draft, plan, bottom)
    if plan.skips == "stage":
        skips = [(level, key) for level, key in skips if _ends_stage(level, key, plan)]
    for level in reversed(range(bottom + 1)):
        for index in range(plan.blocks_per_level + (plan.skips == "every")):
            key = f"up{level}_{plan.block.value}{index}"
            _unet_block(draft, plan, level, f"up{level}", index)
            if plan.skips != "none" and skips and skips[-1][0] == level:
                draft.connect(skips.pop()[1], key, plan.merge)
        if level > 0:
            draft.add(f"up{level}_upsample", ArchitectureComponent.UPSAMPLE, method=plan.upsampling)
    return draft.genome(plan.parameters)


def _unet_block(draft: _Draft, plan: UNetPlan, level: int, stage: str, index: int) -> None:
    settings = {**plan.block_settings, "channels": plan.multipliers[level]}
    draft.add(f"{stage}_{plan.block.value}{index}", plan.block, **settings)
    if level in plan.attention_levels:
        draft.add(f"{stage}_attention{index}", ArchitectureComponent.ATTENTION, **plan.attention_settings)


def _unet_middle(draft: _Draft, plan: UNetPlan, bottom: int) -> None:
    settings = {**plan.block_settings, "channels": plan.multipliers[bottom]}
    draft.add(f"middle_{plan.block.value}0", plan.block, **settings)
    if plan.middle_attention:
        draft.add("middle_attention0", ArchitectureComponent.ATTENTION, **plan.attention_settings)
        draft.add(f"middle_{plan.block.value}1", plan.block, **settings)


def _ends_stage(level: int, key: str, plan: UNetPlan) -> bool:
    last = plan.blocks_per_level - 1
    return key == f"down{level}_{'attention' if level in plan.attention_levels else plan.block.value}{last}"


@dataclass(frozen=True)
class TransformerPlan:
    """A stack of transformer blocks at one resolution: attention, then an MLP (a 1x1 convolution with expansion).

    ``long_skips`` joins the first half to the second in mirror order, as U-ViT does; ``merge`` says how.
    """

    blocks: int = 4
    channels: int = 2
    attention_settings: Settings = field(default_factory=dict)
    mlp_settings: Settings = field(default_factory=dict)
    long_skips: bool = False
    merge: str = "concat"
    parameters: GlobalParameters = field(default_factory=lambda: GlobalParameters(patch=2, positional=True))


def transformer(plan: TransformerPlan) -> ArchitectureGenome:
    """Write down a stack of transformer blocks (DiT, Peebles and Xie 2023; U-ViT with long skips, Bao et al. 2023)."""
    draft = _Draft()
    if plan.channels > 1:
        draft.add("embed_conv", ArchitectureComponent.CONV, kernel=1, shortcut=False, channels=plan.channels)
    for index in range(plan.blocks):
        _transformer_block(draft, f"block{index}", plan)
    if plan.long_skips:
        for index in range(plan.blocks // 2):
            mirror = plan.blocks - 1 - index
            draft.connect(f"block{index}_mlp", f"block{mirror}_attention", plan.merge)
    return draft.genome(plan.parameters)


def _transformer_block(draft: _Draft, name: str, plan: TransformerPlan) -> None:
    draft.add(f"{name}_attention", ArchitectureComponent.ATTENTION, **plan.attention_settings)
    mlp = {"kernel": 1, "expansion": 4, "activation": "gelu", **plan.mlp_settings, "channels": plan.channels}
    draft.add(f"{name}_mlp", ArchitectureComponent.CONV, **mlp)


@dataclass(frozen=True)
class ConvolutionPlan:
    """A stack of convolutional blocks at one resolution, without attention and without resampling."""

    blocks: int = 6
    channels: int = 1
    block: ArchitectureComponent = ArchitectureComponent.CONV
    block_settings: Settings = field(default_factory=dict)
    long_skips: bool = False
    parameters: GlobalParameters = field(default_factory=GlobalParameters)


def convolutions(plan: ConvolutionPlan) -> ArchitectureGenome:
    """Write down a stack of convolutional blocks."""
    draft = _Draft()
    for index in range(plan.blocks):
        draft.add(f"block{index}_{plan.block.value}", plan.block, **{**plan.block_settings, "channels": plan.channels})
    if plan.long_skips:
        for index in range(plan.blocks // 2):
            mirror = plan.blocks - 1 - index
            draft.connect(f"block{index}_{plan.block.value}", f"block{mirror}_{plan.block.value}", "add")
    return draft.genome(plan.parameters)


@dataclass(frozen=True)
class HybridPlan:
    """Convolutions at the fine resolution, transformer blocks at the coarse one, and convolutions again."""

    levels: int = 1
    blocks_per_level: int = 1
    transformer_blocks: int = 2
    block: ArchitectureComponent = ArchitectureComponent.RESIDUAL
    block_settings: Settings = field(default_factory=dict)
    attention_settings: Settings = field(default_factory=dict)
    mlp_settings: Settings = field(default_factory=dict)
    channels: int = 2
    merge: str = "add"
    downsampling: str = "conv"
    upsampling: str = "conv"
    parameters: GlobalParameters = field(default_factory=GlobalParameters)


def hybrid(plan: HybridPlan) -> ArchitectureGenome:
    """Write down an hourglass of convolutions round a transformer (as in Hourglass Diffusion, Crowson et al. 2024)."""
    draft = _Draft()
    settings = {**plan.block_settings, "channels": 1}
    for level in range(plan.levels):
        for index in range(plan.blocks_per_level):
            draft.add(f"down{level}_{plan.block.value}{index}", plan.block, **settings)
        draft.add(f"down{level}_downsample", ArchitectureComponent.DOWNSAMPLE, method=plan.downsampling)
    middle = TransformerPlan(
        channels=plan.channels, attention_settings=plan.attention_settings, mlp_settings=plan.mlp_settings
    )
    if plan.channels > 1:
        draft.add("middle_conv0", ArchitectureComponent.CONV, kernel=1, shortcut=False, channels=plan.channels)
    for index in range(plan.transformer_blocks):
        _transformer_block(draft, f"middle{index}", middle)
    for level in reversed(range(plan.levels)):
        draft.add(f"up{level}_upsample", ArchitectureComponent.UPSAMPLE, method=plan.upsampling)
        for index in range(plan.blocks_per_level):
            draft.add(f"up{level}_{plan.block.value}{index}", plan.block, **settings)
        skip = f"down{level}_{plan.block.value}{plan.blocks_per_level - 1}"
        draft.connect(skip, f"up{level}_{plan.block.value}0", plan.merge)
    return draft.genome(plan.parameters)
