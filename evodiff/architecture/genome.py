"""The genome of a diffusion architecture: an ordered list of layer genes, extra connections, global parameters.

What a genome means
-------------------
The image is taken in by a *stem* (a 3x3 convolution, or a ``patch`` x ``patch`` convolution of that stride), the
layers follow one another, and an *output stage* (norm, SiLU, 3x3 convolution, pixel shuffle when patched) returns an
image. Each layer gene has a component and settings out of :data:`GENES`:

``residual``    h = conv(act(norm(x))), then conv(act(norm(h))), plus x (projected by 1x1 where channels differ):
                DDPM's block.
``conv``        expansion 1: conv(act(norm(x))). Expansion e: 1x1(act(conv(norm(x)))) with e times the output channels
                inside; kernel 1 and expansion 4 is a transformer's MLP. ``separable`` replaces the k x k convolution
                by a depthwise one followed by 1x1. ``shortcut`` adds x (projected where channels differ).
``attention``   x + out(attend(norm(x))), full softmax attention or linear attention (Shen et al. 2021, Efficient
                Attention).
``norm``        a normalisation on its own.  ``activation``  a non-linearity on its own.
``downsample``  halves the resolution (strided 3x3 convolution, or 2x2 average).
``upsample``    doubles it (nearest neighbour, then a 3x3 convolution or nothing).

``modulation`` says how a layer hears the time and class embedding: ``none``; ``add`` (DDPM); ``scale_shift``
(improved DDPM); ``gated`` (adaLN-Zero of DiT: scale, shift, and a zero-initialised gate on the branch).

A connection carries the output of an earlier layer (or ``stem``) to the input of a later one of the same resolution,
by ``concat`` or ``add``. ``channels`` is counted in units of the global ``width``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from evodiff.architecture.reading import read_choice, read_fields, read_key, read_list, read_object
from evodiff.errors import InvalidGenome

if TYPE_CHECKING:
    from collections.abc import Mapping

STEM: Final = "stem"

Setting = int | str | bool

_compact: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

_quoted: Final = lru_cache(maxsize=64)(_compact)


class ArchitectureComponent(StrEnum):
    """What a layer gene is."""

    ATTENTION = "attention"
    CONV = "conv"
    RESIDUAL = "residual"
    NORM = "norm"
    ACTIVATION = "activation"
    DOWNSAMPLE = "downsample"
    UPSAMPLE = "upsample"


_NORMS = ("group", "layer", "rms")
_ACTIVATIONS = ("silu", "gelu", "relu", "mish")
_MODULATIONS = ("none", "add", "scale_shift", "gated")

# The settings of each component with the values they may take; the first value is the default.
GENES: Final[Mapping[ArchitectureComponent, Mapping[str, tuple[Setting, ...]]]] = MappingProxyType(
    {
        ArchitectureComponent.ATTENTION: MappingProxyType(
            {
                "kind": ("full", "linear"),
                "heads": (4, 1, 2, 8),
                "norm": _NORMS,
                "modulation": _MODULATIONS,
            }
        ),
        ArchitectureComponent.CONV: MappingProxyType(
            {
                "channels": (1, 2, 3, 4),
                "kernel": (3, 1, 5),
                "expansion": (1, 2, 4),
                "separable": (False, True),
                "shortcut": (True, False),
                "norm": _NORMS,
                "activation": _ACTIVATIONS,
                "modulation": _MODULATIONS,
            }
        ),
        ArchitectureComponent.RESIDUAL: MappingProxyType(
            {
                "channels": (1, 2, 3, 4),
                "kernel": (3, 5),
                "norm": _NORMS,
                "activation": _ACTIVATIONS,
                "modulation": ("add", "scale_shift", "gated", "none"),
            }
        ),
        ArchitectureComponent.NORM: MappingProxyType({"kind": _NORMS}),
        ArchitectureComponent.ACTIVATION: MappingProxyType({"kind": _ACTIVATIONS}),
        ArchitectureComponent.DOWNSAMPLE: MappingProxyType({"method": ("conv", "average")}),
        ArchitectureComponent.UPSAMPLE: MappingProxyType({"method": ("conv", "nearest")}),
    }
)


@dataclass(frozen=True)
class GlobalParameters:
    """What belongs to the whole network: base ``width`` in channels, ``patch`` of the stem in pixels, size of the time
    embedding in multiples of the width, and whether a learned position is added after the stem."""

    width: int = 32
    patch: int = 1
    time_embedding: int = 4
    positional: bool = False

    @cached_property
    def canonical(self) -> str:
        """Their part of a genome's canonical string."""
        return _compact({name: getattr(self, name) for name in GLOBALS})


# The values that each global parameter may take; the first value is the default.
GLOBALS: Final[Mapping[str, tuple[Setting, ...]]] = MappingProxyType(
    {
        "width": (32, 8, 16, 24, 40, 48, 56, 64, 80, 96, 112, 128),
        "patch": (1, 2, 4),
        "time_embedding": (4, 1, 2),
        "positional": (False, True),
    }
)

MERGES: Final = ("concat", "add")
MAX_LAYERS: Final = 64


@dataclass(frozen=True)
class ImageShape:
    """What a network denoises: square images, ``channels`` x ``size`` x ``size``, of ``classes`` classes (0: none)."""

    channels: int
    size: int
    classes: int = 0


@dataclass(frozen=True)
class LayerGene:
    """One layer. ``key`` is unique in the genome and stable under mutation, so that child and parent can be aligned."""

    key: str
    component: ArchitectureComponent
    settings: Mapping[str, Setting]
    # What the layer is, whatever its key; equal layers nearly always share one object.
    kind: LayerKind = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kind = kind_of(self.component, tuple(sorted(self.settings.items())))
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "settings", kind.settings)

    @classmethod
    def of(cls, key: str, kind: LayerKind) -> LayerGene:
        """Return the gene of a kind that is known."""
        gene = object.__new__(cls)
        gene.__dict__.update(key=key, component=kind.component, settings=kind.settings, kind=kind)
        return gene

    def __hash__(self) -> int:
        return hash((self.key, self.kind.hash_of_values))

    def __reduce__(self) -> tuple[Any, ...]:
        return LayerGene, (self.key, self.component, dict(self.settings))  # a mapping proxy cannot cross processes

    def with_settings(self, **changes: Setting) -> LayerGene:
        """Return the gene with some settings replaced."""
        return LayerGene(self.key, self.component, {**self.settings, **changes})


@dataclass(frozen=True, eq=False)
class LayerKind:
    """A layer without its key: the ``settings`` it has ``chosen``, by name. Equal to itself alone.

    Hashing it is free, so that what depends on a layer's kind is looked up in no time. ``hash_of_values`` is what kinds
    of equal genes share, though they may differ by types. ``modulated`` says whether the layer hears the time step.
    """

    component: ArchitectureComponent
    chosen: tuple[tuple[str, Setting], ...]
    settings: Mapping[str, Setting]
    hash_of_values: int
    modulated: bool

    def __reduce__(self) -> tuple[Any, ...]:
        return kind_of, (self.component, self.chosen)  # the same object again, with hashes of this process

    @cached_property
    def channels(self) -> int | None:
        """The channels of its output in units of the width; None where it keeps those of its input."""
        return int(self.settings["channels"]) if "channels" in self.settings else None

    @cached_property
    def halvings(self) -> int:
        """How often it halves the resolution: 1 of ``downsample``, -1 of ``upsample``, 0 of any other."""
        return {ArchitectureComponent.DOWNSAMPLE: 1, ArchitectureComponent.UPSAMPLE: -1}.get(self.component, 0)

    @cached_property
    def canonical(self) -> str:
        """The layer's part of a genome's canonical string."""
        return _compact([self.component.value, dict(self.chosen)])


def kind_of(component: ArchitectureComponent, chosen: tuple[tuple[str, Setting], ...]) -> LayerKind:
    """Return the kind of a layer whose settings are ``chosen``, in the order of their names."""
    return _kind(component, chosen, tuple([type(value) for _, value in chosen]))


@lru_cache(maxsize=65536)
def _kind(component: str, chosen: tuple[tuple[str, Setting], ...], _types: tuple[type, ...]) -> LayerKind:
    """Return the object of a kind; types are told apart, for 1, 1.0 and True are equal, and are not written alike."""
    settings = dict(chosen)
    return LayerKind(
        ArchitectureComponent(component),
        chosen,
        MappingProxyType(settings),
        hash((component, chosen)),
        modulated=settings.get("modulation", "none") != "none",
    )


def layer(key: str, component: ArchitectureComponent | str, **settings: Setting) -> LayerGene:
    """Return a layer gene with the defaults of its component for every setting not given."""
    component = ArchitectureComponent(component)
    defaults = {name: choices[0] for name, choices in GENES[component].items()}
    return LayerGene(key, component, {**defaults, **settings})


@dataclass(frozen=True, order=True)
class Connection:
    """An extra edge from the output of ``source`` (a layer key or ``stem``) to the input of the layer ``target``."""

    source: str
    target: str
    merge: str = "concat"


@dataclass(frozen=True)
class ArchitectureGenome:
    """An architecture as data: hashable, comparable, JSON in and out.

    Building one checks nothing; :meth:`from_json` checks names and types, and ``graph.resolve`` whether the genome
    makes a network for a given image shape.
    """

    layers: tuple[LayerGene, ...]
    connections: tuple[Connection, ...] = ()
    parameters: GlobalParameters = GlobalParameters()

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, dictionaries, strings and numbers."""
        return {
            "layers": [{"key": gene.key, "component": gene.component.value, **gene.settings} for gene in self.layers],
            "connections": [
                {"source": edge.source, "target": edge.target, "merge": edge.merge} for edge in self.connections
            ],
            "parameters": {item.name: getattr(self.parameters, item.name) for item in fields(GlobalParameters)},
        }

    @classmethod
    def from_json(cls, data: object) -> ArchitectureGenome:
        """Read what :meth:`to_json` wrote.

        Raises:
            InvalidGenome: a part is missing, unknown, or has a value outside :data:`GENES` or :data:`GLOBALS`.
        """
        whole = read_fields(
            data, "genome", {"layers", "connections", "parameters"}, optional={"connections", "parameters"}
        )
        return cls(
            layers=tuple(
                _layer_from_json(item, f"layers[{i}]") for i, item in enumerate(read_list(whole["layers"], "layers"))
            ),
            connections=tuple(
                _connection_from_json(item, f"connections[{i}]")
                for i, item in enumerate(read_list(whole.get("connections", []), "connections"))
            ),
            parameters=_parameters_from_json(whole.get("parameters", {})),
        )

    def canonical(self) -> str:
        """Return a string in which layer keys and the order of connections have no part.

        Genomes with equal strings make the same network, with the same initial weights for the same seed.
        """
        return self._canonical

    @cached_property
    def _canonical(self) -> str:
        position = {STEM: -1} | {gene.key: index for index, gene in enumerate(self.layers)}
        ends = sorted([(position[edge.source], position[edge.target], edge.merge) for edge in self.connections])
        connections = ",".join([f"[{source},{target},{_quoted(merge)}]" for source, target, merge in ends])
        layers = ",".join([gene.kind.canonical for gene in self.layers])
        return f'{{"connections":[{connections}],"layers":[{layers}],"parameters":{self.parameters.canonical}}}'

    @cached_property
    def _hash(self) -> int:
        return hash((self.layers, self.connections, self.parameters))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return ArchitectureGenome, (self.layers, self.connections, self.parameters)  # string hashes differ by process


def _layer_from_json(data: object, where: str) -> LayerGene:
    """Read a layer; what its kind may be is checked once for all layers that say the same."""
    kind = None
    try:
        settings = dict(read_object(data, where, {"key", "component"}))
        key = read_key(settings.pop("key"), f"{where}.key")
        kind = _kind_from_json(tuple(settings.items()), tuple(map(type, settings.values())))
    except (InvalidGenome, KeyError, TypeError):
        pass  # what is wrong, and where, is told below
    return _checked_layer(data, where) if kind is None else LayerGene.of(key, kind)


@lru_cache(maxsize=65536)
def _kind_from_json(settings: tuple[tuple[str, Any], ...], _types: tuple[type, ...]) -> LayerKind:
    return _checked_layer({"key": "any", **dict(settings)}, "").kind


def _checked_layer(data: object, where: str) -> LayerGene:
    names = {"key", "component"}
    components = tuple(item.value for item in ArchitectureComponent)
    named = read_object(data, where, names).get("component")
    component = ArchitectureComponent(read_choice(named, components, f"{where}.component"))
    choices = GENES[component]
    found = read_fields(data, where, {*names, *choices})
    settings = {name: read_choice(found[name], choices[name], f"{where}.{name}") for name in choices}
    return LayerGene(read_key(found["key"], f"{where}.key"), component, settings)


def _connection_from_json(data: object, where: str) -> Connection:
    found = read_fields(data, where, {"source", "target", "merge"})
    return Connection(
        read_key(found["source"], f"{where}.source"),
        read_key(found["target"], f"{where}.target"),
        read_choice(found["merge"], MERGES, f"{where}.merge"),
    )


def _parameters_from_json(data: object) -> GlobalParameters:
    found = read_fields(data, "parameters", set(GLOBALS), optional=set(GLOBALS))
    values: dict[str, Any] = {
        name: read_choice(value, GLOBALS[name], f"parameters.{name}") for name, value in found.items()
    }
    return GlobalParameters(**values)
