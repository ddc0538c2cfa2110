"""DPM-Solver++ 2M (Lu et al. 2022, arXiv:2211.01095, algorithm 2): the one sampler by which candidates are scored."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evodiff.sampling.spacing import spaced_timesteps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.sampling.noise import NoiseSchedule

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x_t of shape (n, channels, height, width), t of shape (n,), long) -> prediction of x_0, shaped like x_t."""


def scoring_timesteps(
    schedule: NoiseSchedule, steps: int = 10, *, sigma_min: float = 0.01, sigma_max: float = 80.0
) -> list[int]:
    """Distinct timesteps, falling, as uniform in log-SNR between two noise levels as whole numbers can be.

    The noise levels are σ_t/α_t; those beyond what the schedule has are clipped to it. Clipping at the noisy end
    is what makes ten steps serve a cosine schedule: its last timesteps span a factor of hundreds in sigma, which
    uniform steps in log-SNR over the whole schedule would spend four of ten evaluations on.

    Raises:
        SettingsError: the range holds fewer than ``steps`` timesteps.
    """
    return spaced_timesteps(schedule, steps, sigma_min=sigma_min, sigma_max=sigma_max)


def dpm_solver_pp_2m(denoise: Denoise, noise: Tensor, schedule: NoiseSchedule, timesteps: Sequence[int]) -> Tensor:
    """Solve the probability-flow ODE from pure noise at ``timesteps[0]`` to the clean image.

    1. D_i is the prediction of x_0 at timestep i, extrapolated over half a step from the one before (2M).
    2. Between timesteps the ODE is linear but for D_i and is solved exactly in λ = log(α/σ).
    3. The first step has no predecessor and is of first order; the last goes to σ = 0 and returns the prediction.

    Args:
        denoise: predicts the clean image; called ``len(timesteps)`` times.
        noise: (n, channels, height, width) standard normal; its dtype and device are those of the computation.
        schedule: the noise schedule that the denoiser was trained for.
        timesteps: strictly falling, such as :func:`scoring_timesteps` gives.

    Returns:
        The images, shaped like ``noise``, not clamped. The coefficients are computed in float64.
    """
    alphas_cumprod = [schedule.alphas_cumprod[timestep].item() for timestep in timesteps]
    alpha = [math.sqrt(kept) for kept in alphas_cumprod]
    sigma = [math.sqrt(1 - kept) for kept in alphas_cumprod]
    lambda_ = [math.log(a / s) for a, s in zip(alpha, sigma, strict=True)]
    x, previous = noise, None
    for i, timestep in enumerate(timesteps):
        current = denoise(x, torch.full((len(x),), timestep, dtype=torch.long, device=x.device))
        if i == len(timesteps) - 1:
            return current
        h = lambda_[i + 1] - lambda_[i]
        extrapolated = current
        if previous is not None:
            half_step = h / (2 * (lambda_[i] - lambda_[i - 1]))
            extrapolated = (1 + half_step) * current - half_step * previous
        x = (sigma[i + 1] / sigma[i]) * x - (alpha[i + 1] * math.expm1(-h)) * extrapolated
        previous = current
    raise ValueError("timesteps: expected at least one, found none")
