"""What an analysis is told is checked before anything is released by it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evodiff.deployment.analysis.options import AnalysisOptions, GuardLimits, check_steps
from evodiff.errors import SettingsError


def test_a_misspelt_metric_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(SettingsError, match=r"found latencies.*Did you mean latency"):
        AnalysisOptions(metrics=("latencies", "errors"))


def test_a_misspelt_limit_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(SettingsError, match=r"found error_ration.*Did you mean error_ratio"):
        GuardLimits.from_mapping({"error_ration": 0.1})


def test_an_advisory_metric_cannot_be_made_to_decide() -> None:
    with pytest.raises(SettingsError, match="advice"):
        AnalysisOptions(metrics=("latency", "kid"))


@pytest.mark.parametrize(
    "values",
    [
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"alpha": float("nan")},
        {"min_samples": 0},
        {"soft_from": 100.0},
        {"step_seconds": 0.0},
        {"block_seconds": float("inf")},
        {"latency_margin": -0.1},
        {"latency_margin": 0.0},
        {"latency_alternative": 0.1},
        {"rating_margin": 4.0},
        {"rating_alternative": 0.25},
        {"metrics": ("latency", "latency")},
        {"metrics": "latency"},
        {"metrics": [1]},
        {"min_samples": "100"},
        {"min_samples": 100.5},
        {"early_pass": 1},
        {"alpha": True},
        {"alpha": None},
    ],
)
def test_values_that_cannot_be_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        AnalysisOptions.from_mapping(values)


@pytest.mark.parametrize(
    "values", [{"error_ratio": 1.1}, {"p99_seconds": -1.0}, {"rss_factor": 0.5}, {"rss_factor": "2"}]
)
def test_limits_that_cannot_be_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        GuardLimits.from_mapping(values)


def test_a_limit_of_zero_is_kept() -> None:
    assert GuardLimits.from_mapping({"error_ratio": 0.0, "p99_seconds": 0}).error_ratio == 0.0


def test_alpha_is_split_over_the_metrics_that_are_tested() -> None:
    assert AnalysisOptions(alpha=0.06).alpha_per_metric == pytest.approx(0.02)
    assert AnalysisOptions(alpha=0.06, metrics=("errors",)).alpha_per_metric == 0.06
    assert AnalysisOptions.from_mapping({"metrics": []}).metrics == ()


@pytest.mark.parametrize("steps", [(100,), (1, 5, 20, 50, 100), (0, 7, 100), (33, 34.5, 99.9, 100), (0.1, 100)])
def test_steps_need_not_divide_one_another(steps: tuple[float, ...]) -> None:
    assert check_steps(steps) == steps


@pytest.mark.parametrize(
    "steps", [(), (5, 50), (5, 5, 100), (50, 5, 100), (-1, 100), (5, 101), (float("nan"), 100), (0,)]
)
def test_steps_that_do_not_ascend_to_a_hundred_are_refused(steps: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match="Steps of a rollout"):
        check_steps(steps)


@given(st.sets(st.floats(0.0, 99.99), max_size=8))
def test_any_ascending_steps_to_a_hundred_will_do(percents: set[float]) -> None:
    assert check_steps([*sorted(percents), 100]) == (*sorted(percents), 100.0)
