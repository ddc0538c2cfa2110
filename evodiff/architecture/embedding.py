"""The embedding of time and class that every modulated layer hears."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoidal_embedding(timestep: Tensor, channels: int) -> Tensor:
    """Return [cos(t f), sin(t f)] with f = 10000^(-i / (channels / 2)), shape (batch, channels), float32.

    The positional encoding of Vaswani et al. 2017 as DDPM uses it, cosines first. ``channels`` is even.
    """
    half = channels // 2
    exponent = torch.arange(half, dtype=torch.float32, device=timestep.device) * (-math.log(10000.0) / half)
    phase = timestep.float()[:, None] * torch.exp(exponent)[None, :]
    return torch.cat([phase.cos(), phase.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """linear2(SiLU(linear1(sinusoids of t))): both linear layers with bias, to ``embedding_channels``.

    ``channels`` are those of the sinusoids: the width of the network.
    """

    def __init__(self, channels: int, embedding_channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear1 = nn.Linear(channels, embedding_channels)
        self.linear2 = nn.Linear(embedding_channels, embedding_channels)

    def forward(self, timestep: Tensor) -> Tensor:
        """Map (batch,) time steps, integers or floats of 0 to 999, to (batch, embedding_channels)."""
        sinusoids = sinusoidal_embedding(timestep, self.channels).to(self.linear1.weight.dtype)
        embedding: Tensor = self.linear2(F.silu(self.linear1(sinusoids)))
        return embedding
