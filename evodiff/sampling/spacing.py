"""Where a sampler takes its steps: timesteps between two noise levels, spaced in one of several ways."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch

from evodiff.errors import SettingsError
from evodiff.sampling.noise import SCHEDULES, NoiseSchedule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evodiff.settings import NoiseScheduleName

    Floats = NDArray[np.float64]

Spacing = Literal["log_snr", "karras", "linear", "scaled_linear", "cosine"]
SPACINGS: Final[tuple[Spacing, ...]] = ("log_snr", "karras", *SCHEDULES)

_KARRAS_RHO = 7.0


def spaced_timesteps(
    schedule: NoiseSchedule,
    steps: int,
    spacing: Spacing = "log_snr",
    *,
    sigma_min: float = 0.01,
    sigma_max: float = 80.0,
) -> list[int]:
    """Return ``steps`` distinct timesteps of ``schedule``, falling, between two noise levels.

    The noise levels σ_t/α_t are placed, as nearly as whole timesteps can be,

    ``log_snr``: evenly in log-SNR;
    ``karras``: evenly in σ^(1/7), which spends more steps on low noise (Karras et al. 2022, equation 5);
    ``linear``, ``scaled_linear``, ``cosine``: where even timesteps of that noise schedule have them. With the
    schedule's own name these are even timesteps, as DDIM (Song et al. 2021) takes them.

    ``sigma_min`` and ``sigma_max`` are clipped to what the schedules have.

    Raises:
        SettingsError: there is no such spacing, or the range holds fewer than ``steps`` timesteps.
    """
    log_sigma = _log_sigma(schedule)
    noisiest, cleanest = min(math.log(sigma_max), log_sigma[-1]), max(math.log(sigma_min), log_sigma[0])
    index = np.arange(len(log_sigma))
    highest, lowest = (round(float(np.interp(level, log_sigma, index))) for level in (noisiest, cleanest))
    if not 2 <= steps <= highest - lowest + 1:
        raise SettingsError(
            f"Sampler steps: expected 2 to {highest - lowest + 1} for sigma {sigma_min:g} to {sigma_max:g} of the "
            f"{schedule.name} schedule, found {steps}.",
            remedy="Take another number of steps or a wider range of sigma.",
        )
    levels = _levels(spacing, steps, noisiest, cleanest)
    timesteps = np.interp(levels, log_sigma, index).round().astype(int)
    # Where whole timesteps are scarcer than levels, a level takes the next free one, and none leaves the range.
    rank = np.arange(steps)
    timesteps = np.maximum.accumulate((timesteps + rank)[::-1])[::-1] - rank
    timesteps = np.minimum.accumulate(np.minimum(timesteps, highest) + rank) - rank
    return [int(timestep) for timestep in timesteps]


def _levels(spacing: str, steps: int, noisiest: float, cleanest: float) -> Floats:
    """(steps,) falling values of log σ, from the noisiest to the cleanest."""
    if spacing == "log_snr":
        return np.linspace(noisiest, cleanest, steps)
    if spacing == "karras":
        first, last = (math.exp(level / _KARRAS_RHO) for level in (noisiest, cleanest))
        return _KARRAS_RHO * np.log(np.linspace(first, last, steps))
    if spacing not in SCHEDULES:
        raise SettingsError(
            f"Spacing of the sampler's steps: expected one of {', '.join(SPACINGS)}, found {spacing!r}.",
            remedy="Take one of them.",
        )
    name: NoiseScheduleName = spacing
    log_sigma = _log_sigma(NoiseSchedule.named(name))
    index = np.arange(len(log_sigma))
    first, last = (float(np.interp(level, log_sigma, index)) for level in (noisiest, cleanest))
    return np.interp(np.linspace(first, last, steps), index, log_sigma)


def _log_sigma(schedule: NoiseSchedule) -> Floats:
    """(T,) rising: the logarithm of σ_t/α_t."""
    found: Floats = 0.5 * (torch.log1p(-schedule.alphas_cumprod) - torch.log(schedule.alphas_cumprod)).numpy()
    return found
