"""Latency as it is where a run's candidates serve: one factor of what was predicted, applied when it is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from evodiff.engine.layout import input_name
from evodiff.engine.ratings import PRODUCTION, read_joined

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.pipeline.run import Run


def latency_factor(run: Run) -> float:
    """Return measured over predicted latency of the run's candidates in production, 1 where that is not known.

    It is what the last closed generation joined; a run whose target is not the device that serves has none.

    Raises:
        LedgerError: what was joined was changed since.
    """
    generation = run.ledger.closed - 1
    named = (run.ledger.result(generation) or {}).get("inputs") or {} if generation >= 0 else {}
    if PRODUCTION not in named:
        return 1.0
    read_joined(run.ledger, generation, named)
    content = json.loads(run.ledger.read(input_name(generation, PRODUCTION)) or b"{}")
    return float(content.get("latency_factor") or 1.0)


def as_served(objectives: Mapping[str, float], factor: float) -> dict[str, float]:
    """Return objectives with the latency as it is where they are served."""
    return {name: value * factor if name == "latency_ms" else value for name, value in objectives.items()}
