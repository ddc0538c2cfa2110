"""An architecture as a vector of fixed length, for a surrogate."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

import numpy as np

from evodiff.architecture import cost
from evodiff.architecture.genome import GENES, STEM, ArchitectureComponent
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

FEATURE_NAMES: Final[tuple[str, ...]] = (
    *_GLOBAL_NAMES,
    *(f"count_{component.value}" for component in GENES),
    *(
        f"share_{component.value}_{name}_{value}"
        for component, settings in GENES.items()
        for name, choices in settings.items()
        for value in choices
    ),
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
    counts = Counter(layer.gene.component for layer in resolved.layers)
    values = Counter(
        (layer.gene.component, name, value) for layer in resolved.layers for name, value in layer.gene.settings.items()
    )
    shares = [
        values[component, name, value] / max(counts[component], 1)
        for component, settings in GENES.items()
        for name, choices in settings.items()
        for value in choices
    ]
    return [*(float(counts[component]) for component in GENES), *shares]


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
