"""Feedback records keep what is plausible and refuse the rest."""

from __future__ import annotations

import json

import pytest

from evodiff import DeploymentFeedback
from evodiff.errors import SettingsError


def test_feedback_survives_json() -> None:
    feedback = DeploymentFeedback("run/0123456789abcdef", (5, 3.5), {"latency_p99_ms": 8.1}, False, ("out of memory",))
    assert DeploymentFeedback.from_json(json.loads(json.dumps(feedback.to_json()))) == feedback


@pytest.mark.parametrize("rating", [0, 5.5, float("nan")])
def test_a_rating_off_the_scale_is_refused(rating: float) -> None:
    with pytest.raises(SettingsError, match="1 to 5"):
        DeploymentFeedback("run/0123456789abcdef", (rating,))


def test_a_metric_that_is_no_number_is_named() -> None:
    with pytest.raises(SettingsError, match="latency_p99_ms"):
        DeploymentFeedback("run/0123456789abcdef", performance_metrics={"latency_p99_ms": float("inf")})
