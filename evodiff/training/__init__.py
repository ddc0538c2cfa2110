"""Training: denoising training of one trial, its checkpoints, and the weights it publishes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evodiff.training.checkpoint import load_checkpoint, save_checkpoint
    from evodiff.training.digests import weights_digest
    from evodiff.training.loop import TrainingResult, train
    from evodiff.training.state import TrainingState
    from evodiff.training.weights import load_weights, save_weights

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

# Imported when asked for: who only asks whether weights are whole needs no torch.
_HOMES = {
    "train": "loop",
    "TrainingResult": "loop",
    "TrainingState": "state",
    "save_weights": "weights",
    "load_weights": "weights",
    "weights_digest": "digests",
    "save_checkpoint": "checkpoint",
    "load_checkpoint": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
