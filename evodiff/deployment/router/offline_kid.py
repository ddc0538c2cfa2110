"""A process that judges the images of a smoke test by the feature net and the validation images of their run.

``python -m evodiff.deployment.router.offline_kid JSON`` reads the images from its standard input, uint8 (n, height,
width, channels), and prints ``[kid, standard error]``, or ``null`` where the run's inputs are not at hand.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def offline_kid(run_folder: Path, images: NDArray[np.uint8]) -> tuple[float, float] | None:
    """Return KID of images to the run's validation images, and its standard error; None where they are not at hand."""
    import torch

    from evodiff.data.dataset import scale
    from evodiff.evaluation.kid import kid
    from evodiff.evaluation.score import scoring_inputs
    from evodiff.pipeline.run import Run

    torch.set_num_threads(1)
    try:
        run = Run.open(run_folder)
        inputs = scoring_inputs(run.dataset(), run.feature_net())
    except (EvodiffError, OSError, ValueError):
        return None
    pixels = torch.from_numpy(scale(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
    estimate = kid(inputs.feature_net.features(pixels), inputs.features)
    return estimate.value, estimate.standard_error


def main() -> None:
    """Judge the images on standard input."""
    request = json.loads(sys.argv[1])
    os.nice(request["niceness"])
    images = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(request["shape"])
    print(json.dumps(offline_kid(Path(request["run_folder"]), images)))


if __name__ == "__main__":
    main()
