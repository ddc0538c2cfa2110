"""What a network costs before it is built: operations, parameters, multiply-adds, memory. Pure Python, no torch.

The modules of ``layers``, ``attention``, ``modulation`` and ``network`` are written down here a second time, as what
each forward pass calls and which tensors it holds meanwhile; tests hold both against each other. Costs of single layers
are cached, for a child shares most of its layers with its parents.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from evodiff.architecture.layer_cost import layer_cost
from evodiff.architecture.tape import PartCost, Tape
from evodiff.hardware import operation as op
from evodiff.hardware.latency import predict_ms
from evodiff.hardware.operation import FLOAT_BYTES, Operation

if TYPE_CHECKING:
    from evodiff.architecture.genome import ImageShape
    from evodiff.architecture.graph import ResolvedGenome, ResolvedLayer
    from evodiff.hardware.calibration import Calibration

MEGABYTE: Final = 1e6

# As in ``network``, which this module cannot import without torch: from this resolution on, a network on a CPU keeps
# its features in the channels-last memory format.
CHANNELS_LAST_FROM: Final = 32


def operations(resolved: ResolvedGenome, batch: int) -> list[Operation]:
    """Return the operations of one forward pass of ``batch`` images, in the order of their execution."""
    return [item for part in _parts(resolved, batch) for item in part.operations]


def layer_operations(resolved: ResolvedGenome, batch: int) -> dict[str, list[Operation]]:
    """Return the operations of each layer, by its key, with those that merge the connections arriving there."""
    parts = iter(_parts(resolved, batch)[2:-1])  # without embedding, stem and output
    return {
        layer.gene.key: [item for _ in range(1 + bool(layer.edges)) for item in next(parts).operations]
        for layer in resolved.layers
    }


def parameter_count(resolved: ResolvedGenome) -> int:
    """Return the number of parameters of the network, exactly."""
    return _totals(resolved)[0]


def flops(resolved: ResolvedGenome, batch: int = 1) -> float:
    """Return the multiply-adds, counted as two, of a forward pass: convolutions, linear layers and attention."""
    return batch * _totals(resolved)[1]


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
    return batch * _peak_of_one(resolved)


@lru_cache(maxsize=8192)
def _totals(resolved: ResolvedGenome) -> tuple[int, float]:
    """Return the parameters, and the multiply-adds of one image."""
    parts = _parts(resolved, 1)
    return sum([part.parameters for part in parts]), sum([part.flops for part in parts])


@lru_cache(maxsize=8192)
def _peak_of_one(resolved: ResolvedGenome) -> int:
    """Return the largest number of activations alive at once for one image; a batch takes as many times more."""
    shape = resolved.shape
    parts = iter(_parts(resolved, 1))
    embedding = next(parts)
    always = shape.channels * shape.size**2
    peak = always + embedding.peak_elements
    always += embedding.kept
    stem = next(parts)
    peak = max(peak, always + stem.peak_elements)
    last_use = {edge.source: layer.position for layer in resolved.layers for edge in layer.edges}
    kept = [stem.kept]  # elements of the outputs of the stem and of each layer, while they are alive
    alive = stem.kept
    for layer in resolved.layers:
        merged = 0
        if layer.edges:
            junction = next(parts)
            peak = max(peak, always + alive + junction.peak_elements)
            alive -= sum(kept[source + 1] for source in _ended(layer, last_use))
            merged = junction.kept
        operation = next(parts)
        peak = max(peak, always + alive + merged + operation.peak_elements)
        if last_use.get(layer.position - 1, -2) < layer.position:
            alive -= kept[layer.position]
        kept.append(operation.kept)
        alive += operation.kept
    return max(peak, always + alive + next(parts).peak_elements)


def _ended(layer: ResolvedLayer, last_use: dict[int, int]) -> set[int]:
    """Return the positions of the sources of a layer's connections that nothing uses behind it."""
    return {edge.source for edge in layer.edges if last_use[edge.source] == layer.position}


@lru_cache(maxsize=8192)
def _parts(resolved: ResolvedGenome, batch: int) -> tuple[PartCost, ...]:
    """Return embedding, stem, for each layer its junction (where connections arrive) and its operation, and output."""
    shape, parameters = resolved.shape, resolved.genome.parameters
    embedding = resolved.time_embedding_channels
    channels_last = resolved.stem_size >= CHANNELS_LAST_FROM
    parts = [
        _embedding(batch, parameters.width, embedding, shape.classes),
        _stem(batch, shape, parameters.width, parameters.patch, parameters.positional, channels_last),
    ]
    formats = [channels_last]  # of the outputs of the stem and of each layer
    for layer in resolved.layers:
        kind = layer.gene.kind
        if layer.edges:
            edges = tuple([(edge.channels, edge.merge, formats[edge.source + 1]) for edge in layer.edges])
            widening = kind.channels is not None
            parts.append(_junction(batch, layer.trunk_channels, edges, layer.in_size, widening, channels_last))
            channels_last = parts[-1].channels_last
        shapes = (layer.in_channels, layer.out_channels, layer.in_size)
        operation = layer_cost(batch, kind, *shapes, embedding, channels_last)
        channels_last = operation.channels_last
        formats.append(channels_last)
        parts.append(operation)
    output = (resolved.out_channels, resolved.stem_size, shape.channels, parameters.patch)
    parts.append(_output(batch, *output, channels_last))
    return tuple(parts)


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
    return tape.finish(batch * channels)


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
    return tape.finish(elements)


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
        return tape.finish(positions * trunk)
    whole = trunk + sum(channels for channels, _ in joined)
    tape.channels_last = channels_last and all(format_of_source for _, format_of_source in joined)
    concat = op.concat(batch, trunk, whole, size, channels_last=tape.channels_last)
    tape.call(concat, output=positions * whole)
    if takes_concatenation:
        return tape.finish(positions * whole)
    tape.conv(whole, trunk, size, 1)
    return tape.finish(positions * trunk)


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
    return tape.finish(image)
