"""An architecture as a vector of fixed length, for a surrogate."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Final

import numpy as np

from evodiff.architecture import cost
from evodiff.architecture.genome import GENES, STEM, ArchitectureComponent, LayerKind
from evodiff.architecture.graph import WIDENING, ResolvedGenome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

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
_CONNECTION_NAMES = (
    "connections",
    "concat_connections",
    "connections_from_stem",
    "mean_span",
    "longest_span",
    "unbridged_halvings",
)
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

# Shares of one setting add up to 1 (or to 0 where there is no such layer): together they weigh about as one feature.
# Seventy of a hundred columns are such shares; all alike, they drowned what sizes say of the quality.
FEATURE_WEIGHTS: Final = np.concatenate(
    [
        np.ones(len(_GLOBAL_NAMES) + len(_COMPONENTS)),
        [len(GENES[component][name]) ** -0.5 for component, name, _ in _CHOICES],
        np.ones(len(_CONNECTION_NAMES) + LEVELS * len(_LEVEL_NAMES)),
    ]
)


def features(resolved: ResolvedGenome) -> Floats:
    """Return a (d,) float64 array, in the order of :data:`FEATURE_NAMES`.

    Sizes are natural logarithms; ``share_*`` are shares of the layers of a component, 0 where there is none; levels
    count halvings of the stem's resolution, the last one holding all below. ``unbridged_halvings`` says how often all
    that arrives at the output was halved: in a U-Net without skip connections no detail of the noise is left.
    """
    row: Floats = features_many([resolved])[0]
    return row


def features_many(networks: Sequence[ResolvedGenome]) -> Floats:
    """Return an (n, d) float64 array, a row of :func:`features` for each network."""
    if not networks:
        return np.zeros((0, len(FEATURE_NAMES)))
    layers = _Layers(networks)
    columns = [
        _global_features(networks, layers),
        _setting_features(layers),
        np.array([_connection_features(network) for network in networks], dtype=np.float64),
        _level_features(layers),
    ]
    return np.hstack(columns)


class _Layers:
    """The layers of ``count`` networks one after the other; each array, (m, ...), has an entry for each layer.

    But ``lengths`` and ``starts``, (n,), say how many layers each network has, and where they begin.
    """

    def __init__(self, networks: Sequence[ResolvedGenome]) -> None:
        self.count = len(networks)
        self.lengths = np.array([len(network.kinds) for network in networks])
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        self.network = np.repeat(np.arange(self.count), self.lengths)
        self.stem_size = np.repeat(np.array([network.stem_size for network in networks]), self.lengths)
        self.in_size = _flat(network.sizes[:-1] for network in networks)
        self.out_size = _flat(network.sizes[1:] for network in networks)
        self.out_channels = _flat(network.channels[1:] for network in networks)
        numbers: dict[LayerKind, int] = {}  # of the kinds, of which there are far fewer than layers
        number = _flat([numbers.setdefault(kind, len(numbers)) for kind in network.kinds] for network in networks)
        self.choices = np.array([_choices(kind) for kind in numbers])[number]
        traits = np.array([_traits(kind) for kind in numbers])[number]
        self.modulated, self.attends_fully, self.without_shortcut, self.attention, self.widening = traits.T

    def counted(self, chosen: NDArray[np.bool_]) -> Floats:
        """Return how many of those ``chosen`` each network has, (n,)."""
        return np.bincount(self.network[chosen], minlength=self.count).astype(np.float64)


def _flat(rows: Iterable[Sequence[int]]) -> NDArray[np.int64]:
    """Return the numbers of all rows one after the other."""
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64)


@lru_cache(maxsize=65536)
def _traits(kind: LayerKind) -> tuple[bool, bool, bool, bool, bool]:
    """Return what is asked of every layer: see :class:`_Layers`."""
    attention = kind.component is _ATTENTION
    return (
        kind.modulated,
        attention and kind.settings["kind"] == "full",
        kind.settings.get("shortcut") is False,
        attention,
        kind.component in WIDENING,
    )


def _global_features(networks: Sequence[ResolvedGenome], layers: _Layers) -> Floats:
    attended = np.ones(layers.count, dtype=np.int64)
    np.maximum.at(attended, layers.network[layers.attends_fully], layers.in_size[layers.attends_fully] ** 2)
    sizes = [_sizes_of(network) for network in networks]
    return np.column_stack(
        [
            np.array(sizes, dtype=np.float64),
            layers.lengths,
            layers.counted(layers.modulated),
            [_log(value) for value in attended.tolist()],
            layers.counted(layers.without_shortcut),
            np.minimum.reduceat(layers.out_size, layers.starts),
        ]
    )


def _sizes_of(resolved: ResolvedGenome) -> list[float]:
    parameters = resolved.genome.parameters
    return [
        _log(cost.parameter_count(resolved)),
        _log(cost.flops(resolved)),
        _log(cost.memory_mb(resolved, 1)),
        _log(parameters.width),
        _log(parameters.patch),
        _log(parameters.time_embedding),
        float(parameters.positional),
    ]


def _setting_features(layers: _Layers) -> Floats:
    found = np.add.reduceat(layers.choices, layers.starts).astype(np.float64)
    counts, values = found[:, : len(_COMPONENTS)], found[:, len(_COMPONENTS) :]
    return np.hstack([counts, values / np.maximum(counts, 1)[:, _COMPONENT_OF_CHOICE]])


@lru_cache(maxsize=65536)
def _choices(kind: LayerKind) -> NDArray[np.int16]:
    """Return 1 where a layer counts, else 0: under its component, and under each of its choices behind those."""
    row = np.zeros(len(_COMPONENTS) + len(_CHOICES), dtype=np.int16)  # narrow, as these are summed for every layer
    row[_COMPONENTS.index(kind.component)] = 1
    row[[len(_COMPONENTS) + _PLACES[kind.component, name, repr(value)] for name, value in kind.chosen]] = 1
    return row


def _connection_features(resolved: ResolvedGenome) -> list[float]:
    connections = resolved.genome.connections
    spans = [target - edge.source for target, edges in resolved.edges.items() for edge in edges]
    count = len(resolved.kinds)
    return [
        len(connections),
        sum(edge.merge == "concat" for edge in connections),
        sum(edge.source == STEM for edge in connections),
        sum(spans) / max(len(spans), 1) / count,
        max(spans, default=0) / count,
        math.log2(resolved.stem_size // _surviving_size(resolved)),  # exact: of powers of two
    ]


def _surviving_size(resolved: ResolvedGenome) -> int:
    """Return the resolution that is left at the narrowest place of the path which keeps most of it."""
    if not resolved.edges:
        return min(resolved.sizes)
    surviving = [resolved.stem_size]
    for position, size in enumerate(resolved.sizes[1:]):
        bridged = [surviving[edge.source + 1] for edge in resolved.edges.get(position, ())]
        surviving.append(min(size, max([surviving[-1], *bridged])))
    return surviving[-1]


def _level_features(layers: _Layers) -> Floats:
    halvings = np.log2(layers.stem_size // layers.in_size).astype(np.int64)  # exact: of powers of two
    place = layers.network * LEVELS + np.minimum(halvings, LEVELS - 1)
    blocks, attention = (
        np.bincount(place[chosen], minlength=layers.count * LEVELS) for chosen in (layers.widening, layers.attention)
    )
    channels = np.ones(layers.count * LEVELS, dtype=np.int64)
    np.maximum.at(channels, place[layers.widening], layers.out_channels[layers.widening])
    logarithms = [_log(value) for value in channels.tolist()]
    return np.column_stack([blocks, attention, logarithms]).reshape(layers.count, LEVELS * len(_LEVEL_NAMES))


@lru_cache(maxsize=8192)
def _log(value: float) -> float:
    """Return the natural logarithm, to 9 places: the last bits differ between the libraries of platforms."""
    return round(math.log(value), 9)
