"""The cost of what is round the layers: ``network`` and the junctions of ``layers``, as what they call and hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.architecture.tape import Tape


def write_embedding(tape: Tape, width: int, channels: int, classes: int) -> None:
    """Write down the embedding of the time step, and of the class where there are any, of ``channels`` channels."""
    tape.embed("sinusoid", width)
    tape.linear(width, channels)
    tape.free(tape.batch * width)
    tape.pointwise("activation", "silu", channels, 1)
    tape.free(tape.batch * channels)
    tape.linear(channels, channels)
    tape.free(tape.batch * channels)
    if classes:
        tape.parameters += (classes + 1) * channels
        tape.embed("class", channels)
        tape.pointwise("elementwise", "add", channels, 1)
        tape.free(2 * tape.batch * channels)
    tape.pointwise("activation", "silu", channels, 1)


def write_stem(tape: Tape, channels: int, size: int, width: int, patch: int, positional: bool) -> None:
    """Write down the convolution of an image of ``size`` pixels to ``width`` channels, and the learned position."""
    tape.stem(channels, width, size, 3 if patch == 1 else patch, patch)
    if positional:
        stem_size = size // patch
        tape.parameters += width * stem_size**2
        tape.pointwise("elementwise", "add", width, stem_size)


def write_junction(
    tape: Tape, trunk: int, edges: Sequence[tuple[int, str, bool]], size: int, takes_concatenation: bool
) -> None:
    """Write down the merging of ``edges`` into the trunk: channels, merge and memory format of each."""
    channels_last = tape.channels_last
    elements = tape.batch * size * size * trunk
    added = 0
    for channels, merge, format_of_source in edges:
        if merge == "add":
            if channels != trunk:
                tape.channels_last = format_of_source
                tape.conv(channels, trunk, size, 1)
                tape.channels_last = channels_last
            tape.add(trunk, size, format_of_source)
            if channels != trunk:
                tape.free(elements)
            tape.free(added)
            added = elements
    joined = [(channels, format_of_source) for channels, merge, format_of_source in edges if merge == "concat"]
    if joined:
        whole = trunk + sum(channels for channels, _ in joined)
        tape.channels_last = channels_last and all(format_of_source for _, format_of_source in joined)
        tape.concat(trunk, whole, size)
        if not takes_concatenation:
            tape.conv(whole, trunk, size, 1)


def write_output(tape: Tape, in_channels: int, size: int, channels: int, patch: int) -> None:
    """Write down the output stage, from ``in_channels`` features to an image of ``channels`` channels."""
    elements = tape.batch * in_channels * size * size
    tape.pointwise("norm", "group", in_channels, size)
    tape.pointwise("activation", "silu", in_channels, size)
    tape.free(elements)
    tape.conv(in_channels, channels * patch * patch, size, 3)
    tape.free(elements)
    if patch > 1 or tape.channels_last:
        tape.shuffle(channels, size, patch)
        tape.free(tape.batch * channels * (size * patch) ** 2)
