"""The denoising loss: squared error of the prediction, weighted by min-SNR."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from evodiff.sampling.noise import NoiseSchedule
    from evodiff.settings import Prediction


def min_snr_weights(schedule: NoiseSchedule, prediction: Prediction, gamma: float) -> Tensor:
    """Return the weight of the squared error at each timestep, a (timesteps,) float32 tensor on the CPU.

    Hang et al. (2023, Efficient Diffusion Training via Min-SNR Weighting Strategy, section 3.4) weigh the error of the
    predicted x_0 by min(SNR, γ). The error of a predicted noise is SNR times that of x_0, of a predicted velocity
    SNR + 1 times, so the weights are min(SNR, γ) / SNR and min(SNR, γ) / (SNR + 1).
    """
    snr = schedule.snr
    clipped = snr.clamp(max=gamma)
    return (clipped / snr if prediction == "epsilon" else clipped / (snr + 1)).float()


def weighted_error(output: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over the batch of each image's mean squared error times its weight, a scalar.

    ``output`` and ``target`` are (batch, channels, height, width), ``weights`` is (batch,).
    """
    errors = torch.square(output - target).mean(dim=(1, 2, 3))
    return torch.dot(errors, weights) / len(weights)
