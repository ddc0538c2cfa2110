"""Which operations a calibration times: pages, each a sample of what one network calls.

How long an operation takes depends on the company it keeps: a small convolution among other small ones finds its
inputs, its weights and its code in the caches, and between large ones it finds nothing there. So operations are timed
in pages, and those of a page have the channels, resolutions and batch of one network of the search space: 1 to 4 times
a width, and a resolution, its half and its quarter. The first pages are far apart, so that a small budget, which takes
only these, spans the space as well.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from evodiff.hardware import operation as op

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evodiff.hardware.operation import Operation

# Larger operations are predicted from what smaller ones reach; timing them would eat the budget.
MAX_FLOPS: Final = 1e9
MAX_BYTES: Final = 1.6e7

Group = tuple[str, str, int, int]


def group(operation: Operation) -> Group:
    """Return what decides the table that an operation is predicted from: kind, variant, kernel and stride."""
    stride = operation.stride if operation.kind == "conv" else 1
    kernel = operation.kernel if operation.kind in ("conv", "depthwise") else 1
    return operation.kind, operation.variant, kernel, stride


@dataclass(frozen=True)
class Page:
    """Base width in channels, finest resolution and batch of a network whose operations are sampled."""

    width: int
    size: int
    batch: int = 8


# The default serving batch is 8; other batches are there so that the batch has a slope.
PAGES: Final = (
    Page(32, 8),
    Page(64, 16),
    Page(16, 32),
    Page(128, 4),
    Page(8, 8),
    Page(32, 32),
    Page(96, 8),
    Page(16, 16, 1),
    Page(48, 16),
    Page(64, 8, 1),
    Page(24, 8),
    Page(80, 4),
    Page(8, 32),
    Page(32, 8, 64),
    Page(112, 8),
    Page(16, 4),
    Page(64, 32),
    Page(40, 16, 2),
    Page(8, 16, 32),
)


def pages() -> Iterator[list[Operation]]:
    """Yield the operations of each page: a fixed list, without those that are too large to time."""
    for index, page in enumerate(PAGES):
        sampled = dict.fromkeys(_Sample(page, index).operations())
        yield [item for item in sampled if item.flops <= MAX_FLOPS and item.read_bytes + item.write_bytes <= MAX_BYTES]


class _Sample:
    """Draws operations of one page."""

    def __init__(self, page: Page, seed: int) -> None:
        self.page = page
        self.batch = page.batch
        self._draw = random.Random(seed)  # noqa: S311 - shapes to time, not secrets

    def one(self, choices: Sequence[int]) -> int:
        return self._draw.choice(choices)

    def channels_last(self) -> bool:
        """A memory format: networks of high resolution keep to channels-last, others mostly do not."""
        return self.page.size >= 32 or self.one((0, 0, 1)) == 1

    def channels(self) -> int:
        """Channels of a layer; concatenations make more than four widths."""
        return self.page.width * self.one((1, 1, 2, 2, 3, 4))

    def size(self, smallest: int = 2) -> int:
        return max(smallest, self.page.size // self.one((1, 1, 2, 4)))

    def conv(self, in_channels: int, out_channels: int, size: int, kernel: int, stride: int = 1) -> Operation:
        last = self.channels_last()
        return op.conv(self.batch, in_channels, out_channels, size, kernel, stride, channels_last=last)

    def pointwise(self, kind: str, variant: str) -> Operation:
        channels, size, last = self.channels(), self.size(), self.channels_last()
        return op.pointwise(kind, variant, self.batch, channels, size, channels_last=last)

    def operations(self) -> Iterator[Operation]:
        yield from self._convolutions()
        yield from self._attention()
        yield from self._pointwise()
        yield from self._ends()

    def _convolutions(self) -> Iterator[Operation]:
        for kernel, count in ((1, 5), (3, 7), (5, 5)):
            for _ in range(count):
                joined = self.channels() + self.one((0, 0, 0, self.page.width * 2))
                yield self.conv(joined, self.channels(), self.size(), kernel)
        # An expansion by four, and the way back.
        inner, size = 4 * self.channels(), self.size()
        yield self.conv(inner // 4, inner, size, 1)
        yield self.conv(inner, inner // 4, size, 1)
        for _ in range(2):
            channels = self.channels()
            yield self.conv(channels, channels, self.size(4), 3, 2)
        for kernel in (3, 3, 5, 5):
            yield op.depthwise(self.batch, self.channels(), self.size(), kernel, channels_last=self.channels_last())

    def _attention(self) -> Iterator[Operation]:
        for variant in op.KINDS["attention"]:
            for _ in range(3):
                channels, size = self.channels(), self.size()
                yield op.attention(variant, self.batch, channels, size, self.one((1, 2, 4, 8)))
        for _ in range(2):
            channels, size = self.channels(), self.size()
            yield op.linear(self.batch, channels, 3 * channels, size, channels_last=self.channels_last())
            yield op.linear(self.batch, channels, channels, size, channels_last=True)

    def _pointwise(self) -> Iterator[Operation]:
        for variant in op.KINDS["norm"] * 2:
            yield self.pointwise("norm", variant)
        for kind in ("activation", "elementwise"):
            for variant in op.KINDS[kind]:
                yield self.pointwise(kind, variant)
        for _ in range(2):
            channels = self.channels()
            joined, size = channels + self.channels(), self.size()
            yield op.concat(self.batch, channels, joined, size, channels_last=self.channels_last())
        for variant in ("average", "nearest"):
            channels, size = self.channels(), self.size(4)
            yield op.resample(variant, self.batch, channels, size, channels_last=self.channels_last())

    def _ends(self) -> Iterator[Operation]:
        width, patch, image = self.page.width, self.one((1, 2, 4)), self.one((1, 3))
        stem_size = self.page.size
        kernel = 3 if patch == 1 else patch
        yield op.conv(
            self.batch, image, width, stem_size * patch, kernel, patch, channels_last=self.channels_last(), kind="stem"
        )
        yield self.conv(self.channels(), image * patch**2, stem_size, 3)
        channels_last = patch == 1 or self.channels_last()
        yield op.resample("shuffle", self.batch, image * patch**2, stem_size, patch, channels_last=channels_last)
        embedding = width * self.one((1, 2, 4))
        yield op.embedding("sinusoid", self.batch, width)
        yield op.embedding("class", self.batch, embedding)
        yield op.linear(self.batch, width, embedding)
        yield op.linear(self.batch, embedding, embedding)
        for parts in (1, 2, 3):
            yield op.linear(self.batch, embedding, parts * self.channels())
        yield op.pointwise("activation", "silu", self.batch, embedding, 1)
        yield op.pointwise("elementwise", "add", self.batch, embedding, 1)
