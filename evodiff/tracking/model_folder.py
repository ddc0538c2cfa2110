"""A candidate as a folder that both MLflow and diffusers load: safetensors, JSON, YAML and one file of code."""

from __future__ import annotations

import importlib.metadata
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evodiff.engine.experiment import code_version
from evodiff.pipeline.export import export_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.pipeline.run import Run

PIPELINE: Final = "pipeline"
CODE: Final = Path(__file__).with_name("served_model.py")
_REQUIRED = ("diffusers", "mlflow", "numpy", "safetensors", "torch")


def write_model(run: Run, weights: Path, folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write the network of a folder of weights into the new ``folder``; its ``artifacts/pipeline`` is diffusers'.

    Raises:
        LedgerError: the weights are missing or damaged.
    """
    import mlflow.pyfunc

    pipeline = folder.with_name(PIPELINE)
    export_weights(run, weights, pipeline)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*input example.*", UserWarning)  # the signature is given
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(CODE),
            artifacts={PIPELINE: str(pipeline)},
            signature=_signature(run),
            pip_requirements=[f"evodiff-pipeline=={code_version()}", *map(_pinned, _REQUIRED)],
            metadata=dict(metadata),
        )


def _signature(run: Run) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    columns = {"count": "long", "seed": "long", "label": "long", "steps": "long", "guidance": "double"}
    images = (-1, run.shape.size, run.shape.size, run.shape.channels)
    return ModelSignature(
        Schema([ColSpec(kind, name, required=False) for name, kind in columns.items()]),
        Schema([TensorSpec(np.dtype(np.uint8), images)]),
    )


def _pinned(package: str) -> str:
    # A local build's suffix, such as +cpu, names a wheel that no other machine has.
    return f"{package}=={importlib.metadata.version(package).partition('+')[0]}"
