"""Workers: processes that run named functions, so that one trial's crash is that trial's failure and nothing else's."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evodiff.workers.context import WorkerContext
    from evodiff.workers.device import choose_device
    from evodiff.workers.pool import WorkerPool
    from evodiff.workers.task import Outcome, Task

__all__ = [
    "Task",
    "Outcome",
    "WorkerPool",
    "WorkerContext",
    "choose_device",
]

# Imported when asked for: a worker process needs none of what the pool imports.
_HOMES = {
    "Task": "task",
    "Outcome": "task",
    "WorkerPool": "pool",
    "WorkerContext": "context",
    "choose_device": "device",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
