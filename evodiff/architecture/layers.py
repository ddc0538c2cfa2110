"""The layers of a genome but attention: residual, conv, resampling, and the junction where connections arrive.

Tensors are (batch, channels, height, width). Every k x k convolution keeps the resolution (zero padding k // 2) and has
a bias, but the depthwise one of a separable pair, whose bias the 1x1 convolution after it carries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evodiff.architecture.activations import make_activation
from evodiff.architecture.modulation import make_modulation
from evodiff.architecture.normalization import make_norm


def convolution(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    """Return a convolution with bias that keeps the resolution."""
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)


class ChannelScale(nn.Conv2d):
    """A depthwise 1x1 convolution without bias: each channel times its ``weight``, of shape (channels, 1, 1, 1).

    As a product it is many times faster on a CPU, where torch convolves one channel after the other.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        return x * self.weight.view(1, -1, 1, 1)


def depthwise_convolution(channels: int, kernel: int) -> nn.Conv2d:
    """Return a depthwise convolution without bias that keeps the resolution."""
    if kernel == 1:
        return ChannelScale(channels)
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)


def separable_convolution(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Return a depthwise convolution without bias, ``0``, followed by a 1x1 convolution with bias, ``1``."""
    return nn.Sequential(depthwise_convolution(in_channels, kernel), convolution(in_channels, out_channels, 1))


class ResidualLayer(nn.Module):
    """conv2(act(modulate(norm2(conv1(act(norm1(x))))))) + shortcut(x): the block of DDPM (Ho et al. 2020).

    ``conv1`` goes from the input to the output channels, ``conv2`` keeps them. ``shortcut`` is a 1x1 convolution with
    bias where the channels differ, else the identity. Modulation ``add`` acts on what ``conv1`` returns, before
    ``norm2``; ``scale_shift`` and ``gated`` act after ``norm2``, and the gate on what ``conv2`` returns.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        norm: str,
        activation: str,
        modulation: str,
        embedding_channels: int,
    ) -> None:
        super().__init__()
        self.norm1 = make_norm(norm, in_channels)
        self.conv1 = convolution(in_channels, out_channels, kernel)
        self.norm2 = make_norm(norm, out_channels)
        self.conv2 = convolution(out_channels, out_channels, kernel)
        self.activation = make_activation(activation)
        self.modulation = make_modulation(modulation, embedding_channels, out_channels, out_channels, shortcut=True)
        self.shortcut = convolution(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to (batch, out_channels, height, width)."""
        h = self.conv1(self.activation(self.norm1(x)))
        shortcut = x if self.shortcut is None else self.shortcut(x)
        modulation = self.modulation
        if modulation is None:
            branch: Tensor = self.conv2(self.activation(self.norm2(h)))
            return shortcut + branch
        parts = modulation.parts(embedding)
        h = (
            self.norm2(modulation.shift(h, parts))
            if modulation.kind == "add"
            else modulation.shift(self.norm2(h), parts)
        )
        return shortcut + modulation.gate(self.conv2(self.activation(h)), parts)


class ConvLayer(nn.Module):
    """A normalised convolution, or with ``expansion`` > 1 an inverted bottleneck; plus x where ``shortcut``.

    Expansion 1: conv(act(modulate(norm(x)))). Expansion e: project(act(conv(modulate(norm(x))))), where ``conv`` goes
    to e times the output channels and ``project`` is a 1x1 convolution with bias back to the output channels. ``conv``
    is a :func:`convolution` or, if ``separable``, a :func:`separable_convolution`. ``projection`` is a 1x1 convolution
    with bias on the shortcut where the channels differ. The gate acts on the branch, before x is added.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        expansion: int,
        separable: bool,
        shortcut: bool,
        norm: str,
        activation: str,
        modulation: str,
        embedding_channels: int,
    ) -> None:
        super().__init__()
        inner_channels = expansion * out_channels
        make_convolution = separable_convolution if separable else convolution
        self.norm = make_norm(norm, in_channels)
        self.conv = make_convolution(in_channels, inner_channels, kernel)
        self.project = convolution(inner_channels, out_channels, 1) if expansion > 1 else None
        self.activation = make_activation(activation)
        self.modulation = make_modulation(modulation, embedding_channels, in_channels, out_channels, shortcut=shortcut)
        self.has_shortcut = shortcut
        self.projection = (
            convolution(in_channels, out_channels, 1) if shortcut and in_channels != out_channels else None
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to (batch, out_channels, height, width)."""
        h = self.norm(x)
        if self.modulation is None:
            branch = self._convolve(h)
        else:
            parts = self.modulation.parts(embedding)
            branch = self.modulation.gate(self._convolve(self.modulation.shift(h, parts)), parts)
        if not self.has_shortcut:
            return branch
        return branch + (x if self.projection is None else self.projection(x))

    def _convolve(self, h: Tensor) -> Tensor:
        if self.project is None:
            expanded: Tensor = self.conv(self.activation(h))
            return expanded
        projected: Tensor = self.project(self.activation(self.conv(h)))
        return projected


class PlainLayer(nn.Module):
    """A norm or an activation on its own: ``inner``, deaf to the embedding."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        output: Tensor = self.inner(x)
        return output


class Downsample(nn.Module):
    """Halve height and width: ``conv``, a 3x3 convolution of stride 2 with bias, or the mean of 2x2 (no parameters)."""

    def __init__(self, channels: int, *, method: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if method == "conv" else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, channels, height / 2, width / 2)."""
        return F.avg_pool2d(x, 2) if self.conv is None else self.conv(x)


class Upsample(nn.Module):
    """Double height and width by nearest neighbour; method "conv" adds ``conv``, a 3x3 convolution with bias."""

    def __init__(self, channels: int, *, method: str) -> None:
        super().__init__()
        self.conv = convolution(channels, channels, 3) if method == "conv" else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, channels, 2 height, 2 width)."""
        doubled = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return doubled if self.conv is None else self.conv(doubled)


class Junction(nn.Module):
    """Where connections arrive, before the layer they point to.

    First every ``add`` edge is added to the trunk, through ``add_projections[i]`` (i counts all edges of the layer), a
    1x1 convolution with bias, where its channels differ from the trunk's. Then the ``concat`` edges are concatenated
    behind the trunk in the order of the edges, and ``fuse``, a 1x1 convolution with bias, brings them back to the
    trunk's channels, unless the layer itself takes all of them in (``takes_concatenation``: conv and residual).
    """

    def __init__(self, trunk_channels: int, edges: list[tuple[int, str]], *, takes_concatenation: bool) -> None:
        super().__init__()
        self.merges = tuple(merge for _, merge in edges)
        self.add_projections = nn.ModuleDict(
            {
                str(index): convolution(channels, trunk_channels, 1)
                for index, (channels, merge) in enumerate(edges)
                if merge == "add" and channels != trunk_channels
            }
        )
        concatenated = sum(channels for channels, merge in edges if merge == "concat")
        needs_fusion = concatenated > 0 and not takes_concatenation
        self.fuse = convolution(trunk_channels + concatenated, trunk_channels, 1) if needs_fusion else None

    def forward(self, trunk: Tensor, incoming: list[Tensor]) -> Tensor:
        """Merge ``incoming``, one (batch, channels of the edge, height, width) tensor per edge, into the trunk."""
        concatenated = []
        for index, (merge, source) in enumerate(zip(self.merges, incoming, strict=True)):
            if merge == "concat":
                concatenated.append(source)
            else:
                name = str(index)
                trunk = trunk + (self.add_projections[name](source) if name in self.add_projections else source)
        if not concatenated:
            return trunk
        whole = torch.cat([trunk, *concatenated], dim=1)
        return whole if self.fuse is None else self.fuse(whole)
