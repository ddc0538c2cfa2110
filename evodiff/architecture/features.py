"""An architecture as a vector of fixed length, for a surrogate."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np

from evodiff.architecture import cost
from evodiff.architecture.genome import GENES, STEM, ArchitectureComponent, LayerGene
from evodiff.architecture.graph import WIDENING, ResolvedGenome

LEVELS: Final = 4
_ATTENTION = ArchitectureComponent.ATTENTION

_GLOBAL_NAMES = (
    "log_parameters",
    "log_flops",
    "log_memory_mb",
    "log_width",
    "log_patch",
    "log_time_embedding",
    "positional",
    "layers",
    "modulated_layers",
    "full_attention_log_positions",
    "branches_without_shortcut",
    "lowest_size",
)
_CONNECTION_NAMES = ("connections", "concat_connections", "connections_from_stem", "mean_span", "longest_span")
_LEVEL_NAMES = ("blocks", "attention", "log_channels")

_COMPONENTS = tuple(GENES)
_CHOICES = tuple(
    (component, name, value)
    for component, settings in GENES.items()
    for name, choices in settings.items()
    for value in choices
)
_PLACES = {(component, name, repr(value)): place for place, (component, name, value) in enumerate(_CHOICES)}
_COMPONENT_OF_CHOICE = np.array([_COMPONENTS.index(component) for component, _, _ in _CHOICES])

FEATURE_NAMES: Final[tuple[str, ...]] = (
    *_GLOBAL_NAMES,
    *(f"count_{component.value}" for component in _COMPONENTS),
    *(f"share_{component.value}_{name}_{value}" for component, name, value in _CHOICES),
    *_CONNECTION_NAMES,
    *(f"level{level}_{name}" for level in range(LEVELS) for name in _LEVEL_NAMES),
)


def features(resolved: ResolvedGenome) -> np.ndarray:
    """Return a (d,) float64 array, in the order of :data:`FEATURE_NAMES`.

    Sizes are natural logarithms; ``share_*`` are shares of the layers of a component, 0 where there is none; levels
    count halvings of the stem's resolution, the last one holding all below.
    """
    return np.array(
        [
            *_global_features(resolved),
            *_setting_features(resolved),
            *_connection_features(resolved),
            *_level_features(resolved),
        ],
        dtype=np.float64,
    )


def _global_features(resolved: ResolvedGenome) -> list[float]:
    parameters = resolved.genome.parameters
    layers = resolved.layers
    attended = [
        layer.in_size**2
        for layer in layers
        if layer.gene.component is _ATTENTION and layer.gene.settings["kind"] == "full"
    ]
    return [
        _log(cost.parameter_count(resolved)),
        _log(cost.flops(resolved)),
        _log(cost.memory_mb(resolved, 1)),
        _log(parameters.width),
        _log(parameters.patch),
        _log(parameters.time_embedding),
        float(parameters.positional),
        len(layers),
        sum(layer.gene.settings.get("modulation", "none") != "none" for layer in layers),
        _log(max(attended, default=1)),
        sum(layer.gene.settings.get("shortcut") is False for layer in layers),
        min((layer.out_size for layer in layers), default=resolved.stem_size),
    ]


def _setting_features(resolved: ResolvedGenome) -> list[float]:
    places = [place for layer in resolved.layers for place in _places(layer.gene)]
    found = np.bincount(places, minlength=len(_COMPONENTS) + len(_CHOICES))
    counts, values = found[: len(_COMPONENTS)], found[len(_COMPONENTS) :]
    shares = values / np.maximum(counts, 1)[_COMPONENT_OF_CHOICE]
    return [*counts.tolist(), *shares.tolist()]


@lru_cache(maxsize=8192)
def _places(gene: LayerGene) -> tuple[int, ...]:
    """Return where a layer counts: under its component, and under each of its choices behind those."""
    chosen = (_PLACES[gene.component, name, repr(value)] for name, value in gene.settings.items())
    return _COMPONENTS.index(gene.component), *(len(_COMPONENTS) + place for place in chosen)


def _connection_features(resolved: ResolvedGenome) -> list[float]:
    connections = resolved.genome.connections
    spans = [layer.position - edge.source for layer in resolved.layers for edge in layer.edges]
    count = len(resolved.layers)
    return [
        len(connections),
        sum(edge.merge == "concat" for edge in connections),
        sum(edge.source == STEM for edge in connections),
        sum(spans) / max(len(spans), 1) / count,
        max(spans, default=0) / count,
    ]


def _level_features(resolved: ResolvedGenome) -> list[float]:
    blocks, attention, channels = [0.0] * LEVELS, [0.0] * LEVELS, [0.0] * LEVELS
    for layer in resolved.layers:
        level = min((resolved.stem_size // layer.in_size).bit_length() - 1, LEVELS - 1)
        if layer.gene.component in WIDENING:
            blocks[level] += 1
            channels[level] = max(channels[level], _log(layer.out_channels))
        elif layer.gene.component is _ATTENTION:
            attention[level] += 1
    return [value for level in zip(blocks, attention, channels, strict=True) for value in level]


def _log(value: float) -> float:
    """Return the natural logarithm, to 9 places: the last bits differ between the libraries of platforms."""
    return round(math.log(value), 9)
