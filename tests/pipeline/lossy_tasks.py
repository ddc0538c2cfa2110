"""Stand-ins for what workers prepare and measure: one process is killed, another task fails by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

from evodiff.errors import TrialFailure
from evodiff.workers import WorkerContext


def be_killed(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """End as the system ends a process when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def fail(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Fail for a reason that stays."""
    raise TrialFailure("non_finite", "the loss is not a number")
