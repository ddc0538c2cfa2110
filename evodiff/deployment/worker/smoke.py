"""What a worker does with a version before it may answer: finite images that are not blank, in all kinds of batches."""

from __future__ import annotations

import resource
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from evodiff.deployment.smoke_report import SMOKE_STEPS, SmokeTestFailure
from evodiff.deployment.worker.pixels import blank, finite, to_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evodiff.deployment.worker.served_network import ServedNetwork

SMOKE_GUIDANCE = 2.0


def smoke_test(network: ServedNetwork, *, max_batch: int, images: int) -> tuple[dict[str, Any], bytes]:
    """Generate images as requests will: alone, in whole batches, and guided where there are classes.

    Returns:
        ``peak_rss_bytes`` of the process, ``batch_seconds`` of a whole batch of :data:`SMOKE_STEPS`, what the network
        is, and the images of seeds 0, 1, ... with the classes in turn as bytes, (``images``, height, width, channels).

    Raises:
        SmokeTestFailure: an image is blank or not finite.
    """
    _judge(_sample(network, 0, 1), "alone")
    if network.classes:
        _judge(_sample(network, 0, max_batch, guidance=SMOKE_GUIDANCE), "with guidance")
    drawn, seconds = [], []
    for first in range(0, images, max_batch):
        started = time.perf_counter()
        drawn.append(_sample(network, first, min(max_batch, images - first)))
        seconds.append(time.perf_counter() - started)
        _judge(drawn[-1], "in a batch")
    shape = network.network.shape
    report = {
        "peak_rss_bytes": peak_rss_bytes(),
        "batch_seconds": sorted(seconds)[len(seconds) // 2],
        "images": images,
        "image_shape": [shape.size, shape.size, shape.channels],
        "classes": shape.classes,
        "parameters": sum(parameter.numel() for parameter in network.network.parameters()),
    }
    return report, to_bytes(np.concatenate(drawn)).tobytes()


def peak_rss_bytes() -> int:
    """Return the most memory that this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _sample(network: ServedNetwork, first: int, count: int, *, guidance: float = 1.0) -> NDArray[np.float32]:
    labels = [index % network.classes for index in range(first, first + count)] if network.classes else None
    return network.sample(range(first, first + count), labels, steps=SMOKE_STEPS, guidance=guidance).numpy()


def _judge(images: NDArray[np.float32], how: str) -> None:
    for what, bad in (("not finite", [not fine for fine in finite(images)]), ("blank", blank(images))):
        if any(bad):
            raise SmokeTestFailure(
                f"Smoke test: expected images that are finite and not blank, found {sum(bad)} of {len(bad)} {what} "
                f"{how}.",
                remedy="Train it longer or release another candidate.",
            )
