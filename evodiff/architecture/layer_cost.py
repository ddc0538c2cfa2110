"""The cost of one layer: the modules of ``layers`` and ``attention``, written down as what they call and hold.

Every helper leaves alive on the tape what its module leaves alive: its output.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from evodiff.architecture.genome import GENES, ArchitectureComponent, LayerGene, LayerKind, Setting
from evodiff.architecture.tape import Counts, OperationTape, Tape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.hardware.operation import Operation

_SHIFTED_PARTS = {"none": 0, "add": 1, "scale_shift": 2, "gated": 2}


def write_layer(tape: Tape, kind: LayerKind, in_channels: int, out_channels: int, size: int, embedding: int) -> None:
    """Write down one layer of that ``kind``.

    ``size`` is the resolution of its input; ``embedding`` counts the channels of the embedding that it hears.
    """
    chosen = kind.settings
    match kind.component:
        case ArchitectureComponent.RESIDUAL:
            _residual(tape, chosen, in_channels, out_channels, size, embedding)
        case ArchitectureComponent.CONV:
            _conv(tape, chosen, in_channels, out_channels, size, embedding)
        case ArchitectureComponent.ATTENTION:
            _attention(tape, chosen, in_channels, size, embedding)
        case ArchitectureComponent.NORM | ArchitectureComponent.ACTIVATION:
            tape.pointwise(kind.component.value, str(chosen["kind"]), in_channels, size)
        case ArchitectureComponent.DOWNSAMPLE:
            if chosen["method"] == "conv":
                tape.conv(in_channels, in_channels, size, 3, stride=2)
            else:
                tape.resample("average", in_channels, size)
        case ArchitectureComponent.UPSAMPLE:
            tape.resample("nearest", in_channels, size)
            if chosen["method"] == "conv":
                tape.conv(in_channels, in_channels, 2 * size, 3)


@lru_cache(maxsize=65536)
def layer_counts(kind: LayerKind, in_channels: int, out_channels: int, size: int) -> Counts:
    """Return what a layer takes for one image if its embedding had no channels.

    Each channel of the embedding adds ``heard`` parameters, and twice as many operations. The memory format is told for
    a row-major input; one that is channels-last stays so.
    """
    tape = Tape()
    write_layer(tape, kind, in_channels, out_channels, size, 0)
    halved = kind.halvings
    out_size = size // 2 if halved > 0 else size << -halved
    return tape.counts(out_channels * out_size**2)


@lru_cache(maxsize=65536)
def counted_as(kind: LayerKind) -> LayerKind:
    """Return the kind that takes as much, with the default activation: which one it is makes no difference."""
    name = "kind" if kind.component is ArchitectureComponent.ACTIVATION else "activation"
    if name not in kind.settings:
        return kind
    default = GENES[kind.component][name][0]
    return LayerGene("", kind.component, {**kind.settings, name: default}).kind


@lru_cache(maxsize=65536)
def layer_operations(
    batch: int, kind: LayerKind, in_channels: int, out_channels: int, size: int, embedding: int, channels_last: bool
) -> tuple[tuple[Operation, ...], bool]:
    """Return the operations of a layer, and the memory format of its output; ``channels_last`` is that of its input."""
    tape = OperationTape(batch, channels_last=channels_last)
    write_layer(tape, kind, in_channels, out_channels, size, embedding)
    return tuple(tape.operations), tape.channels_last


def _modulation_rows(tape: Tape, kind: str, embedding: int, channels: int, gate_channels: int) -> int:
    """Write down the projection of the embedding and return its output's elements."""
    if kind == "none":
        return 0
    rows = _SHIFTED_PARTS[kind] * channels + (gate_channels if kind == "gated" else 0)
    tape.linear(embedding, rows)
    return tape.batch * rows


def _shift(tape: Tape, kind: str, channels: int, size: int) -> None:
    """Write down the modulation of a tensor that stays alive."""
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
    """Write down a convolution or a separable pair of a tensor that stays alive."""
    if not separable:
        tape.conv(in_channels, out_channels, size, kernel)
        return
    elements = tape.batch * size * size * in_channels
    tape.depthwise(in_channels, size, kernel)
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
    tape.attend(variant, channels, size, heads)
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
