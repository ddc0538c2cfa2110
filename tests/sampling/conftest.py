"""A model whose score is known exactly: the optimal denoiser of a mixture of Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

if TYPE_CHECKING:
    from evodiff.sampling import NoiseSchedule
    from evodiff.sampling.solver import Denoise


@dataclass(frozen=True)
class Mixture:
    """Equally likely Gaussians around ``means``, (components, pixels), of standard deviation ``spread``."""

    means: Tensor
    spread: float
    shape: tuple[int, int, int]

    def denoiser(self, schedule: NoiseSchedule) -> Denoise:
        """E[x_0 | x_t]: each component's posterior mean, weighted by its posterior probability."""

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            x = x_t.flatten(1).double()
            kept = schedule.alphas_cumprod[t[0]].item()
            alpha, variance = math.sqrt(kept), kept * self.spread**2 + 1 - kept
            posterior = torch.softmax(-(torch.cdist(x, alpha * self.means) ** 2) / (2 * variance), dim=1)
            mean = posterior @ self.means
            return (mean + alpha * self.spread**2 / variance * (x - alpha * mean)).to(x_t.dtype).view_as(x_t)

        return denoise

    def sample(self, count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        component = torch.randint(len(self.means), (count,), generator=generator)
        noise = torch.randn((count, self.means.shape[1]), generator=generator, dtype=torch.float64)
        return (self.means[component] + self.spread * noise).float().view(count, *self.shape)


@pytest.fixture(scope="session")
def mixture() -> Mixture:
    generator = torch.Generator().manual_seed(7)
    means = torch.rand((24, 32), generator=generator, dtype=torch.float64) * 2 - 1
    return Mixture(means, 0.15, (2, 4, 4))
