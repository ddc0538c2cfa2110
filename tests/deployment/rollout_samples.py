"""Observations of a rollout that tests make by hand."""

from __future__ import annotations

from itertools import count
from typing import Any

from evodiff.deployment.analysis.rollout_analysis import RolloutAnalysis
from evodiff.deployment.observation import Arm, Outcome, RatingObservation, RequestObservation, WorkerObservation

_numbers = count()


def request(arm: Arm = Arm.CANARY, outcome: Outcome = Outcome.OK, **values: Any) -> RequestObservation:
    """Return a request of rollout "r", whose canary is "new/1"."""
    known: dict[str, Any] = {
        "request": f"q{next(_numbers)}",
        "version": "new/1" if arm is Arm.CANARY else "old/7",
        "client": "anyone",
        "at": 0.0,
        "compute_seconds": 0.1,
        "total_seconds": 0.2,
        "rollout": "r",
    }
    return RequestObservation(arm=arm, outcome=outcome, **{**known, **values})


def rating(arm: Arm, value: float, rater: str = "anyone", at: float = 0.0) -> RatingObservation:
    """Return a rating of rollout "r"."""
    return RatingObservation(rater, arm, "new/1" if arm is Arm.CANARY else "old/7", value, at, "r")


def worker(arm: Arm = Arm.CANARY, **values: Any) -> WorkerObservation:
    """Return a worker that is well."""
    known: dict[str, Any] = {
        "version": "new/1" if arm is Arm.CANARY else "old/7",
        "at": 0.0,
        "alive": True,
        "rss_bytes": 1000,
    }
    return WorkerObservation(arm=arm, **{**known, **values})


def analysis(*arguments: Any, **values: Any) -> RolloutAnalysis:
    """Return an analysis of rollout "r", whose canary is "new/1"."""
    return RolloutAnalysis(*arguments, **{"rollout": "r", "version": "new/1", "smoke_peak_bytes": 1000, **values})
