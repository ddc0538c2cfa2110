"""How long drawing images takes here, predicted; for time-outs, announcements and sizes of samples, not for scores."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evodiff.architecture.cost import flops, operations
from evodiff.architecture.graph import resolve
from evodiff.hardware.latency import predict_ms
from evodiff.pipeline.run import SLOWEST_FLOPS_PER_SECOND

if TYPE_CHECKING:
    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.pipeline.run import Run


def sampling_seconds(run: Run, genome: ArchitectureGenome, images: int, calls: int) -> float:
    """Predict how long ``images`` images take at ``calls`` calls of the network for each.

    From the operator times of the run where they are this machine's, else for any processor of these years.
    """
    resolved = resolve(genome, run.shape)
    batch = min(images, run.evaluation.batch_size)
    if run.calibration.measured:
        return math.ceil(images / batch) * calls * predict_ms(operations(resolved, batch), run.calibration) / 1000
    return flops(resolved) * images * calls / SLOWEST_FLOPS_PER_SECOND
