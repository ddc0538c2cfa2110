"""What a network costs before it is built: operations, parameters, multiply-adds, memory. Pure Python, no torch.

The modules of ``layers``, ``attention``, ``modulation`` and ``network`` are written down here a second time, as what
each forward pass calls and which tensors it holds meanwhile; tests hold both against each other. Costs of single layers
are cached, for a child shares most of its layers with its parents.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from evodiff.architecture import layer_cost
from evodiff.architecture.frame_cost import write_embedding, write_junction, write_output, write_stem
from evodiff.architecture.layer_cost import counted_as, layer_counts
from evodiff.architecture.tape import Counts, OperationTape, Tape
from evodiff.hardware.latency import predict_ms
from evodiff.hardware.operation import FLOAT_BYTES, Operation

if TYPE_CHECKING:
    from evodiff.architecture.graph import ResolvedGenome
    from evodiff.hardware.calibration import Calibration

MEGABYTE: Final = 1e6

# As in ``network``, which this module cannot import without torch: from this resolution on, a network on a CPU keeps
# its features in the channels-last memory format.
CHANNELS_LAST_FROM: Final = 32


def operations(resolved: ResolvedGenome, batch: int) -> list[Operation]:
    """Return the operations of one forward pass of ``batch`` images, in the order of their execution."""
    return [item for part in _operations(resolved, batch) for item in part]


def layer_operations(resolved: ResolvedGenome, batch: int) -> dict[str, list[Operation]]:
    """Return the operations of each layer, by its key, with those that merge the connections arriving there."""
    parts = iter(_operations(resolved, batch)[2:-1])  # without embedding, stem and output
    return {
        layer.gene.key: [item for _ in range(1 + bool(layer.edges)) for item in next(parts)]
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
    layers, junctions = _layer_counts(resolved), _junction_counts(resolved)
    parts = [
        _embedding_counts(resolved),
        _stem_counts(resolved),
        *layers,
        *junctions.values(),
        _output_counts(resolved),
    ]
    embedding = resolved.time_embedding_channels
    heard = embedding * sum([layer.heard for layer in layers])
    parameters = sum([part.parameters for part in parts]) + heard
    return parameters, sum([part.flops for part in parts]) + 2 * heard


@lru_cache(maxsize=8192)
def _peak_of_one(resolved: ResolvedGenome) -> int:
    """Return the largest number of activations alive at once for one image; a batch takes as many times more."""
    shape = resolved.shape
    embedding, stem, junctions = _embedding_counts(resolved), _stem_counts(resolved), _junction_counts(resolved)
    layers = _layer_counts(resolved)
    always = shape.channels * shape.size**2
    peak = always + embedding.peak_elements
    always += embedding.kept
    peak = max(peak, always + stem.peak_elements)
    last_use = {edge.source: target for target in sorted(resolved.edges) for edge in resolved.edges[target]}
    kept = [stem.kept, *[layer.kept for layer in layers]]  # elements of the outputs of the stem and of each layer
    alive = stem.kept
    for position, layer in enumerate(layers):
        merged = 0
        if position in junctions:
            junction = junctions[position]
            peak = max(peak, always + alive + junction.peak_elements)
            ended = [edge.source for edge in resolved.edges[position] if last_use[edge.source] == position]
            alive -= sum([kept[source + 1] for source in ended])
            merged = junction.kept
        held = always + alive + merged + layer.peak_elements
        if held > peak:
            peak = held
        if last_use.get(position - 1, -2) < position:
            alive -= kept[position]
        alive += layer.kept
    return max(peak, always + alive + _output_counts(resolved, _ends_channels_last(resolved)).peak_elements)


def _ends_channels_last(resolved: ResolvedGenome) -> bool:
    """Return the memory format that reaches the output stage: layers never leave channels-last, concatenations may."""
    current = _starts_channels_last(resolved)
    formats = [current]  # of the outputs of the stem and of each layer
    for position, layer in enumerate(_layer_counts(resolved)):
        if position in resolved.edges:
            joined = [edge for edge in resolved.edges[position] if edge.merge == "concat"]
            current = current and all(formats[edge.source + 1] for edge in joined)
        current = current or layer.channels_last
        formats.append(current)
    return current


def _starts_channels_last(resolved: ResolvedGenome) -> bool:
    return resolved.stem_size >= CHANNELS_LAST_FROM


@lru_cache(maxsize=8192)
def _layer_counts(resolved: ResolvedGenome) -> list[Counts]:
    channels, kinds = resolved.channels, map(counted_as, resolved.kinds)
    return list(map(layer_counts, kinds, resolved.in_channels, channels[1:], resolved.sizes))


@lru_cache(maxsize=8192)
def _junction_counts(resolved: ResolvedGenome) -> dict[int, Counts]:
    """Return what merging takes, by the position of the layer behind."""
    return {
        target: _junction(
            resolved.channels[target],
            tuple([(edge.channels, edge.merge) for edge in edges]),
            resolved.sizes[target],
            resolved.kinds[target].channels is not None,
        )
        for target, edges in resolved.edges.items()
    }


def _embedding_counts(resolved: ResolvedGenome) -> Counts:
    return _embedding(resolved.width, resolved.time_embedding_channels, resolved.shape.classes)


def _stem_counts(resolved: ResolvedGenome) -> Counts:
    parameters = resolved.genome.parameters
    stem = (parameters.width, parameters.patch, parameters.positional, _starts_channels_last(resolved))
    return _stem(resolved.shape.channels, resolved.shape.size, *stem)


def _output_counts(resolved: ResolvedGenome, channels_last: bool = False) -> Counts:
    patch = resolved.genome.parameters.patch
    return _output(resolved.out_channels, resolved.stem_size, resolved.shape.channels, patch, channels_last)


@lru_cache(maxsize=4096)
def _embedding(width: int, channels: int, classes: int) -> Counts:
    tape = Tape()
    write_embedding(tape, width, channels, classes)
    return tape.counts(channels)


@lru_cache(maxsize=4096)
def _stem(channels: int, size: int, width: int, patch: int, positional: bool, channels_last: bool) -> Counts:
    tape = Tape(channels_last=channels_last)
    write_stem(tape, channels, size, width, patch, positional)
    return tape.counts(width * (size // patch) ** 2)


@lru_cache(maxsize=65536)
def _junction(trunk: int, edges: tuple[tuple[int, str], ...], size: int, takes_concatenation: bool) -> Counts:
    """Return what merging ``edges`` takes, channels and merge of each; memory formats make no difference."""
    tape = Tape()
    write_junction(tape, trunk, [(*edge, False) for edge in edges], size, takes_concatenation)
    concatenated = sum(channels for channels, merge in edges if merge == "concat") if takes_concatenation else 0
    return tape.counts((trunk + concatenated) * size * size)


@lru_cache(maxsize=4096)
def _output(in_channels: int, size: int, channels: int, patch: int, channels_last: bool) -> Counts:
    tape = Tape(channels_last=channels_last)
    write_output(tape, in_channels, size, channels, patch)
    return tape.counts(channels * (size * patch) ** 2)


@lru_cache(maxsize=8192)
def _operations(resolved: ResolvedGenome, batch: int) -> tuple[tuple[Operation, ...], ...]:
    """Return what embedding, stem, junctions (where connections arrive), layers and output call, each by itself."""
    shape, parameters, embedding = resolved.shape, resolved.genome.parameters, resolved.time_embedding_channels
    channels_last = _starts_channels_last(resolved)
    tape = OperationTape(batch)  # of vectors, which know no memory format
    write_embedding(tape, parameters.width, embedding, shape.classes)
    stem = OperationTape(batch, channels_last=channels_last)
    write_stem(stem, shape.channels, shape.size, parameters.width, parameters.patch, parameters.positional)
    parts = [tuple(tape.operations), tuple(stem.operations)]
    formats = [channels_last]  # of the outputs of the stem and of each layer
    for layer in resolved.layers:
        kind = layer.gene.kind
        if layer.edges:
            edges = tuple([(edge.channels, edge.merge, formats[edge.source + 1]) for edge in layer.edges])
            widening = kind.channels is not None
            shapes = (batch, layer.trunk_channels, edges, layer.in_size, widening, channels_last)
            called, channels_last = _junction_operations(*shapes)
            parts.append(called)
        shape_of_layer = (layer.in_channels, layer.out_channels, layer.in_size, embedding, channels_last)
        called, channels_last = layer_cost.layer_operations(batch, kind, *shape_of_layer)
        formats.append(channels_last)
        parts.append(called)
    output = OperationTape(batch, channels_last=channels_last)
    write_output(output, resolved.out_channels, resolved.stem_size, shape.channels, parameters.patch)
    return (*parts, tuple(output.operations))


@lru_cache(maxsize=65536)
def _junction_operations(
    batch: int,
    trunk: int,
    edges: tuple[tuple[int, str, bool], ...],
    size: int,
    takes_concatenation: bool,
    channels_last: bool,
) -> tuple[tuple[Operation, ...], bool]:
    """Return the operations that merge ``edges``, and the memory format of what comes out."""
    tape = OperationTape(batch, channels_last=channels_last)
    write_junction(tape, trunk, edges, size, takes_concatenation)
    return tuple(tape.operations), tape.channels_last
