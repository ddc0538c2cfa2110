"""The normalisations of a genome: group, layer and RMS, all with a learned scale per channel and ``eps`` 1e-5.

Tensors are (batch, channels, height, width), in either memory format.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8
EPSILON = 1e-5


class ChannelLayerNorm(nn.Module):
    """Layer normalisation over the channels at each position: ``weight`` and ``bias`` of shape (channels,)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (batch, channels, height, width)."""
        channels_last = x.permute(0, 2, 3, 1)
        normalised = F.layer_norm(channels_last, self.weight.shape, self.weight, self.bias, EPSILON)
        return normalised.permute(0, 3, 1, 2)


class ChannelRMSNorm(nn.Module):
    """Division by the root mean square over the channels at each position (Zhang & Sennrich 2019): ``weight`` only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (batch, channels, height, width)."""
        inverse = torch.rsqrt(x.square().mean(dim=1, keepdim=True) + EPSILON)
        return x * (inverse * self.weight.view(1, -1, 1, 1))


def make_norm(kind: str, channels: int) -> nn.Module:
    """Return the normalisation ``kind``: "group" (8 groups, weight and bias), "layer" or "rms"."""
    if kind == "group":
        return nn.GroupNorm(GROUPS, channels, eps=EPSILON)
    return {"layer": ChannelLayerNorm, "rms": ChannelRMSNorm}[kind](channels)
