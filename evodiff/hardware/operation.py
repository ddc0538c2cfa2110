"""An operation of a network: one call into the tensor library, with its shapes and the work it does.

This is the language between a network's cost model, which lists operations, and a target's calibration, which says how
long each takes. A kind here means the very calls named beside it, so that what is timed is what the network runs:

==============  ======================  =======================================================================
kind            variants                what it is
==============  ======================  =======================================================================
``conv``                                dense convolution with bias, zero padding, ``kernel`` and ``stride``
``depthwise``                           one filter a channel, of ``kernel`` > 1, no bias
``linear``                              of rows, or of the positions of a feature map; with bias
``attention``   full, linear            the core: what is between the projections to q, k, v and the one back
``norm``        group, layer, rms       over (batch, channels, height, width)
``activation``  silu, gelu, relu, mish  the same
``elementwise``  add, add_mixed,        two tensors added, of one memory format or of two; a (batch, channels, 1, 1)
                shift, scale_shift,     tensor added; scale and shift by two such; multiplied by one such, or by
                gate                    one factor a channel
``concat``                              along the channels, to ``out_channels``
``resample``    average, nearest,       2x2 mean; doubling; pixel shuffle by ``stride`` (1: a copy to row-major)
                shuffle
``stem``                                convolution of a row-major image, brought into the memory format of features
``embedding``   sinusoid, class         time step to sinusoids; row look-up
==============  ======================  =======================================================================
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

FLOAT_BYTES: Final = 4

KINDS: Final[dict[str, tuple[str, ...]]] = {
    "conv": ("",),
    "depthwise": ("",),
    "linear": ("",),
    "attention": ("full", "linear"),
    "norm": ("group", "layer", "rms"),
    "activation": ("silu", "gelu", "relu", "mish"),
    "elementwise": ("add", "add_mixed", "shift", "scale_shift", "gate"),
    "concat": ("",),
    "resample": ("average", "nearest", "shuffle"),
    "stem": ("",),
    "embedding": ("sinusoid", "class"),
}


class Operation(NamedTuple):
    """One operation with its shapes, its arithmetic and the memory it must move.

    ``channels_last`` is the memory format of the input, or of the stem's output; row-major if not.

    ``size`` is the height and width of the input (1 for vectors). ``flops`` counts the multiply-adds of convolutions,
    linear layers and attention as two each, and nothing else, as is the custom. ``read_bytes`` and ``write_bytes`` are
    what must move at least: inputs with parameters, and the output, in float32.
    """

    kind: str
    batch: int
    in_channels: int
    out_channels: int
    size: int = 1
    kernel: int = 1
    stride: int = 1
    heads: int = 1
    variant: str = ""
    channels_last: bool = False
    flops: float = 0.0
    read_bytes: float = 0.0
    write_bytes: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """Kind and variant: operations with equal keys share a table."""
        return self.kind, self.variant


@lru_cache(maxsize=65536)
def conv(
    batch: int,
    in_channels: int,
    out_channels: int,
    size: int,
    kernel: int,
    stride: int = 1,
    *,
    channels_last: bool = False,
    kind: str = "conv",
) -> Operation:
    """Return a dense convolution; the output has ``size / stride`` positions a side. ``kind`` may be "stem"."""
    positions = batch * (size // stride) ** 2
    weights = in_channels * out_channels * kernel * kernel
    return Operation(
        kind,
        batch,
        in_channels,
        out_channels,
        size,
        kernel,
        stride,
        channels_last=channels_last,
        flops=2.0 * positions * weights,
        read_bytes=FLOAT_BYTES * (batch * size * size * in_channels + weights + out_channels),
        write_bytes=FLOAT_BYTES * positions * out_channels,
    )


@lru_cache(maxsize=65536)
def depthwise(batch: int, channels: int, size: int, kernel: int, *, channels_last: bool = False) -> Operation:
    """Return a depthwise convolution of stride 1."""
    elements = batch * size * size * channels
    return Operation(
        "depthwise",
        batch,
        channels,
        channels,
        size,
        kernel,
        channels_last=channels_last,
        flops=2.0 * elements * kernel * kernel,
        read_bytes=FLOAT_BYTES * (elements + channels * kernel * kernel),
        write_bytes=FLOAT_BYTES * elements,
    )


@lru_cache(maxsize=65536)
def linear(batch: int, in_channels: int, out_channels: int, size: int = 1, *, channels_last: bool = False) -> Operation:
    """Return a linear layer applied to rows, or to every position of feature maps of ``size`` > 1."""
    rows = batch * size * size
    return Operation(
        "linear",
        batch,
        in_channels,
        out_channels,
        size,
        channels_last=channels_last,
        flops=2.0 * rows * in_channels * out_channels,
        read_bytes=FLOAT_BYTES * (rows * in_channels + (in_channels + 1) * out_channels),
        write_bytes=FLOAT_BYTES * rows * out_channels,
    )


@lru_cache(maxsize=65536)
def attention(variant: str, batch: int, channels: int, size: int, heads: int) -> Operation:
    """Return an attention core over ``size * size`` positions: 2 products of positions x positions, or of d x d."""
    positions = size * size
    elements = batch * positions * channels
    across = positions if variant == "full" else channels // heads
    return Operation(
        "attention",
        batch,
        channels,
        channels,
        size,
        heads=heads,
        variant=variant,
        flops=4.0 * elements * across,
        read_bytes=FLOAT_BYTES * 3 * elements,
        write_bytes=FLOAT_BYTES * elements,
    )


@lru_cache(maxsize=65536)
def pointwise(
    kind: str, variant: str, batch: int, channels: int, size: int, *, channels_last: bool = False
) -> Operation:
    """Return a norm, an activation or an elementwise operation, whose output has the shape of its input."""
    elements = batch * size * size * channels
    inputs = 2 if variant in ("add", "add_mixed") else 1
    return Operation(
        kind,
        batch,
        channels,
        channels,
        size,
        variant=variant,
        channels_last=channels_last,
        read_bytes=FLOAT_BYTES * inputs * elements,
        write_bytes=FLOAT_BYTES * elements,
    )


@lru_cache(maxsize=65536)
def concat(batch: int, in_channels: int, out_channels: int, size: int, *, channels_last: bool = False) -> Operation:
    """Return a concatenation behind ``in_channels`` channels to ``out_channels``."""
    elements = batch * size * size * out_channels
    return Operation(
        "concat",
        batch,
        in_channels,
        out_channels,
        size,
        channels_last=channels_last,
        read_bytes=FLOAT_BYTES * elements,
        write_bytes=FLOAT_BYTES * elements,
    )


@lru_cache(maxsize=65536)
def resample(
    variant: str, batch: int, channels: int, size: int, factor: int = 2, *, channels_last: bool = False
) -> Operation:
    """Return a 2x2 mean, a doubling, or a pixel shuffle by ``factor`` from ``channels`` input channels."""
    elements = batch * size * size * channels
    written = {"average": elements / 4, "nearest": elements * 4, "shuffle": elements}[variant]
    return Operation(
        "resample",
        batch,
        channels,
        channels // factor**2 if variant == "shuffle" else channels,
        size,
        stride=factor,
        variant=variant,
        channels_last=channels_last,
        read_bytes=FLOAT_BYTES * elements,
        write_bytes=FLOAT_BYTES * written,
    )


@lru_cache(maxsize=4096)
def embedding(variant: str, batch: int, channels: int) -> Operation:
    """Return the sinusoids of ``batch`` time steps, or the look-up of ``batch`` rows."""
    elements = batch * channels
    read = elements if variant == "class" else batch
    return Operation(
        "embedding",
        batch,
        channels,
        channels,
        variant=variant,
        read_bytes=FLOAT_BYTES * read,
        write_bytes=FLOAT_BYTES * elements,
    )
