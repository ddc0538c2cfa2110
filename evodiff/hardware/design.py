"""Which operations a calibration times: shapes that span what networks of the search space call.

For every group of operations that share a table (:func:`group`) there is a sequence of shapes, low-discrepancy in the
logarithms of channels, resolution and batch, so that every prefix of it covers the range. The sequences are merged in
proportion to their lengths; a small budget takes a prefix of the whole and still sees every group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from evodiff.hardware import operation as op
from evodiff.hardware.operation import Operation

# Widths of the space are multiples of 8 from 8 to 128, layers have 1 to 4 times as many, and concatenations add up.
CHANNELS: Final = (8, 16, 24, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512)
SIZES: Final = (2, 4, 8, 16, 32)
# Mostly the default serving batch; others so that the batch has a slope.
BATCHES: Final = (8, 8, 8, 8, 1, 64, 8, 8, 2, 8, 8, 32)
# Larger work than this is predicted from the throughput that smaller work reaches; timing it would eat the budget.
MAX_FLOPS: Final = 4e8
MAX_BYTES: Final = 6e6

Group = tuple[str, str, int, int]


def group(operation: Operation) -> Group:
    """Return what decides the table that an operation is predicted from: kind, variant, kernel and stride."""
    stride = operation.stride if operation.kind == "conv" else 1
    kernel = operation.kernel if operation.kind in ("conv", "depthwise") else 1
    return operation.kind, operation.variant, kernel, stride


def design() -> list[Operation]:
    """Return the operations to time, most informative first."""
    sequences = [_sequence(make, count) for make, count in _PLAN]
    places = [
        ((index + 0.5) / len(sequence), order, item)
        for order, sequence in enumerate(sequences)
        for index, item in enumerate(sequence)
    ]
    return [item for _, _, item in sorted(places, key=lambda place: place[:2])]


def _radical_inverse(index: int, base: int) -> float:
    """Return the van der Corput number of ``index``, in [0, 1)."""
    result, scale = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        result += digit * scale
        scale /= base
    return result


class Draw:
    """The values of one point of a Halton sequence, handed out coordinate by coordinate."""

    def __init__(self, index: int) -> None:
        self._coordinates = iter(_radical_inverse(index, base) for base in (2, 3, 5, 7, 11))

    def one(self, choices: Sequence[int]) -> int:
        """Return one of ``choices``."""
        return choices[int(next(self._coordinates) * len(choices))]


Make = Callable[[Draw], Operation]


def _sequence(make: Make, count: int) -> list[Operation]:
    """Return ``count`` different operations that are small enough, or as many as there are."""
    found: dict[Operation, None] = {}
    for index in range(1, 40 * count):
        candidate = make(Draw(index))
        if candidate.flops <= MAX_FLOPS and candidate.read_bytes + candidate.write_bytes <= MAX_BYTES:
            found.setdefault(candidate)
        if len(found) == count:
            break
    return list(found)


def _conv(kernel: int, stride: int = 1) -> Make:
    sizes = SIZES if stride == 1 else SIZES[1:]

    def make(draw: Draw) -> Operation:
        return op.conv(
            in_channels=draw.one(CHANNELS),
            out_channels=draw.one(CHANNELS),
            size=draw.one(sizes),
            batch=draw.one(BATCHES),
            kernel=kernel,
            stride=stride,
        )

    return make


def _head(draw: Draw) -> Operation:
    # The last convolution of a network has as few channels as an image has, times the patch.
    return op.conv(
        in_channels=draw.one(CHANNELS),
        out_channels=draw.one((1, 3, 4, 12)),
        size=draw.one(SIZES[1:]),
        batch=draw.one(BATCHES),
        kernel=3,
    )


def _stem(draw: Draw) -> Operation:
    width, size, patch = draw.one(CHANNELS[:11]), draw.one(SIZES[2:]), draw.one((1, 2, 1, 4))
    kernel = 3 if patch == 1 else patch
    return op.conv(draw.one(BATCHES), draw.one((1, 3)), width, size, kernel, patch, "stem")


def _depthwise(kernel: int) -> Make:
    return lambda draw: op.depthwise(
        channels=draw.one(CHANNELS), size=draw.one(SIZES), batch=draw.one(BATCHES), kernel=kernel
    )


def _row_linear(draw: Draw) -> Operation:
    # Time embedding and modulation: a row an image.
    return op.linear(
        in_channels=draw.one(CHANNELS), out_channels=draw.one((*CHANNELS, 768, 1024)), rows=draw.one(BATCHES)
    )


def _token_linear(draw: Draw) -> Operation:
    # The projections of attention: a row a position.
    return op.linear(
        in_channels=draw.one(CHANNELS),
        out_channels=draw.one((*CHANNELS[3:], 768)),
        rows=draw.one((128, 512, 2048, 64, 8192, 512)),
    )


def _attention(variant: str) -> Make:
    return lambda draw: op.attention(
        variant,
        channels=draw.one(CHANNELS),
        size=draw.one(SIZES),
        heads=draw.one((4, 1, 2, 8)),
        batch=draw.one(BATCHES),
    )


def _pointwise(kind: str, variant: str) -> Make:
    return lambda draw: op.pointwise(
        kind, variant, channels=draw.one(CHANNELS), size=draw.one(SIZES), batch=draw.one(BATCHES)
    )


def _vector(kind: str, variant: str) -> Make:
    return lambda draw: op.pointwise(kind, variant, channels=draw.one(CHANNELS), size=1, batch=draw.one(BATCHES))


def _concat(draw: Draw) -> Operation:
    channels = draw.one(CHANNELS)
    return op.concat(
        in_channels=channels, out_channels=channels + draw.one(CHANNELS), size=draw.one(SIZES), batch=draw.one(BATCHES)
    )


def _resample(variant: str) -> Make:
    return lambda draw: op.resample(
        variant, channels=draw.one(CHANNELS), size=draw.one(SIZES[1:]), batch=draw.one(BATCHES)
    )


def _shuffle(draw: Draw) -> Operation:
    size, factor = draw.one(SIZES[1:]), draw.one((1, 2, 4))
    return op.resample("shuffle", draw.one(BATCHES), draw.one((1, 3)) * factor**2, size, factor)


def _embedding(variant: str) -> Make:
    return lambda draw: op.embedding(variant, channels=draw.one(CHANNELS), batch=draw.one(BATCHES))


# Makers with the number of shapes that a full calibration times. Convolutions take most of a network's time.
_PLAN: Final[tuple[tuple[Make, int], ...]] = (
    (_conv(1), 80),
    (_conv(3), 110),
    (_conv(5), 70),
    (_conv(3, stride=2), 24),
    (_head, 16),
    (_stem, 14),
    (_depthwise(1), 12),
    (_depthwise(3), 24),
    (_depthwise(5), 24),
    (_row_linear, 40),
    (_token_linear, 30),
    (_attention("full"), 36),
    (_attention("linear"), 36),
    *((_pointwise("norm", variant), 24) for variant in op.KINDS["norm"]),
    *((_pointwise("activation", variant), 14) for variant in op.KINDS["activation"]),
    *((_pointwise("elementwise", variant), 14) for variant in op.KINDS["elementwise"]),
    (_vector("activation", "silu"), 4),
    (_vector("elementwise", "add"), 4),
    (_concat, 20),
    (_resample("average"), 10),
    (_resample("nearest"), 10),
    (_shuffle, 8),
    (_embedding("sinusoid"), 6),
    (_embedding("class"), 6),
)
