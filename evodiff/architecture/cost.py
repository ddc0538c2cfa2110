"""What a network costs before it is built: operations, parameters, multiply-adds, memory. Pure Python, no torch.

The modules of ``layers``, ``attention``, ``modulation`` and ``network`` are written down here a second time, as what
each forward pass calls and which tensors it holds meanwhile; tests hold both against each other. Costs of single layers
are cached, for a child shares most of its layers with its parents.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from evodiff.architecture.genome import ArchitectureComponent, ImageShape, Setting
from evodiff.architecture.graph import WIDENING, ResolvedGenome, ResolvedLayer
from evodiff.architecture.tape import Tape
from evodiff.hardware import operation as op
from evodiff.hardware.latency import predict_ms
from evodiff.hardware.operation import FLOAT_BYTES, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.hardware.calibration import Calibration

MEGABYTE: Final = 1e6

# As in ``network``, which this module cannot import without torch: from this resolution on, a network on a CPU keeps
# its features in the channels-last memory format.
CHANNELS_LAST_FROM: Final = 32

_SHIFTED_PARTS = {"none": 0, "add": 1, "scale_shift": 2, "gated": 2}


@dataclass(frozen=True)
class PartCost:
    """The cost of a part of a network.

    ``peak_elements`` is the largest number of elements that it holds at once beside its inputs; ``kept`` of them, its
    output, stay. ``channels_last`` is the output's memory format on a CPU.
    """

    operations: tuple[Operation, ...]
    parameters: int
    flops: float
    peak_elements: int
    kept: int
    channels_last: bool


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


def predict_training_seconds(resolved: ResolvedGenome, steps: int, batch: int, calibration: Calibration) -> float:
    """Predict how long ``steps`` training steps of ``batch`` images take, backward at twice the cost of forward."""
    return 3 * predict_ms(operations(resolved, batch), calibration) * steps / 1000


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
    channels_last = resolved.stem_size >= CHANNELS_LAST_FROM
    parts = [
        _embedding(batch, parameters.width, embedding, shape.classes),
        _stem(batch, shape, parameters.width, parameters.patch, parameters.positional, channels_last),
    ]
    formats = {-1: channels_last}  # position -> memory format of its output
    for layer in resolved.layers:
        channels_last = formats[layer.position - 1]
        if layer.edges:
            edges = tuple((edge.channels, edge.merge, formats[edge.source]) for edge in layer.edges)
            widening = layer.gene.component in WIDENING
            parts.append(_junction(batch, layer.trunk_channels, edges, layer.in_size, widening, channels_last))
            channels_last = parts[-1].channels_last
        parts.append(_operation(batch, layer, embedding, channels_last))
        formats[layer.position] = parts[-1].channels_last
    parts.append(
        _output(
            batch,
            resolved.out_channels,
            resolved.stem_size,
            shape.channels,
            parameters.patch,
            formats[len(resolved.layers) - 1],
        )
    )
    return parts


def _operation(batch: int, layer: ResolvedLayer, embedding: int, channels_last: bool) -> PartCost:
    gene = layer.gene
    settings = tuple(gene.settings.items())
    shapes = (layer.in_channels, layer.out_channels, layer.in_size, embedding)
    return _operation_cost(batch, gene.component, settings, *shapes, channels_last)


def _finish(tape: Tape, kept: int) -> PartCost:
    total = sum(item.flops for item in tape.operations)
    return PartCost(tuple(tape.operations), tape.parameters, total, tape.peak, kept, tape.channels_last)


@lru_cache(maxsize=4096)
def _embedding(batch: int, width: int, channels: int, classes: int) -> PartCost:
    tape = Tape(batch)
    tape.call(op.embedding("sinusoid", batch, width), output=batch * width)
    tape.linear(width, channels)
    tape.free(batch * width)
    tape.pointwise("activation", "silu", channels, 1)
    tape.free(batch * channels)
    tape.linear(channels, channels)
    tape.free(batch * channels)
    if classes:
        tape.parameters += (classes + 1) * channels
        tape.call(op.embedding("class", batch, channels), output=batch * channels)
        tape.pointwise("elementwise", "add", channels, 1)
        tape.free(2 * batch * channels)
    tape.pointwise("activation", "silu", channels, 1)
    return _finish(tape, batch * channels)


@lru_cache(maxsize=4096)
def _stem(batch: int, shape: ImageShape, width: int, patch: int, positional: bool, channels_last: bool) -> PartCost:
    tape = Tape(batch, channels_last=channels_last)
    kernel = 3 if patch == 1 else patch
    stem_size = shape.size // patch
    elements = batch * width * stem_size**2
    tape.parameters += (shape.channels * kernel**2 + 1) * width
    tape.call(
        op.conv(batch, shape.channels, width, shape.size, kernel, patch, channels_last=channels_last, kind="stem"),
        output=elements,
        scratch=elements if channels_last else 0,  # before it is brought into that format
    )
    if positional:
        tape.parameters += width * stem_size**2
        tape.pointwise("elementwise", "add", width, stem_size)
    return _finish(tape, elements)


@lru_cache(maxsize=65536)
def _junction(
    batch: int,
    trunk: int,
    edges: tuple[tuple[int, str, bool], ...],
    size: int,
    takes_concatenation: bool,
    channels_last: bool,
) -> PartCost:
    """Return the cost of merging ``edges``: channels, merge and memory format of each."""
    tape = Tape(batch, channels_last=channels_last)
    positions = batch * size * size
    added = 0
    for channels, merge, format_of_source in edges:
        if merge == "add":
            if channels != trunk:
                tape.channels_last = format_of_source
                tape.conv(channels, trunk, size, 1)
                tape.channels_last = channels_last
            tape.add(trunk, size, format_of_source)
            if channels != trunk:
                tape.free(positions * trunk)
            tape.free(added)
            added = positions * trunk
    joined = [(channels, format_of_source) for channels, merge, format_of_source in edges if merge == "concat"]
    if not joined:
        return _finish(tape, positions * trunk)
    whole = trunk + sum(channels for channels, _ in joined)
    tape.channels_last = channels_last and all(format_of_source for _, format_of_source in joined)
    concat = op.concat(batch, trunk, whole, size, channels_last=tape.channels_last)
    tape.call(concat, output=positions * whole)
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
    channels_last: bool,
) -> PartCost:
    tape = Tape(batch, channels_last=channels_last)
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
                average = op.resample("average", batch, in_channels, size, channels_last=channels_last)
                tape.call(average, output=batch * in_channels * out_size**2)
        case ArchitectureComponent.UPSAMPLE:
            out_size = 2 * size
            nearest = op.resample("nearest", batch, in_channels, size, channels_last=channels_last)
            tape.call(nearest, output=batch * in_channels * out_size**2)
            if chosen["method"] == "conv":
                tape.conv(in_channels, in_channels, out_size, 3)
    return _finish(tape, batch * out_channels * out_size**2)


def _modulation_rows(tape: Tape, kind: str, embedding: int, channels: int, gate_channels: int) -> int:
    """Record the projection of the embedding and return its output's elements."""
    if kind == "none":
        return 0
    rows = _SHIFTED_PARTS[kind] * channels + (gate_channels if kind == "gated" else 0)
    tape.linear(embedding, rows)
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
    kind, format_of_input = str(chosen["modulation"]), tape.channels_last
    inner, outer = (tape.batch * size * size * channels for channels in (in_channels, out_channels))
    tape.pointwise("norm", norm, in_channels, size)
    tape.pointwise("activation", activation, in_channels, size)
    tape.free(inner)
    tape.conv(in_channels, out_channels, size, kernel)  # h
    tape.free(inner)
    if in_channels != out_channels:
        format_of_branch, tape.channels_last = tape.channels_last, format_of_input
        tape.conv(in_channels, out_channels, size, 1)
        tape.channels_last = format_of_branch
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
    format_of_branch, tape.channels_last = tape.channels_last, format_of_input
    tape.add(out_channels, size, format_of_branch)
    tape.free(rows)


def _convolution(tape: Tape, separable: bool, in_channels: int, out_channels: int, size: int, kernel: int) -> None:
    """Record a convolution or a separable pair of a tensor that stays alive."""
    if not separable:
        tape.conv(in_channels, out_channels, size, kernel)
        return
    elements = tape.batch * size * size * in_channels
    tape.parameters += in_channels * kernel**2
    tape.call(op.depthwise(tape.batch, in_channels, size, kernel, channels_last=tape.channels_last), output=elements)
    tape.conv(in_channels, out_channels, size, 1)
    tape.free(elements)


def _conv(
    tape: Tape, chosen: Mapping[str, Setting], in_channels: int, out_channels: int, size: int, embedding: int
) -> None:
    expansion, kernel, separable = int(chosen["expansion"]), int(chosen["kernel"]), bool(chosen["separable"])
    norm, activation, kind = str(chosen["norm"]), str(chosen["activation"]), str(chosen["modulation"])
    format_of_input = tape.channels_last
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
            format_of_branch, tape.channels_last = tape.channels_last, format_of_input
            tape.conv(in_channels, out_channels, size, 1)
            tape.channels_last = format_of_branch
        tape.add(out_channels, size, format_of_input)
    tape.free(rows)


def _attention(tape: Tape, chosen: Mapping[str, Setting], channels: int, size: int, embedding: int) -> None:
    kind, variant, heads = str(chosen["modulation"]), str(chosen["kind"]), int(chosen["heads"])
    elements = tape.batch * size * size * channels
    format_of_input = tape.channels_last
    tape.pointwise("norm", str(chosen["norm"]), channels, size)  # h, alive to the end
    rows = _modulation_rows(tape, kind, embedding, channels, channels)
    if kind != "none":
        _shift(tape, kind, channels, size)
    tape.project(channels, 3 * channels, size, channels_last=tape.channels_last)
    scratch = elements + tape.batch * channels * (channels // heads) if variant == "linear" else 0
    tape.call(op.attention(variant, tape.batch, channels, size, heads), output=elements, scratch=scratch)
    # Linear attention returns the heads apart; with one channel a head, joining them is a strided view.
    tape.project(channels, channels, size, channels_last=variant == "full" or channels > heads)
    tape.free(4 * elements)
    tape.channels_last = True
    if kind != "none":
        tape.free(elements)
    if kind == "gated":
        tape.pointwise("elementwise", "gate", channels, size)
        tape.free(elements)
    tape.channels_last = format_of_input
    tape.add(channels, size, True)
    tape.free(rows)


@lru_cache(maxsize=4096)
def _output(batch: int, in_channels: int, size: int, channels: int, patch: int, channels_last: bool) -> PartCost:
    tape = Tape(batch, channels_last=channels_last)
    elements = batch * in_channels * size * size
    image = batch * channels * (size * patch) ** 2
    tape.pointwise("norm", "group", in_channels, size)
    tape.pointwise("activation", "silu", in_channels, size)
    tape.free(elements)
    tape.conv(in_channels, channels * patch * patch, size, 3)
    tape.free(elements)
    if patch > 1 or channels_last:
        shuffle = op.resample("shuffle", batch, channels * patch**2, size, patch, channels_last=channels_last)
        # The shuffle keeps the memory format, and the image is then made row-major.
        tape.call(shuffle, output=image, scratch=image if patch > 1 and channels_last else 0)
        tape.free(image)
    return _finish(tape, image)
