"""The cost of one layer: the modules of ``layers`` and ``attention``, written down as what they call and hold.

Every helper leaves alive on the tape what its module leaves alive: its output.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from evodiff.architecture.genome import ArchitectureComponent, LayerKind, Setting
from evodiff.architecture.tape import PartCost, Tape
from evodiff.hardware import operation as op

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHIFTED_PARTS = {"none": 0, "add": 1, "scale_shift": 2, "gated": 2}


@lru_cache(maxsize=65536)
def layer_cost(
    batch: int,
    kind: LayerKind,
    in_channels: int,
    out_channels: int,
    size: int,
    embedding: int,
    channels_last: bool,
) -> PartCost:
    """Return the cost of one layer of that ``kind``.

    ``size`` is the resolution of its input, whose memory format is ``channels_last``; ``embedding`` counts the channels
    of the embedding that it hears.
    """
    tape = Tape(batch, channels_last=channels_last)
    out_size = size
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
    return tape.finish(batch * out_channels * out_size**2)


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
