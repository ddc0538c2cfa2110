"""Mutations that know the parent: what a layer is worth, measured after its training, and the time that it takes.

Where layers go, are narrowed or exchanged, one of low worth a millisecond is likely; where layers are added, repeated
or widened, one of high worth is. Which layer it is remains a draw, so that a wrong measurement closes no way. Pruning
goes by such measures (Molchanov et al. 2017); here they only tilt a mutation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final

from evodiff.architecture.genome import GENES, ArchitectureComponent
from evodiff.architecture.graph import RESAMPLING, WIDENING
from evodiff.architecture.layer_mutations import another_component, block, copies, inserted, positions, removed
from evodiff.architecture.mutation import mutation, random_layer, replaced
from evodiff.architecture.operators import mutate

if TYPE_CHECKING:
    import numpy as np

    from evodiff.architecture.genome import ArchitectureGenome, LayerGene
    from evodiff.architecture.limits import Limits

# The loss may even fall without a layer: of those, the slowest goes first.
_NOTHING: Final = 1e-6


@dataclass(frozen=True)
class LayerWorth:
    """What is known of layers by key: how much the loss rises without each, and its ``milliseconds`` in a call.

    A layer that is not known counts as the median of those that are.
    """

    sensitivity: Mapping[str, float]
    milliseconds: Mapping[str, float]

    def high(self, gene: LayerGene) -> float:
        """Return what layers to widen, or to add others beside, are ordered by, the likeliest largest."""
        return self.sensitivity.get(gene.key, median(self.sensitivity.values()))

    def low(self, gene: LayerGene) -> float:
        """Return what layers to remove are ordered by, the likeliest largest: milliseconds for little worth."""
        return -max(self.high(gene), _NOTHING) / max(self.milliseconds.get(gene.key, 1.0), _NOTHING)


Proposal = Callable[
    ["ArchitectureGenome", "np.random.Generator", "Limits", LayerWorth], "ArchitectureGenome | None"
]  # as evodiff.architecture.mutation.Proposal, with what is known


def mutate_informed(
    genome: ArchitectureGenome,
    rng: np.random.Generator,
    limits: Limits,
    operator: str | None,
    worth: LayerWorth,
) -> ArchitectureGenome:
    """Return a valid mutant as :func:`evodiff.architecture.operators.mutate` does, its place chosen by ``worth``.

    Mutations that have no use for it, and all of them where no layer's sensitivity is known, are the plain ones.
    """
    if operator is None or operator not in INFORMED or not worth.sensitivity:
        return mutate(genome, rng, limits, operator)
    return mutation(partial(_propose, INFORMED[operator], worth))(genome, rng, limits)


def _propose(
    proposal: Proposal, worth: LayerWorth, genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits
) -> ArchitectureGenome | None:
    return proposal(genome, rng, limits, worth)


def _remove_layer(
    genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits, worth: LayerWorth
) -> ArchitectureGenome | None:
    removable = positions(genome, _stays)
    if len(genome.layers) < 2 or not removable:
        return None
    start = _pick_ranked(genome, removable, worth.low, rng)
    return removed(genome, start, start + 1)


def _remove_block(
    genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits, worth: LayerWorth
) -> ArchitectureGenome | None:
    starts = positions(genome, _stays)
    if len(genome.layers) < 2 or not starts:
        return None
    start, stop = block(genome, _pick_ranked(genome, starts, worth.low, rng), rng)
    return removed(genome, start, stop) if stop - start < len(genome.layers) else genome


def _replace_layer(
    genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits, worth: LayerWorth
) -> ArchitectureGenome | None:
    replaceable = positions(genome, _stays)
    if not replaceable:
        return None
    return another_component(genome, _pick_ranked(genome, replaceable, worth.low, rng), rng)


def _add_layer(
    genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits, worth: LayerWorth
) -> ArchitectureGenome | None:
    beside = _pick_ranked(genome, range(len(genome.layers)), worth.high, rng)
    index = beside + int(rng.integers(2))
    return inserted(genome, index, [random_layer(genome, index, rng)])


def _duplicate_block(
    genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits, worth: LayerWorth
) -> ArchitectureGenome | None:
    starts = positions(genome, _stays)
    if not starts:
        return None
    start, stop = block(genome, _pick_ranked(genome, starts, worth.high, rng), rng)
    return inserted(genome, stop, copies(genome, start, stop))


def _channels(
    genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits, worth: LayerWorth
) -> ArchitectureGenome | None:
    wide = positions(genome, lambda gene: gene.component in WIDENING)
    if not wide:
        return None
    step, order = (1, worth.high) if rng.random() < 0.5 else (-1, worth.low)
    index = _pick_ranked(genome, wide, order, rng)
    multiplier = int(genome.layers[index].settings["channels"]) + step
    if multiplier not in GENES[ArchitectureComponent.CONV]["channels"]:
        return genome
    return replaced(genome, {index: genome.layers[index].with_settings(channels=multiplier)})


INFORMED: Final[Mapping[str, Proposal]] = {
    "remove_layer": _remove_layer,
    "remove_block": _remove_block,
    "replace_layer": _replace_layer,
    "add_layer": _add_layer,
    "duplicate_block": _duplicate_block,
    "channels": _channels,
}


def _stays(gene: LayerGene) -> bool:
    """Whether a layer keeps the resolution, so that it can go by itself."""
    return gene.component not in RESAMPLING


def _pick_ranked(
    genome: ArchitectureGenome, places: Sequence[int], order: Callable[[LayerGene], float], rng: np.random.Generator
) -> int:
    """Return one of ``places``: the first by ``order`` is twice as likely as the second, three times as the third."""
    ranked = sorted(places, key=lambda index: (-order(genome.layers[index]), index))
    drawn = rng.random() * sum(1 / rank for rank in range(1, len(ranked) + 1))
    for rank, index in enumerate(ranked, start=1):
        drawn -= 1 / rank
        if drawn < 0:
            return index
    return ranked[-1]
