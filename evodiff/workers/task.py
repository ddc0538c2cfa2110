"""A task for the worker pool, and what came of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.engine.candidate import Failure

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Task:
    """Call ``function``, named "package.module:name", as function(payload, context) in a worker.

    ``payload`` is JSON, and so must be the dictionary that the function returns. ``predicted_seconds`` decides the
    order (longest first) and the time-out.
    """

    id: str
    function: str
    payload: Mapping[str, Any]
    predicted_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not _FUNCTION.fullmatch(self.function):
            raise ValueError(f'Task {self.id}: expected a function as "package.module:name", found {self.function!r}.')


@dataclass(frozen=True)
class Outcome:
    """What came of a task: a ``value``, a ``failure``, or neither where it was ``interrupted`` by a stop.

    ``seconds`` counts from handing the task over; ``worker`` is the number of the pool's place that ran it, -1 where
    the task was never started.
    """

    id: str
    value: dict[str, Any] | None
    failure: Failure | None
    seconds: float
    worker: int
    interrupted: bool = False
