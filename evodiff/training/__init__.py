"""Training: denoising training of one trial, its checkpoints, and the weights it publishes."""

from evodiff.training.checkpoint import load_checkpoint, save_checkpoint
from evodiff.training.loop import TrainingResult, train
from evodiff.training.state import TrainingState
from evodiff.training.weights import load_weights, save_weights, weights_digest

__all__ = [
    "train",
    "TrainingResult",
    "TrainingState",
    "save_weights",
    "load_weights",
    "weights_digest",
    "save_checkpoint",
    "load_checkpoint",
]
