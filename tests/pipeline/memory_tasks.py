"""What the test of memory limits has workers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evodiff.workers import WorkerContext


def fill_tensor(payload: dict[str, Any], context: WorkerContext) -> dict[str, Any]:
    import torch

    return {"megabytes": torch.ones(int(payload["megabytes"]) * 250_000).nbytes / 1e6}
