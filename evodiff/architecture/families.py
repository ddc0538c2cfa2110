"""Random genomes: a family, its plan, and a width that brings the network to a size drawn log-uniformly.

Sizes of useful networks span two orders of magnitude; drawn uniformly over genes, nearly all would be deep, wide junk.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from evodiff.architecture.genome import (
    GENES,
    ArchitectureComponent,
    ArchitectureGenome,
    GlobalParameters,
    ImageShape,
)
from evodiff.architecture.global_mutations import WIDTHS
from evodiff.architecture.graph import resolve
from evodiff.architecture.mutation import pick
from evodiff.architecture.operators import mutate
from evodiff.architecture.repair import repair
from evodiff.architecture.skeletons import (
    ConvolutionPlan,
    HybridPlan,
    Skips,
    TransformerPlan,
    UNetPlan,
    convolutions,
    hybrid,
    most_levels,
    transformer,
    unet,
)

if TYPE_CHECKING:
    from evodiff.architecture.limits import Limits

ATTEMPTS = 8
# The smallest target is this share of the caps.
SMALLEST_SHARE: Final = 1 / 64
MUTATIONS_AFTERWARDS: Final = 3
FINEST_FULL_ATTENTION: Final = 16
REFERENCE_WIDTH: Final = 32


def random_genome(rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Return a valid random genome under the limits, or ``None`` if several plans had no width that fits.

    Half are U-Nets, the rest transformers, convolution stacks and hybrids; up to three random mutations follow.
    """
    for _ in range(ATTEMPTS):
        skeleton = repair(_random_plan(rng, limits.shape), limits.shape)
        target = SMALLEST_SHARE ** rng.random()
        genome = _scaled(skeleton, target, limits)
        if genome is not None:
            for _ in range(int(rng.integers(MUTATIONS_AFTERWARDS + 1))):
                genome = mutate(genome, rng, limits)
            return genome
    return None


def _scaled(genome: ArchitectureGenome, target: float, limits: Limits) -> ArchitectureGenome | None:
    """Return the genome at about the width that makes its size ``target``, a share of the caps, and surely under them.

    Parameters and operations grow about with the square of the width. Without caps the widths stand for sizes. ``None``
    where even the smallest width is over the caps.
    """
    if limits.max_parameters is None and limits.max_flops is None:
        share = 1 - math.log(target) / math.log(SMALLEST_SHARE)
        return _with_width(genome, WIDTHS[round(share * (len(WIDTHS) - 1))])
    here = limits.excess(resolve(_with_width(genome, REFERENCE_WIDTH), limits.shape))
    wanted = REFERENCE_WIDTH * math.sqrt(target / here)
    index = max(bisect_right(WIDTHS, wanted) - 1, 0)
    while index >= 0:
        found = _with_width(genome, WIDTHS[index])
        if limits.excess(resolve(found, limits.shape)) <= 1:
            return found
        index -= 1
    return None


def _with_width(genome: ArchitectureGenome, width: int) -> ArchitectureGenome:
    return ArchitectureGenome(genome.layers, genome.connections, replace(genome.parameters, width=width))


def smallest_genome(shape: ImageShape) -> ArchitectureGenome:
    """Return about the smallest network for ``shape``: one convolution of 8 channels."""
    plan = ConvolutionPlan(
        blocks=1,
        block_settings={"modulation": "add", "separable": True},
        parameters=GlobalParameters(width=8, time_embedding=1),
    )
    return repair(convolutions(plan), shape)


def _random_plan(rng: np.random.Generator, shape: ImageShape) -> ArchitectureGenome:
    share = rng.random()
    if share < 0.5:
        return unet(_random_unet(rng, shape))
    if share < 0.7:
        return transformer(_random_transformer(rng, shape))
    if share < 0.85:
        return hybrid(_random_hybrid(rng, shape))
    return convolutions(_random_convolutions(rng))


def _random_unet(rng: np.random.Generator, shape: ImageShape) -> UNetPlan:
    levels = int(rng.integers(1, most_levels(shape.size) + 1))
    multipliers = np.minimum(np.cumsum([1, *rng.integers(0, 2, size=levels - 1)]), 3)
    block, settings = _random_block(rng)
    skips: tuple[Skips, ...] = ("every", "stage", "stage", "none")
    possible = [level for level in range(levels) if shape.size >> level <= FINEST_FULL_ATTENTION]
    return UNetPlan(
        multipliers=tuple(int(multiplier) for multiplier in multipliers),
        blocks_per_level=int(rng.integers(1, 3)),
        block=block,
        block_settings=settings,
        attention_levels=frozenset(level for level in possible if rng.random() < 0.3),
        attention_settings=_random_attention(rng),
        middle_attention=bool(rng.random() < 0.6),
        skips=pick(skips, rng),
        merge=pick(("concat", "add"), rng),
        downsampling=pick(("conv", "average"), rng),
        upsampling=pick(("conv", "nearest"), rng),
        parameters=_random_parameters(rng, patches=(1,) if shape.size <= 8 else (1, 1, 2)),
    )


def _random_transformer(rng: np.random.Generator, shape: ImageShape) -> TransformerPlan:
    modulation = pick(("add", "scale_shift", "gated"), rng)
    norm = pick(("group", "layer", "rms"), rng)
    coarse = [patch for patch in (1, 2, 4) if 4 <= shape.size // patch <= 16] or [4]
    return TransformerPlan(
        blocks=int(rng.integers(2, 8)),
        channels=int(rng.integers(1, 4)),
        attention_settings={**_random_attention(rng), "norm": norm, "modulation": modulation},
        mlp_settings=_random_mlp(rng, norm, modulation),
        long_skips=bool(rng.random() < 0.5),
        merge=pick(("concat", "add"), rng),
        parameters=replace(_random_parameters(rng, patches=tuple(coarse)), positional=bool(rng.random() < 0.8)),
    )


def _random_hybrid(rng: np.random.Generator, shape: ImageShape) -> HybridPlan:
    block, settings = _random_block(rng)
    modulation = pick(("add", "scale_shift", "gated"), rng)
    norm = pick(("group", "layer", "rms"), rng)
    most = most_levels(shape.size) - 1
    return HybridPlan(
        levels=int(rng.integers(min(1, most), most + 1)),
        blocks_per_level=int(rng.integers(1, 3)),
        transformer_blocks=int(rng.integers(1, 5)),
        block=block,
        block_settings=settings,
        attention_settings={**_random_attention(rng), "norm": norm, "modulation": modulation},
        mlp_settings=_random_mlp(rng, norm, modulation),
        channels=int(rng.integers(1, 4)),
        merge=pick(("concat", "add"), rng),
        downsampling=pick(("conv", "average"), rng),
        upsampling=pick(("conv", "nearest"), rng),
        parameters=_random_parameters(rng, patches=(1,) if shape.size <= 8 else (1, 2)),
    )


def _random_convolutions(rng: np.random.Generator) -> ConvolutionPlan:
    block, settings = _random_block(rng)
    return ConvolutionPlan(
        blocks=int(rng.integers(2, 9)),
        channels=int(rng.integers(1, 3)),
        block=block,
        block_settings=settings,
        long_skips=bool(rng.random() < 0.5),
        parameters=_random_parameters(rng, patches=(1, 1, 2)),
    )


def _random_block(rng: np.random.Generator) -> tuple[ArchitectureComponent, dict[str, Any]]:
    """Return a component for the blocks of a net with one set of settings for all of them."""
    modulated = {"modulation": pick(("add", "add", "scale_shift", "gated"), rng)}
    shared = {
        "norm": pick(("group", "group", "layer", "rms"), rng),
        "activation": pick(GENES[ArchitectureComponent.CONV]["activation"], rng),
        **modulated,
    }
    if rng.random() < 0.5:
        return ArchitectureComponent.RESIDUAL, shared
    convolution = {
        "kernel": pick((3, 3, 5), rng),
        "expansion": pick((1, 2, 4), rng),
        "separable": bool(rng.random() < 0.5),
    }
    return ArchitectureComponent.CONV, {**shared, **convolution}


def _random_attention(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "kind": pick(("full", "full", "linear"), rng),
        "heads": pick((1, 2, 4, 4, 8), rng),
        "norm": pick(("group", "layer", "rms"), rng),
        "modulation": pick(("none", "none", "add", "gated"), rng),
    }


def _random_mlp(rng: np.random.Generator, norm: str, modulation: str) -> dict[str, Any]:
    return {
        "expansion": pick((2, 4), rng),
        "activation": pick(("gelu", "gelu", "silu", "relu"), rng),
        "norm": norm,
        "modulation": modulation,
    }


def _random_parameters(rng: np.random.Generator, *, patches: tuple[int, ...]) -> GlobalParameters:
    return GlobalParameters(
        patch=pick(patches, rng),
        time_embedding=pick((1, 2, 4), rng),
        positional=bool(rng.random() < 0.25),
    )
