"""Mutations of single layers: which there are, in what order, with what settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.architecture.genome import (
    GENES,
    ArchitectureComponent,
    ArchitectureGenome,
    Connection,
    LayerGene,
)
from evodiff.architecture.graph import RESAMPLING, WIDENING
from evodiff.architecture.mutation import (
    key_before,
    mutation,
    pick,
    pick_other,
    random_layer,
    replaced,
)
from evodiff.architecture.repair import fresh_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np

    from evodiff.architecture.limits import Limits

LONGEST_MOVE = 3
LONGEST_BLOCK = 3
# How often a setting is changed in every layer that has it, rather than in one: norms and activations work in concert.
CHANGE_ALL = 0.25


@mutation
def add_layer(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Insert a new layer anywhere, with random settings and the channels of its place."""
    index = int(rng.integers(len(genome.layers) + 1))
    return inserted(genome, index, [random_layer(genome, index, rng)])


@mutation
def remove_layer(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Remove a layer that does not resample; its connections move to its neighbours where they can."""
    removable = positions(genome, lambda gene: gene.component not in RESAMPLING)
    if len(genome.layers) < 2 or not removable:
        return None
    start = pick(removable, rng)
    return removed(genome, start, start + 1)


@mutation
def modify_layer(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Give one setting of one layer, whichever, another value."""
    index = int(rng.integers(len(genome.layers)))
    gene = genome.layers[index]
    return replaced(genome, {index: _changed(gene, pick(tuple(gene.settings), rng), rng)})


@mutation
def replace_layer(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Put a new layer of another component into the place of one that does not resample; the key is new as well."""
    replaceable = positions(genome, lambda gene: gene.component not in RESAMPLING)
    if not replaceable:
        return None
    return another_component(genome, pick(replaceable, rng), rng)


@mutation
def move_layer(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Take a layer out and put it back at most three places away; neighbours are swapped most often."""
    if len(genome.layers) < 2:
        return None
    index = int(rng.integers(len(genome.layers)))
    layers = list(genome.layers)
    gene = layers.pop(index)
    step = int(rng.integers(1, LONGEST_MOVE + 1)) if rng.random() < 0.5 else 1
    direction = 1 if rng.random() < 0.5 else -1
    layers.insert(min(max(index + direction * step, 0), len(layers)), gene)
    return ArchitectureGenome(tuple(layers), genome.connections, genome.parameters)


@mutation
def duplicate_block(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Repeat a run of one to three layers that do not resample right behind itself."""
    starts = positions(genome, lambda gene: gene.component not in RESAMPLING)
    if not starts:
        return None
    start, stop = block(genome, pick(starts, rng), rng)
    return inserted(genome, stop, copies(genome, start, stop))


@mutation
def remove_block(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Remove a run of one to three layers that do not resample; connections move to the neighbours where they can."""
    starts = positions(genome, lambda gene: gene.component not in RESAMPLING)
    if len(genome.layers) < 2 or not starts:
        return None
    start, stop = block(genome, pick(starts, rng), rng)
    return removed(genome, start, stop) if stop - start < len(genome.layers) else genome


@mutation
def attention_kind(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Swap full and linear attention, in one attention layer or in all."""
    return _reset(genome, {ArchitectureComponent.ATTENTION: "kind"}, rng)


@mutation
def attention_heads(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Change the number of attention heads, in one attention layer or in all."""
    return _reset(genome, {ArchitectureComponent.ATTENTION: "heads"}, rng)


@mutation
def norm(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Change the normalisation of one layer or of all: inside a layer, or a layer of its own."""
    return _reset(genome, {**_having("norm"), ArchitectureComponent.NORM: "kind"}, rng)


@mutation
def activation(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Change the non-linearity of one layer or of all: inside a layer, or a layer of its own."""
    return _reset(genome, {**_having("activation"), ArchitectureComponent.ACTIVATION: "kind"}, rng)


@mutation
def modulation(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Change how one layer, or every layer, hears the time step."""
    return _reset(genome, _having("modulation"), rng)


@mutation
def channels(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Widen or narrow one layer, or the whole stage of one resolution that it stands in, by one unit of the width."""
    wide = positions(genome, lambda gene: gene.component in WIDENING)
    if not wide:
        return None
    index = pick(wide, rng)
    step = 1 if rng.random() < 0.5 else -1
    start, stop = _stage(genome, index) if rng.random() < 0.5 else (index, index + 1)
    allowed = GENES[ArchitectureComponent.CONV]["channels"]
    changed = {}
    for position in wide:
        multiplier = int(genome.layers[position].settings["channels"]) + step
        if start <= position < stop and multiplier in allowed:
            changed[position] = genome.layers[position].with_settings(channels=multiplier)
    return replaced(genome, changed)


def another_component(genome: ArchitectureGenome, index: int, rng: np.random.Generator) -> ArchitectureGenome:
    """Put a new layer into the place of the one at ``index``; the genome itself where it is of the same component."""
    old, new = genome.layers[index], random_layer(genome, index, rng)
    if new.component is old.component:
        return genome
    renamed = tuple(
        Connection(
            new.key if edge.source == old.key else edge.source,
            new.key if edge.target == old.key else edge.target,
            edge.merge,
        )
        for edge in genome.connections
    )
    layers = replaced(genome, {index: new}).layers
    return ArchitectureGenome(layers, renamed, genome.parameters)


def copies(genome: ArchitectureGenome, start: int, stop: int) -> list[LayerGene]:
    """Return copies of the layers from ``start`` up to ``stop`` under fresh keys, to stand behind them."""
    taken = {gene.key for gene in genome.layers}
    after = genome.layers[stop - 1].key
    found = []
    for gene in genome.layers[start:stop]:
        after = fresh_key(taken, after, gene.component)
        taken.add(after)
        found.append(LayerGene.of(after, gene.kind))
    return found


def _having(name: str) -> dict[ArchitectureComponent, str]:
    return {component: name for component, settings in GENES.items() if name in settings}


def _reset(
    genome: ArchitectureGenome, names: Mapping[ArchitectureComponent, str], rng: np.random.Generator
) -> ArchitectureGenome | None:
    """Give the setting ``names[component]`` another value in one layer that has it, or now and then in all of them."""
    able = positions(genome, lambda gene: gene.component in names)
    if not able:
        return None
    gene = genome.layers[pick(able, rng)]
    name = names[gene.component]
    value = pick_other(GENES[gene.component][name], gene.settings[name], rng)
    chosen = able if rng.random() < CHANGE_ALL else [genome.layers.index(gene)]
    changed = {}
    for index in chosen:
        other = genome.layers[index]
        changed[index] = other.with_settings(**{names[other.component]: value})
    return replaced(genome, changed)


def _changed(gene: LayerGene, name: str, rng: np.random.Generator) -> LayerGene:
    return gene.with_settings(**{name: pick_other(GENES[gene.component][name], gene.settings[name], rng)})


def positions(genome: ArchitectureGenome, able: Callable[[LayerGene], bool]) -> list[int]:
    """Return the positions of the layers that are ``able``."""
    return [index for index, gene in enumerate(genome.layers) if able(gene)]


def _stage(genome: ArchitectureGenome, index: int) -> tuple[int, int]:
    """Return the run of layers round ``index`` between two resampling layers: first position, and one past the last."""
    start, stop = index, index + 1
    while start > 0 and genome.layers[start - 1].component not in RESAMPLING:
        start -= 1
    while stop < len(genome.layers) and genome.layers[stop].component not in RESAMPLING:
        stop += 1
    return start, stop


def block(genome: ArchitectureGenome, start: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return ``start`` and the end of a run of one to three layers that do not resample."""
    end = min(start + int(rng.integers(1, LONGEST_BLOCK + 1)), len(genome.layers))
    stop = start + 1
    while stop < end and genome.layers[stop].component not in RESAMPLING:
        stop += 1
    return start, stop


def removed(genome: ArchitectureGenome, start: int, stop: int) -> ArchitectureGenome:
    """Remove layers; connections from them now come from the layer before, connections to them go to the one behind."""
    gone = {gene.key for gene in genome.layers[start:stop]}
    source = key_before(genome.layers, start)
    target = genome.layers[stop].key if stop < len(genome.layers) else None
    connections = tuple(
        Connection(source if edge.source in gone else edge.source, end, edge.merge)
        for edge in genome.connections
        if (end := target if edge.target in gone else edge.target) is not None
    )
    layers = genome.layers[:start] + genome.layers[stop:]
    return ArchitectureGenome(layers, connections, genome.parameters)


def inserted(genome: ArchitectureGenome, index: int, genes: Iterable[LayerGene]) -> ArchitectureGenome:
    """Return the genome with layers put in at ``index``."""
    layers = (*genome.layers[:index], *genes, *genome.layers[index:])
    return ArchitectureGenome(layers, genome.connections, genome.parameters)
