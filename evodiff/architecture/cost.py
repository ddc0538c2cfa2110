"""What a network costs before it is built: operations, parameters, multiply-adds, memory. Pure Python, no torch.

The modules of ``layers``, ``attention``, ``modulation`` and ``network`` are written down here a second time, as what each
forward pass calls and which tensors it holds meanwhile; tests hold both against each other. Costs of single layers are
cached, for a child shares most of its layers with its parents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from evodiff.architecture.genome import ArchitectureComponent, Setting
from evodiff.architecture.graph import WIDENING, ResolvedGenome, ResolvedLayer
from evodiff.architecture.tape import Tape
from evodiff.hardware import operation as op
from evodiff.hardware.operation import FLOAT_BYTES, Operation

MEGABYTE: Final = 1e6

_SHIFTED_PARTS = {"none": 0, "add": 1, "scale_shift": 2, "gated": 2}


@dataclass(frozen=True)
class PartCost:
    """The cost of a part of a network: what it calls, its parameters, and the largest number of elements that it holds at
    once beside its inputs. ``kept`` of them, its output, stay."""

    operations: tuple[Operation, ...]
    parameters: int
    flops: float
    peak_elements: int
    kept: int


def operations(resolved: ResolvedGenome, batch: int) -> list[Operation]:
    """Return the operations of one forward pass of ``batch`` images, in the order of their execution."""
    return [item for part in _parts(resolved, batch) for item in part.operations]


def parameter_count(resolved: ResolvedGenome) -> int:
    """Return the number of parameters of the network, exactly."""
    return sum(part.parameters for part in _parts(resolved, 1))


def flops(resolved: ResolvedGenome, batch: int = 1) -> float:
    """Return the multiply-adds, counted as two, of a forward pass: convolutions, linear layers and attention."""
    return sum(part.flops for part in _parts(resolved, batch))


def training_flops(resolved: ResolvedGenome, batch: int) -> float:
    """Return the multiply-adds of one training step: forward, and twice that backward."""
    return 3 * flops(resolved, batch)


def memory_mb(resolved: ResolvedGenome, batch: int) -> float:
    """Return parameters and peak live activations of one forward pass without gradients, in 10^6 bytes of float32.

    A tensor that a connection carries lives until its last use; within a layer the largest set of tensors alive at once
    counts. Scratch memory inside a kernel does not.
    """
    elements = parameter_count(resolved) + peak_activation_elements(resolved, batch)
    return FLOAT_BYTES * elements / MEGABYTE


def peak_activation_elements(resolved: ResolvedGenome, batch: int) -> int:
    """Return the largest number of activations alive at once during a forward pass of ``batch`` images."""
    shape = resolved.shape
    parts = iter(_parts(resolved, batch))
    embedding = next(parts)
    always = batch * shape.channels * shape.size**2
    peak = always + embedding.peak_elements
    always += embedding.kept
    stem = next(parts)
    peak = max(peak, always + stem.peak_elements)
    last_use = {edge.source: layer.position for layer in resolved.layers for edge in layer.edges}
    kept: dict[int, int] = {-1: stem.kept}  # position -> elements of its output
    for layer in resolved.layers:
        junction = next(parts) if layer.edges else None
        if junction is not None:
            peak = max(peak, always + sum(kept.values()) + junction.peak_elements)
        trunk = layer.position - 1
        live = {key: size for key, size in kept.items() if key == trunk or last_use.get(key, -2) > layer.position}
        operation = next(parts)
        merged = junction.kept if junction is not None else 0
        peak = max(peak, always + sum(live.values()) + merged + operation.peak_elements)
        kept = {key: size for key, size in live.items() if last_use.get(key, -2) > layer.position}
        kept[layer.position] = operation.kept
    return max(peak, always + sum(kept.values()) + next(parts).peak_elements)


def _parts(resolved: ResolvedGenome, batch: int) -> list[PartCost]:
    """Return embedding, stem, for each layer its junction (where connections arrive) and its operation, and output."""
    shape, parameters = resolved.shape, resolved.genome.parameters
    embedding = resolved.time_embedding_channels
    parts = [
        _embedding(batch, parameters.width, embedding, shape.classes),
        _stem(batch, shape.channels, shape.size, parameters.width, parameters.patch, parameters.positional),
    ]
    for layer in resolved.layers:
        if layer.edges:
            parts.append(_junction(batch, layer))
        parts.append(_operation(batch, layer, embedding))
    parts.append(_output(batch, resolved.out_channels, resolved.stem_size, shape.channels, parameters.patch))
    return parts


def _junction(batch: int, layer: ResolvedLayer) -> PartCost:
    edges = tuple((edge.channels, edge.merge) for edge in layer.edges)
    return _junction_cost(batch, layer.trunk_channels, edges, layer.in_size, layer.gene.component in WIDENING)


def _operation(batch: int, layer: ResolvedLayer, embedding: int) -> PartCost:
    gene = layer.gene
    settings = tuple(gene.settings.items())
    return _operation_cost(
        batch, gene.component, settings, layer.in_channels, layer.out_channels, layer.in_size, embedding
    )


def _finish(tape: Tape, kept: int) -> PartCost:
    total = sum(item.flops for item in tape.operations)
    return PartCost(tuple(tape.operations), tape.parameters, total, tape.peak, kept)


@lru_cache(maxsize=4096)
def _embedding(batch: int, width: int, channels: int, classes: int) -> PartCost:
    tape = Tape(batch)
    tape.call(op.embedding("sinusoid", batch, width), output=batch * width)
    tape.linear(batch, width, channels)
    tape.free(batch * width)
    tape.pointwise("activation", "silu", channels, 1)
    tape.free(batch * channels)
    tape.linear(batch, channels, channels)
    tape.free(batch * channels)
    if classes:
        tape.parameters += (classes + 1) * channels
        tape.call(op.embedding("class", batch, channels), output=batch * channels)
        tape.pointwise("elementwise", "add", channels, 1)
        tape.free(2 * batch * channels)
    tape.pointwise("activation", "silu", channels, 1)
    return _finish(tape, batch * channels)


@lru_cache(maxsize=4096)
def _stem(batch: int, channels: int, size: int, width: int, patch: int, positional: bool) -> PartCost:
    tape = Tape(batch)
    kernel = 3 if patch == 1 else patch
    stem_size = size // patch
    elements = batch * width * stem_size**2
    tape.parameters += (channels * kernel**2 + 1) * width
    tape.call(op.conv(batch, channels, width, size, kernel, patch, "stem"), output=elements, scratch=elements)
    if positional:
        tape.parameters += width * stem_size**2
        tape.pointwise("elementwise", "add", width, stem_size)
    return _finish(tape, elements)


@lru_cache(maxsize=65536)
def _junction_cost(
    batch: int, trunk: int, edges: tuple[tuple[int, str], ...], size: int, takes_concatenation: bool
) -> PartCost:
    tape = Tape(batch)
    positions = batch * size * size
    added = 0
    for channels, merge in edges:
        if merge == "add":
            if channels != trunk:
                tape.conv(channels, trunk, size, 1)
            tape.pointwise("elementwise", "add", trunk, size)
            if channels != trunk:
                tape.free(positions * trunk)
            tape.free(added)
            added = positions * trunk
    concatenated = sum(channels for channels, merge in edges if merge == "concat")
    if not concatenated:
        return _finish(tape, positions * trunk)
    whole = trunk + concatenated
    tape.call(op.concat(batch, trunk, whole, size), output=positions * whole)
    if takes_concatenation:
        return _finish(tape, positions * whole)
    tape.conv(whole, trunk, size, 1)
    return _finish(tape, positions * trunk)


@lru_cache(maxsize=65536)
def _operation_cost(
    batch: int,
    component: ArchitectureComponent,
    settings: tuple[tuple[str, Setting], ...],
    in_channels: int,
    out_channels: int,
    size: int,
    embedding: int,
) -> PartCost:
    tape = Tape(batch)
    out_size = size
    chosen = dict(settings)
    match component:
        case ArchitectureComponent.RESIDUAL:
            _residual(tape, chosen, in_channels, out_channels, size, embedding)
        case ArchitectureComponent.CONV:
            _conv(tape, chosen, in_channels, out_channels, size, embedding)
        case ArchitectureComponent.ATTENTION:
            _attention(tape, chosen, in_channels, size, embedding)
        case ArchitectureComponent.NORM | ArchitectureComponent.ACTIVATION:
            tape.pointwise(component.value, str(chosen["kind"]), in_channels, size)
        case ArchitectureComponent.DOWNSAMPLE:
            out_size = size // 2
            if chosen["method"] == "conv":
                tape.conv(in_channels, in_channels, size, 3, stride=2)
            else:
                tape.call(op.resample("average", batch, in_channels, size), output=batch * in_channels * out_size**2)
        case ArchitectureComponent.UPSAMPLE:
            out_size = 2 * size
            tape.call(op.resample("nearest", batch, in_channels, size), output=batch * in_channels * out_size**2)
            if chosen["method"] == "conv":
                tape.conv(in_channels, in_channels, out_size, 3)
    return _finish(tape, batch * out_channels * out_size**2)


def _modulation_rows(tape: Tape, kind: str, embedding: int, channels: int, gate_channels: int) -> int:
    """Record the projection of the embedding and return its output's elements."""
    if kind == "none":
        return 0
    rows = _SHIFTED_PARTS[kind] * channels + (gate_channels if kind == "gated" else 0)
    tape.linear(tape.batch, embedding, rows)
    return tape.batch * rows


def _shift(tape: Tape, kind: str, channels: int, size: int) -> None:
    """Record the modulation of a tensor that stays alive."""
    if kind == "add":
        tape.pointwise("elementwise", "shift", channels, size)
    else:
        tape.pointwise("elementwise", "scale_shift", channels, size)


def _residual(
    tape: Tape, chosen: Mapping[str, Setting], in_channels: int, out_channels: int, size: int, embedding: int
) -> None:
    kernel, norm, activation = int(chosen["kernel"]), str(chosen["norm"]), str(chosen["activation"])
    kind = str(chosen["modulation"])
    inner, outer = (tape.batch * size * size * channels for channels in (in_channels, out_channels))
    tape.pointwise("norm", norm, in_channels, size)
    tape.pointwise("activation", activation, in_channels, size)
    tape.free(inner)
    tape.conv(in_channels, out_channels, size, kernel)  # h
    tape.free(inner)
    if in_channels != out_channels:
        tape.conv(in_channels, out_channels, size, 1)
    rows = _modulation_rows(tape, kind, embedding, out_channels, out_channels)
    if kind == "add":
        _shift(tape, kind, out_channels, size)
        tape.pointwise("norm", norm, out_channels, size)
        tape.free(2 * outer)  # h before and after the shift
        tape.pointwise("activation", activation, out_channels, size)
    elif kind == "none":
        tape.pointwise("norm", norm, out_channels, size)
        tape.pointwise("activation", activation, out_channels, size)
        tape.free(outer)
    else:
        tape.pointwise("norm", norm, out_channels, size)
        _shift(tape, kind, out_channels, size)
        tape.free(2 * outer)
        tape.pointwise("activation", activation, out_channels, size)
    tape.conv(out_channels, out_channels, size, kernel)  # beside h and the activation
    tape.free(outer)
    if kind == "gated":
        tape.pointwise("elementwise", "gate", out_channels, size)
        tape.free(outer)
    tape.pointwise("elementwise", "add", out_channels, size)
    tape.free(rows)


def _convolution(tape: Tape, separable: bool, in_channels: int, out_channels: int, size: int, kernel: int) -> None:
    """Record a convolution or a separable pair of a tensor that stays alive."""
    if not separable:
        tape.conv(in_channels, out_channels, size, kernel)
        return
    elements = tape.batch * size * size * in_channels
    tape.parameters += in_channels * kernel**2
    tape.call(op.depthwise(tape.batch, in_channels, size, kernel), output=elements)
    tape.conv(in_channels, out_channels, size, 1)
    tape.free(elements)


def _conv(
    tape: Tape, chosen: Mapping[str, Setting], in_channels: int, out_channels: int, size: int, embedding: int
) -> None:
    expansion, kernel, separable = int(chosen["expansion"]), int(chosen["kernel"]), bool(chosen["separable"])
    norm, activation, kind = str(chosen["norm"]), str(chosen["activation"]), str(chosen["modulation"])
    inner, outer = (tape.batch * size * size * channels for channels in (in_channels, out_channels))
    tape.pointwise("norm", norm, in_channels, size)  # h, alive to the end
    rows = _modulation_rows(tape, kind, embedding, in_channels, out_channels)
    if kind != "none":
        _shift(tape, kind, in_channels, size)  # alive as an argument while the branch is computed
    if expansion == 1:
        tape.pointwise("activation", activation, in_channels, size)
        _convolution(tape, separable, in_channels, out_channels, size, kernel)
        tape.free(inner)
    else:
        expanded = expansion * out_channels
        _convolution(tape, separable, in_channels, expanded, size, kernel)
        tape.pointwise("activation", activation, expanded, size)
        tape.free(expansion * outer)
        tape.conv(expanded, out_channels, size, 1)
        tape.free(expansion * outer)
    if kind != "none":
        tape.free(inner)
    if kind == "gated":
        tape.pointwise("elementwise", "gate", out_channels, size)
        tape.free(outer)
    if chosen["shortcut"]:
        if in_channels != out_channels:
            tape.conv(in_channels, out_channels, size, 1)
        tape.pointwise("elementwise", "add", out_channels, size)
    tape.free(rows)


def _attention(tape: Tape, chosen: Mapping[str, Setting], channels: int, size: int, embedding: int) -> None:
    kind, variant, heads = str(chosen["modulation"]), str(chosen["kind"]), int(chosen["heads"])
    positions = tape.batch * size * size
    elements = positions * channels
    tape.pointwise("norm", str(chosen["norm"]), channels, size)  # h, alive to the end
    rows = _modulation_rows(tape, kind, embedding, channels, channels)
    if kind != "none":
        _shift(tape, kind, channels, size)
    tape.linear(positions, channels, 3 * channels)
    scratch = elements + tape.batch * channels * (channels // heads) if variant == "linear" else 0
    tape.call(op.attention(variant, tape.batch, channels, size, heads), output=elements, scratch=scratch)
    tape.linear(positions, channels, channels)
    tape.free(4 * elements)
    if kind != "none":
        tape.free(elements)
    if kind == "gated":
        tape.pointwise("elementwise", "gate", channels, size)
        tape.free(elements)
    tape.pointwise("elementwise", "add", channels, size)
    tape.free(rows)


@lru_cache(maxsize=4096)
def _output(batch: int, in_channels: int, size: int, channels: int, patch: int) -> PartCost:
    tape = Tape(batch)
    elements = batch * in_channels * size * size
    image = batch * channels * (size * patch) ** 2
    tape.pointwise("norm", "group", in_channels, size)
    tape.pointwise("activation", "silu", in_channels, size)
    tape.free(elements)
    tape.conv(in_channels, channels * patch * patch, size, 3)
    tape.free(elements)
    tape.call(op.resample("shuffle", batch, channels * patch * patch, size, patch), output=image)
    return _finish(tape, image)
