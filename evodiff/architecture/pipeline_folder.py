"""Writing trained weights as a pipeline folder of diffusers, without importing torch or diffusers.

Both take seconds to import, and every generation registers models. What is written is what
:class:`~evodiff.architecture.pipeline.EvolvedPipeline` saves, but that the scheduler's configuration names only the
settings that are not diffusers' defaults.
"""

from __future__ import annotations

import importlib.metadata
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from evodiff.architecture.genome import ImageShape
    from evodiff.settings import NoiseScheduleName, Prediction

# DiffusionPipeline.from_pretrained knows only pipelines of diffusers itself, so this is the one a saved folder names.
# It samples without labels or guidance, from the same noise; EvolvedPipeline.from_pretrained ignores the name.
STOCK_PIPELINE: Final = "DDPMPipeline"
SCHEDULER: Final = "DPMSolverMultistepScheduler"
WEIGHTS: Final = "diffusion_pytorch_model.safetensors"

# The lu spacing is the strongest at few steps, but on the cosine schedule nearly all its steps are at the noisy end.
_SCHEDULES: Final[dict[str, dict[str, Any]]] = {
    "linear": {"beta_schedule": "linear", "use_lu_lambdas": True},
    "scaled_linear": {"beta_schedule": "scaled_linear", "use_lu_lambdas": True},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"},
}


def scheduler_settings(prediction: Prediction, noise_schedule: NoiseScheduleName) -> dict[str, Any]:
    """Return the arguments of DPM++ 2M over the 1000 timesteps of the named noise schedule.

    Betas of ``linear`` and ``scaled_linear`` run from 1e-4 to 0.02, as in training.
    """
    return {
        "num_train_timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "prediction_type": prediction,
        **_SCHEDULES[noise_schedule],
    }


def write_pipeline_folder(
    folder: Path,
    weights: Mapping[str, np.ndarray],
    genome: Mapping[str, Any],
    shape: ImageShape,
    *,
    prediction: Prediction,
    noise_schedule: NoiseScheduleName,
) -> None:
    """Write model, scheduler and index into ``folder``, which is made where it is missing.

    Args:
        weights: the state of the network, by name as in :class:`~evodiff.architecture.network.EvolvedNetwork`.
        genome: the genome's own JSON.
    """
    from safetensors.numpy import save_file

    model = {
        "_class_name": "EvolvedUNet2DModel",
        "genome": dict(genome),
        "sample_size": shape.size,
        "in_channels": shape.channels,
        "out_channels": shape.channels,
        "classes": shape.classes,
    }
    scheduler = {"_class_name": SCHEDULER, **scheduler_settings(prediction, noise_schedule)}
    index = {
        "_class_name": STOCK_PIPELINE,
        "unet": ["evodiff.models", "EvolvedUNet2DModel"],
        "scheduler": ["diffusers", SCHEDULER],
    }
    for name, content in {
        "unet/config.json": model,
        "scheduler/scheduler_config.json": scheduler,
        "model_index.json": index,
    }.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        content["_diffusers_version"] = importlib.metadata.version("diffusers")
        file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    named = {f"network.{name}": array for name, array in weights.items()}
    save_file(named, folder / "unet" / WEIGHTS, metadata={"format": "pt"})
