"""A denoiser of a few hundred parameters with the call convention of every network, and images for it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from evodiff.sampling.noise import NoiseSchedule
from evodiff.settings import TrainingSettings
from evodiff.training import train

CLASSES = 3


class SmallDenoiser(nn.Module):
    """Two convolutions, with time and label added in between, and a parameter that no gradient ever reaches."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.time = nn.Linear(1, 8)
        self.label = nn.Embedding(CLASSES + 1, 8)
        self.norm = nn.GroupNorm(2, 8)
        self.last = nn.Conv2d(8, 1, 3, padding=1)
        self.unused = nn.Parameter(torch.ones(2))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * 0.4 - 0.2)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        embedding = self.time(t[:, None] / 1000)
        if labels is not None:
            embedding = embedding + self.label(labels)
        h = self.norm(self.first(x_t)) + embedding[:, :, None, None]
        output: Tensor = self.last(torch.nn.functional.silu(h))
        return output


def small_images() -> Tensor:
    """(20, 1, 4, 4) in [-1, 1]."""
    return torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(5)) * 2 - 1


def small_labels() -> Tensor:
    """(20,) of 0, 1, 2."""
    return torch.arange(20) % CLASSES


if __name__ == "__main__":  # trains until it is killed, telling each step; see test_training_resumption
    train(
        SmallDenoiser(seed=1),
        small_images(),
        small_labels(),
        TrainingSettings(batch_size=8, warmup_steps=3),
        seed=7,
        schedule=NoiseSchedule.named("linear"),
        last_step=10**9,
        checkpoint=Path(sys.argv[1]),
        checkpoint_every=0.0,
        should_stop=lambda: print("step", flush=True) is not None,
    )
