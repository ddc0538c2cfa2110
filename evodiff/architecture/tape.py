"""A tape on which a forward pass is written down: what it calls, its parameters, and how much it holds meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from evodiff.hardware import operation as op

if TYPE_CHECKING:
    from evodiff.hardware.operation import Operation


class PartCost(NamedTuple):
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


# As in ``normalization``, which imports torch.
GROUPS = 8


class Tape:
    """Operations, their ``flops`` and ``parameters``, the elements held now (``live``) and at most (``peak``).

    Inputs are not counted. Every call holds its output until :meth:`free` gives it back. ``channels_last`` is the
    memory format that the tensor worked on has on a CPU; torch hands it on from input to output.
    """

    def __init__(self, batch: int, *, channels_last: bool = False) -> None:
        self.batch = batch
        self.channels_last = channels_last
        self.operations: list[Operation] = []
        self.parameters = 0
        self.flops = 0.0
        self.live = 0
        self.peak = 0

    def call(self, operation: Operation, *, output: int, scratch: int = 0) -> None:
        """Record one operation with the elements of its output, and those it holds only while it runs."""
        self.operations.append(operation)
        self.flops += operation.flops
        self.live += output
        if self.live + scratch > self.peak:
            self.peak = self.live + scratch

    def free(self, elements: int) -> None:
        """Give back the memory of tensors that nothing refers to any more."""
        self.live -= elements

    def conv(self, in_channels: int, out_channels: int, size: int, kernel: int, stride: int = 1) -> None:
        """Record a convolution with bias."""
        self.parameters += (in_channels * kernel * kernel + 1) * out_channels
        self.call(
            op.conv(self.batch, in_channels, out_channels, size, kernel, stride, channels_last=self.channels_last),
            output=self.batch * out_channels * (size // stride) ** 2,
        )

    def depthwise(self, channels: int, size: int, kernel: int) -> None:
        """Record a depthwise convolution without bias; of kernel 1 it is a factor a channel."""
        self.parameters += channels * kernel**2
        if kernel == 1:
            self.pointwise("elementwise", "gate", channels, size)
            return
        operation = op.depthwise(self.batch, channels, size, kernel, channels_last=self.channels_last)
        self.call(operation, output=self.batch * channels * size * size)

    def linear(self, in_channels: int, out_channels: int) -> None:
        """Record a linear layer of one row an image."""
        self.parameters += (in_channels + 1) * out_channels
        self.call(op.linear(self.batch, in_channels, out_channels), output=self.batch * out_channels)

    def project(self, in_channels: int, out_channels: int, size: int, *, channels_last: bool) -> None:
        """Record a linear layer of every position."""
        self.parameters += (in_channels + 1) * out_channels
        operation = op.linear(self.batch, in_channels, out_channels, size, channels_last=channels_last)
        self.call(operation, output=self.batch * size * size * out_channels)

    def pointwise(self, kind: str, variant: str, channels: int, size: int) -> None:
        """Record an operation whose output has the shape of its input; a norm has parameters."""
        elements = self.batch * channels * size * size
        scratch = 0
        if kind == "norm":
            self.parameters += channels if variant == "rms" else 2 * channels
            scratch = self._norm_scratch(variant, elements, size)
        self.call(
            op.pointwise(kind, variant, self.batch, channels, size, channels_last=self.channels_last),
            output=elements,
            scratch=scratch,
        )
        if (kind, variant) == ("norm", "layer"):
            self.channels_last = True  # it works on a permuted view

    def _norm_scratch(self, variant: str, elements: int, size: int) -> int:
        positions = self.batch * size * size
        if variant == "rms":
            return elements + positions  # the scale of every element, and the root of every position
        return 2 * (positions if variant == "layer" else self.batch * GROUPS)  # means and deviations

    def add(self, channels: int, size: int, other_channels_last: bool) -> None:
        """Record the sum of the tensor worked on, which gives the memory format, and another."""
        variant = "add" if self.channels_last == other_channels_last else "add_mixed"
        self.pointwise("elementwise", variant, channels, size)

    def finish(self, kept: int) -> PartCost:
        """Return the cost of all that was recorded; ``kept`` elements are the output."""
        return PartCost(tuple(self.operations), self.parameters, self.flops, self.peak, kept, self.channels_last)
