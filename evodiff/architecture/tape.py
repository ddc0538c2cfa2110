"""A tape on which a forward pass is written down: what it calls, its parameters, and how much it holds meanwhile."""

from __future__ import annotations

from evodiff.hardware import operation as op
from evodiff.hardware.operation import Operation


class Tape:
    """Operations, ``parameters``, and the elements held now (``live``) and at most (``peak``), inputs left out.

    Every call holds its output until :meth:`free` gives it back.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.operations: list[Operation] = []
        self.parameters = 0
        self.live = 0
        self.peak = 0

    def call(self, operation: Operation, *, output: int, scratch: int = 0) -> None:
        """Record one operation with the elements of its output, and those it holds only while it runs."""
        self.operations.append(operation)
        self.live += output
        self.peak = max(self.peak, self.live + scratch)

    def free(self, elements: int) -> None:
        """Give back the memory of tensors that nothing refers to any more."""
        self.live -= elements

    def conv(self, in_channels: int, out_channels: int, size: int, kernel: int, stride: int = 1) -> None:
        """Record a convolution with bias."""
        self.parameters += (in_channels * kernel * kernel + 1) * out_channels
        self.call(
            op.conv(self.batch, in_channels, out_channels, size, kernel, stride),
            output=self.batch * out_channels * (size // stride) ** 2,
        )

    def linear(self, rows: int, in_channels: int, out_channels: int) -> None:
        """Record a linear layer with bias."""
        self.parameters += (in_channels + 1) * out_channels
        self.call(op.linear(rows, in_channels, out_channels), output=rows * out_channels)

    def pointwise(self, kind: str, variant: str, channels: int, size: int) -> None:
        """Record an operation whose output has the shape of its input; a norm has parameters."""
        elements = self.batch * channels * size * size
        scratch = 0
        if kind == "norm":
            self.parameters += channels if variant == "rms" else 2 * channels
            scratch = elements if variant == "rms" else 0  # its scale of every element
        self.call(op.pointwise(kind, variant, self.batch, channels, size), output=elements, scratch=scratch)
