"""Tapes on which a forward pass is written down: how much it computes and holds, and on request what it calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from evodiff.hardware import operation as op

if TYPE_CHECKING:
    from evodiff.hardware.operation import Operation

# As in ``normalization``, which imports torch.
GROUPS = 8


class Counts(NamedTuple):
    """What a part of a network takes for one image.

    ``heard`` are the outputs of its linear layers of one row an image: in a layer, the projection of the embedding.
    ``peak_elements`` is the largest number of elements that it holds at once beside its inputs; ``kept`` of them, its
    output, stay. ``channels_last`` is the output's memory format on a CPU.
    """

    parameters: int
    flops: float
    heard: int
    peak_elements: int
    kept: int
    channels_last: bool


class Tape:
    """What was written down so far, as :class:`Counts` tell it, and the elements that are held now (``live``).

    Inputs are not counted. Every call holds its output until :meth:`free` gives it back. ``channels_last`` is the
    memory format that the tensor worked on has on a CPU; torch hands it on from input to output.
    """

    def __init__(self, batch: int = 1, *, channels_last: bool = False) -> None:
        self.batch = batch
        self.channels_last = channels_last
        self.parameters = 0
        self.flops = 0.0
        self.heard = 0
        self.live = 0
        self.peak = 0

    def hold(self, output: int, scratch: int = 0) -> None:
        """Hold the elements of an output, and meanwhile those that its operation holds only while it runs."""
        self.live += output
        if self.live + scratch > self.peak:
            self.peak = self.live + scratch

    def free(self, elements: int) -> None:
        """Give back the memory of tensors that nothing refers to any more."""
        self.live -= elements

    def conv(self, in_channels: int, out_channels: int, size: int, kernel: int, stride: int = 1) -> None:
        """Write down a convolution with bias."""
        weights = in_channels * kernel * kernel * out_channels
        outputs = self.batch * (size // stride) ** 2
        self.parameters += weights + out_channels
        self.flops += 2.0 * outputs * weights
        self.hold(outputs * out_channels)

    def stem(self, in_channels: int, out_channels: int, size: int, kernel: int, stride: int) -> None:
        """Write down the convolution of a row-major image."""
        weights = in_channels * kernel**2 * out_channels
        outputs = self.batch * (size // stride) ** 2
        self.parameters += weights + out_channels
        self.flops += 2.0 * outputs * weights
        elements = outputs * out_channels
        self.hold(elements, scratch=elements if self.channels_last else 0)  # before it is brought into that format

    def depthwise(self, channels: int, size: int, kernel: int) -> None:
        """Write down a depthwise convolution without bias; of kernel 1 it is a factor a channel."""
        self.parameters += channels * kernel**2
        if kernel == 1:
            self.pointwise("elementwise", "gate", channels, size)
            return
        elements = self.batch * channels * size * size
        self.flops += 2.0 * elements * kernel**2
        self.hold(elements)

    def linear(self, in_channels: int, out_channels: int) -> None:
        """Write down a linear layer of one row an image."""
        self.parameters += (in_channels + 1) * out_channels
        self.flops += 2.0 * self.batch * in_channels * out_channels
        self.heard += out_channels
        self.hold(self.batch * out_channels)

    def project(self, in_channels: int, out_channels: int, size: int, *, channels_last: bool) -> None:
        """Write down a linear layer of every position."""
        positions = self.batch * size * size
        self.parameters += (in_channels + 1) * out_channels
        self.flops += 2.0 * positions * in_channels * out_channels
        self.hold(positions * out_channels)

    def attend(self, variant: str, channels: int, size: int, heads: int) -> None:
        """Write down the core of an attention layer; the linear one holds a product of keys and values meanwhile."""
        elements = self.batch * size * size * channels
        self.flops += 4.0 * elements * (size * size if variant == "full" else channels // heads)
        held = elements + self.batch * channels * (channels // heads) if variant == "linear" else 0
        self.hold(elements, scratch=held)

    def pointwise(self, kind: str, variant: str, channels: int, size: int) -> None:
        """Write down an operation whose output has the shape of its input; a norm has parameters."""
        elements = self.batch * channels * size * size
        scratch = 0
        if kind == "norm":
            self.parameters += channels if variant == "rms" else 2 * channels
            scratch = self._norm_scratch(variant, elements, size)
        self.hold(elements, scratch)
        if variant == "layer":
            self.channels_last = True  # this norm works on a permuted view

    def _norm_scratch(self, variant: str, elements: int, size: int) -> int:
        positions = self.batch * size * size
        if variant == "rms":
            return elements + positions  # the scale of every element, and the root of every position
        return 2 * (positions if variant == "layer" else self.batch * GROUPS)  # means and deviations

    def add(self, channels: int, size: int, other_channels_last: bool) -> None:
        """Write down the sum of the tensor worked on, which gives the memory format, and another."""
        variant = "add" if self.channels_last == other_channels_last else "add_mixed"
        self.pointwise("elementwise", variant, channels, size)

    def concat(self, in_channels: int, out_channels: int, size: int) -> None:
        """Write down a concatenation behind ``in_channels`` channels to ``out_channels``."""
        self.hold(self.batch * out_channels * size * size)

    def resample(self, variant: str, channels: int, size: int) -> None:
        """Write down a halving of the resolution (``average``) or a doubling (``nearest``)."""
        out_size = size // 2 if variant == "average" else 2 * size
        self.hold(self.batch * channels * out_size**2)

    def shuffle(self, channels: int, size: int, factor: int) -> None:
        """Write down a pixel shuffle by ``factor`` to a row-major image of ``channels`` channels."""
        image = self.batch * channels * (size * factor) ** 2
        # It keeps the memory format, and the image is then made row-major.
        self.hold(image, scratch=image if factor > 1 and self.channels_last else 0)

    def embed(self, variant: str, channels: int) -> None:
        """Write down the sinusoids of the time step, or the look-up of the class."""
        self.hold(self.batch * channels)

    def counts(self, kept: int) -> Counts:
        """Return what was written down; ``kept`` elements are the output."""
        return Counts(self.parameters, self.flops, self.heard, self.peak, kept, self.channels_last)


class OperationTape(Tape):
    """A tape that keeps the ``operations`` as well, in the order of their execution."""

    def __init__(self, batch: int, *, channels_last: bool = False) -> None:
        super().__init__(batch, channels_last=channels_last)
        self.operations: list[Operation] = []

    def conv(self, in_channels: int, out_channels: int, size: int, kernel: int, stride: int = 1) -> None:
        """See :meth:`Tape.conv`."""
        super().conv(in_channels, out_channels, size, kernel, stride)
        shapes = (self.batch, in_channels, out_channels, size, kernel, stride)
        self.operations.append(op.conv(*shapes, channels_last=self.channels_last))

    def stem(self, in_channels: int, out_channels: int, size: int, kernel: int, stride: int) -> None:
        """See :meth:`Tape.stem`."""
        super().stem(in_channels, out_channels, size, kernel, stride)
        shapes = (self.batch, in_channels, out_channels, size, kernel, stride)
        self.operations.append(op.conv(*shapes, channels_last=self.channels_last, kind="stem"))

    def depthwise(self, channels: int, size: int, kernel: int) -> None:
        """See :meth:`Tape.depthwise`."""
        super().depthwise(channels, size, kernel)
        if kernel > 1:
            self.operations.append(op.depthwise(self.batch, channels, size, kernel, channels_last=self.channels_last))

    def linear(self, in_channels: int, out_channels: int) -> None:
        """See :meth:`Tape.linear`."""
        super().linear(in_channels, out_channels)
        self.operations.append(op.linear(self.batch, in_channels, out_channels))

    def project(self, in_channels: int, out_channels: int, size: int, *, channels_last: bool) -> None:
        """See :meth:`Tape.project`; ``channels_last`` is the memory format of what is projected."""
        super().project(in_channels, out_channels, size, channels_last=channels_last)
        self.operations.append(op.linear(self.batch, in_channels, out_channels, size, channels_last=channels_last))

    def attend(self, variant: str, channels: int, size: int, heads: int) -> None:
        """See :meth:`Tape.attend`."""
        super().attend(variant, channels, size, heads)
        self.operations.append(op.attention(variant, self.batch, channels, size, heads))

    def pointwise(self, kind: str, variant: str, channels: int, size: int) -> None:
        """See :meth:`Tape.pointwise`."""
        shapes = (self.batch, channels, size)
        # First of all, as the format may be another one behind it.
        self.operations.append(op.pointwise(kind, variant, *shapes, channels_last=self.channels_last))
        super().pointwise(kind, variant, channels, size)

    def concat(self, in_channels: int, out_channels: int, size: int) -> None:
        """See :meth:`Tape.concat`."""
        super().concat(in_channels, out_channels, size)
        shapes = (self.batch, in_channels, out_channels, size)
        self.operations.append(op.concat(*shapes, channels_last=self.channels_last))

    def resample(self, variant: str, channels: int, size: int) -> None:
        """See :meth:`Tape.resample`."""
        super().resample(variant, channels, size)
        self.operations.append(op.resample(variant, self.batch, channels, size, channels_last=self.channels_last))

    def shuffle(self, channels: int, size: int, factor: int) -> None:
        """See :meth:`Tape.shuffle`."""
        super().shuffle(channels, size, factor)
        shapes = (self.batch, channels * factor**2, size, factor)
        self.operations.append(op.resample("shuffle", *shapes, channels_last=self.channels_last))

    def embed(self, variant: str, channels: int) -> None:
        """See :meth:`Tape.embed`."""
        super().embed(variant, channels)
        self.operations.append(op.embedding(variant, self.batch, channels))
