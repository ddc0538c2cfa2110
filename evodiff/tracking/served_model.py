"""The code of a registered model: MLflow copies this file into the model and runs it when the model is loaded.

A request is a row with ``count``, ``seed``, ``label``, ``steps`` and ``guidance``, each of which may be left out; the
answer is the images of all rows, uint8 (n, height, width, channels). The same request has the same answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd  # noqa: TC002 - MLflow reads the annotations
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from evodiff.errors import SettingsError
from evodiff.pipeline.export import load_pipeline, sample_pipeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_IMAGES = 1024  # of one row
MOST_STEPS = 100  # a solver of ordinary differential equations gains nothing by more
DEFAULTS = {"count": 1, "seed": 0, "label": None, "steps": 20, "guidance": 1.0}


class ServedPipeline(PythonModel):
    """An :class:`~evodiff.architecture.pipeline.EvolvedPipeline` behind MLflow's predict."""

    def load_context(self, context: Any) -> None:
        """Read the pipeline from the model's artifacts."""
        self._pipeline = load_pipeline(Path(context.artifacts["pipeline"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        """Generate the images that the rows of a data frame ask for.

        Raises:
            SettingsError: a row asks for something that the model cannot do.
        """
        return np.concatenate([self._images(row) for row in model_input.to_dict(orient="records")])

    def _images(self, row: dict[str, Any]) -> NDArray[np.uint8]:
        given = {name: value for name, value in row.items() if value is not None and value == value}  # not NaN
        request: dict[str, Any] = {**DEFAULTS, **given}
        bounded = 1 <= request["count"] <= MOST_IMAGES and 2 <= request["steps"] <= MOST_STEPS
        if not bounded or request["seed"] < 0:
            raise SettingsError(
                f"Not a request: expected 1 to {MOST_IMAGES} images, a seed from 0, at least 2 steps and at most "
                f"{MOST_STEPS}, found {given}.",
                remedy="Correct the row, or ask for more images in several rows.",
            )
        label = request["label"]
        try:
            return sample_pipeline(
                self._pipeline,
                int(request["count"]),
                label=None if label is None else int(label),
                seed=int(request["seed"]),
                steps=int(request["steps"]),
                guidance=float(request["guidance"]),
            )
        except ValueError as error:
            raise SettingsError(f"Not a request: {error}", remedy="Correct the row.") from error


set_model(ServedPipeline())
