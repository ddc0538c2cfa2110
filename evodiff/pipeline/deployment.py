"""What deployment says of a run's candidates: taken into a generation when it opens, read once that is closed.

Votes enter fitness in the engine (:mod:`evodiff.engine.ratings`). Measured latency is read here, as one factor of what
was predicted, where the run's target is the device that serves.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

from evodiff.engine.layout import input_name
from evodiff.engine.ratings import PRODUCTION, read_joined
from evodiff.errors import EvodiffError
from evodiff.pipeline.release import read_release
from evodiff.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.pipeline.run import Run


def record_deployment(run: Run, generation: int) -> None:
    """Take what the service's store holds on a run into a generation, unless it was; nothing where there is no store.

    A search does not wait for a store that cannot be read: that is warned of, and nothing is taken.
    """
    settings = load_settings({})
    if not settings.feedback_store.exists():
        return
    from evodiff.deployment.feedback_store import FeedbackStore
    from evodiff.deployment.snapshot import snapshot_deployment

    try:
        champion = read_release(settings.release_file)["champion"]
        reference = None if champion is None else f"{champion['run']}/{champion['candidate']}"
        with FeedbackStore(settings.feedback_store) as store:
            snapshot_deployment(run, generation, store, reference=reference, fewest=settings.min_raters)
    except EvodiffError as error:
        warnings.warn(f"{run.name}: generation {generation} joins no votes: {error}", stacklevel=2)


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


def as_served(objectives: Mapping[str, float], factor: float) -> dict[str, Any]:
    """Return objectives with the latency as it is where they are served."""
    return {name: value * factor if name == "latency_ms" else value for name, value in objectives.items()}
