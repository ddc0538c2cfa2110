"""The two small networks that images are judged by: one for the search, a clearly different one for reports."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Variant = Literal["search", "report"]
VARIANTS: Final[tuple[Variant, ...]] = ("search", "report")

FEATURES: Final = 64

_GRID = 8  # both networks bring an image to about 8 x 8 before their last layers
_LARGEST = 64  # larger images are averaged down first


def build_feature_network(variant: Variant, channels: int, size: int) -> nn.Module:
    """Build an untrained network from images (n, channels, size, size) to raw features (n, 64)."""
    network = PlainNetwork(channels, size) if variant == "search" else ResidualNetwork(channels, size)
    shrink = -(-size // _LARGEST)
    return nn.Sequential(nn.AvgPool2d(shrink), network) if shrink > 1 else network


class PlainNetwork(nn.Module):
    """3 x 3 convolutions one after another with batch norm and SiLU, down to 4 x 4; no shortcuts."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width, side = channels, min(size, _LARGEST)
        strides = [2 if side > 2 * _GRID else 1]
        side //= strides[0]
        while side > _GRID:
            strides.append(2)
            side //= 2
        strides += [1, 2, 1]
        for depth, stride in enumerate(strides):
            out = (16, 32, 32, 48)[min(depth, 3)] if depth < len(strides) - 2 else 48
            layers += [nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.SiLU()]
            width = out
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(4 * width, FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, 64)."""
        pooled: Tensor = F.adaptive_avg_pool2d(self.layers(images), 2)
        features: Tensor = self.out(pooled.flatten(1))
        return features


class ResidualNetwork(nn.Module):
    """Strided 5 x 5 convolutions and pre-activation residual blocks (He et al. 2016) at 8 x 8 and at 4 x 4.

    Group norm and GELU: no statistics of a batch, another non-linearity, wider filters, shortcuts. Beside the pooled
    activations of the blocks the features see how strongly each filter of the first layer answers (root mean square
    over each quarter of the image): how sharp and how noisy an image is.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        side = min(size, _LARGEST)
        stride = 2 if side > _GRID else 1
        self.first = nn.Conv2d(channels, 16, 5, stride, 2)
        width, side = 16, side // stride
        stem: list[nn.Module] = []
        while side > _GRID or width < 32:
            stride = 2 if side > _GRID else 1
            stem += [nn.GroupNorm(4, width), nn.GELU(), nn.Conv2d(width, 32, 5, stride, 2)]
            width, side = 32, side // stride
        self.stem = nn.Sequential(*stem)
        self.fine = _ResidualBlock(32)
        self.down = nn.Conv2d(32, 48, 5, 2, 2)
        self.coarse = _ResidualBlock(48)
        self.norm = nn.GroupNorm(4, 48)
        self.out = nn.Linear(4 * (48 + 16), FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, 64)."""
        answers = self.first(images)
        hidden = self.coarse(self.down(self.fine(self.stem(answers))))
        pooled = F.adaptive_avg_pool2d(F.gelu(self.norm(hidden)), 2)
        strength = (F.adaptive_avg_pool2d(answers.square(), 2) + 1e-4).sqrt()
        features: Tensor = self.out(torch.cat([pooled, strength], dim=1).flatten(1))
        return features


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(4, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second_norm = nn.GroupNorm(4, width)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        branch = self.first(F.gelu(self.first_norm(hidden)))
        branch = self.second(F.gelu(self.second_norm(branch)))
        total: Tensor = hidden + branch
        return total
