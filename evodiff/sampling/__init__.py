"""Sampling: noise schedules, the scoring sampler, and images from a network."""

from evodiff.sampling.generate import balanced_labels, denoiser, generate, initial_noise
from evodiff.sampling.noise import NoiseSchedule
from evodiff.sampling.solver import dpm_solver_pp_2m, scoring_timesteps
from evodiff.sampling.spacing import SPACINGS, Spacing, spaced_timesteps

__all__ = [
    "NoiseSchedule",
    "dpm_solver_pp_2m",
    "scoring_timesteps",
    "SPACINGS",
    "Spacing",
    "spaced_timesteps",
    "initial_noise",
    "balanced_labels",
    "denoiser",
    "generate",
]
