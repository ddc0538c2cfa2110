"""What a function that runs in a worker is given beside its payload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class WorkerContext:
    """``device`` is "mps", "cuda" or "cpu"; ``report`` sends JSON to the pool's ``on_progress``; ``should_stop`` says
    whether to leave a checkpoint and raise :class:`evodiff.errors.Interrupted`."""

    device: str
    report: Callable[[dict[str, Any]], None]
    should_stop: Callable[[], bool]
