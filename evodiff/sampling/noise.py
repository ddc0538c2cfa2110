"""Noise schedules of discrete-time diffusion, and the conversions between what a network may predict.

Symbols as in Song et al. (2021) and Salimans & Ho (2022): x_t = α_t·x_0 + σ_t·ε with α_t = √ᾱ_t and σ_t = √(1 - ᾱ_t).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from evodiff.settings import NoiseScheduleName, Prediction

SCHEDULES: tuple[NoiseScheduleName, ...] = ("linear", "scaled_linear", "cosine")


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """How much noise each of the timesteps 0 .. T-1 holds.

    ``betas`` and ``alphas_cumprod`` (ᾱ) are (T,) float64 tensors on the CPU; ``signal`` (α) and ``noise`` (σ) are
    (T,) float32 tensors rounded from float64, on the device where the schedule is used (:meth:`to` moves them).

    The methods take x_0, noise and x_t of shape (batch, channels, height, width) and t, a (batch,) long tensor, all on
    the device of the schedule, and compute in float32.
    """

    name: NoiseScheduleName
    betas: Tensor
    alphas_cumprod: Tensor
    signal: Tensor
    noise: Tensor

    @classmethod
    def named(cls, name: NoiseScheduleName, timesteps: int = 1000) -> NoiseSchedule:
        """Build the schedule that diffusers' ``DDPMScheduler`` has by default under that name.

        ``linear`` (Ho et al. 2020) runs from 1e-4 to 0.02 and ``scaled_linear`` (Rombach et al. 2022) does so in the
        square root; both reach the usual noise with 1000 timesteps only. ``cosine`` is that of Nichol & Dhariwal
        (2021), ``squaredcos_cap_v2`` in diffusers.

        Raises:
            SettingsError: there is no schedule of that name.
        """
        betas = _betas(name, timesteps).double()
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        return cls(name, betas, alphas_cumprod, alphas_cumprod.sqrt().float(), (1 - alphas_cumprod).sqrt().float())

    @property
    def timesteps(self) -> int:
        """Number of timesteps, T."""
        return len(self.betas)

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratios ᾱ / (1 - ᾱ), a (timesteps,) float64 tensor on the CPU."""
        return self.alphas_cumprod / (1 - self.alphas_cumprod)

    def to(self, device: str | torch.device) -> NoiseSchedule:
        """Return the schedule with its float32 tables on ``device``."""
        return NoiseSchedule(self.name, self.betas, self.alphas_cumprod, self.signal.to(device), self.noise.to(device))

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Diffuse: x_t = α_t·x_0 + σ_t·ε."""
        return self._alpha(t) * x0 + self._sigma(t) * noise

    def velocity(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """v_t = α_t·ε - σ_t·x_0 (Salimans & Ho 2022, section 4)."""
        return self._alpha(t) * noise - self._sigma(t) * x0

    def target(self, prediction: Prediction, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What a network of that prediction type should say."""
        return noise if prediction == "epsilon" else self.velocity(x0, noise, t)

    def to_x0(self, prediction: Prediction, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Turn a network's output into its prediction of the clean image."""
        if prediction == "epsilon":
            return (x_t - self._sigma(t) * output) / self._alpha(t)
        return self._alpha(t) * x_t - self._sigma(t) * output

    def _alpha(self, t: Tensor) -> Tensor:
        return self.signal[t].view(-1, 1, 1, 1)

    def _sigma(self, t: Tensor) -> Tensor:
        return self.noise[t].view(-1, 1, 1, 1)


def _betas(name: str, timesteps: int) -> Tensor:
    """(T,) float32: rounded there, where diffusers rounds, so that an exported model sees the very same noise."""
    if name == "linear":
        return torch.linspace(1e-4, 0.02, timesteps, dtype=torch.float32)
    if name == "scaled_linear":
        return torch.linspace(1e-4**0.5, 0.02**0.5, timesteps, dtype=torch.float32).square()
    if name == "cosine":
        kept = [math.cos((step / timesteps + 0.008) / 1.008 * math.pi / 2) ** 2 for step in range(timesteps + 1)]
        betas = [min(1 - after / before, 0.999) for before, after in itertools.pairwise(kept)]
        return torch.tensor(betas, dtype=torch.float32)
    raise SettingsError(
        f"Noise schedule: expected one of {', '.join(SCHEDULES)}, found {name!r}.",
        remedy="Set training.noise_schedule to one of them.",
    )
