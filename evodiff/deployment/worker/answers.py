"""From a batch to the frames that answer its requests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from evodiff.data.png import encode_png
from evodiff.deployment.worker.frames import Frame
from evodiff.deployment.worker.pixels import blank, finite, to_bytes
from evodiff.deployment.worker.sheets import label_of, sheet

if TYPE_CHECKING:
    from collections.abc import Callable

    from evodiff.deployment.worker.batching import Job
    from evodiff.deployment.worker.served_network import ServedNetwork


def compute(network: ServedNetwork, batch: list[tuple[Job, int]], alive: Callable[[], None] = lambda: None) -> None:
    """Generate the images of a batch, and hand them, with the seconds it took, to their requests; meanwhile call
    ``alive`` at each step.
    """
    started = time.perf_counter()
    steps, guidance = batch[0][0].key
    seeds = [job.seed + index for job, index in batch]
    labels = (
        [label_of(job.label, job.seed + index, network.classes) for job, index in batch] if network.classes else None
    )
    images = network.sample(seeds, labels, steps=steps, guidance=guidance, alive=alive).numpy()
    seconds = time.perf_counter() - started
    for (job, _), image in zip(batch, images, strict=True):
        job.images.append(image)
    for job in {id(job): job for job, _ in batch}.values():
        job.compute_seconds += seconds
        job.last_seconds, job.last_batch = seconds, len(batch)


def answer(job: Job) -> Frame:
    """Return the answer to a request whose images are all there.

    ``status`` is ``ok``, ``blank`` or ``not_finite``; images follow as PNG unless one is not finite: one sheet of all,
    row by row, or with ``png`` false one PNG an image, of ``sizes`` bytes each. What was neither computing nor encoding
    is ``queue_seconds``.
    """
    images = np.stack(job.images)
    started = time.perf_counter()
    status, parts = "not_finite", []
    if all(finite(images)):
        status = "blank" if any(blank(images)) else "ok"
        pixels = to_bytes(images)
        parts = [encode_png(sheet(pixels))] if job.png else [encode_png(image) for image in pixels]
    encode_seconds = time.perf_counter() - started
    waited = time.monotonic() - job.arrived - job.compute_seconds - encode_seconds
    header: dict[str, Any] = {
        "kind": "done",
        "id": job.id,
        "status": status,
        "sizes": [len(part) for part in parts],
        "queue_seconds": max(waited, 0.0),
        "compute_seconds": job.compute_seconds,
        "encode_seconds": encode_seconds,
        "batch_seconds": job.last_seconds,
        "batch": job.last_batch,
    }
    return Frame(header, b"".join(parts))
