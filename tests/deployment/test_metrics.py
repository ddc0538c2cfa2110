"""What is counted and timed of requests, workers and the release."""

from __future__ import annotations

from typing import Any

import pytest

from evodiff.deployment.metrics import Metrics, batch_label
from evodiff.deployment.observation import Arm, Outcome, RatingObservation, RequestObservation, WorkerObservation


def request(outcome: Outcome = Outcome.OK, **changes: Any) -> RequestObservation:
    values: dict[str, Any] = {
        "request": "r1",
        "arm": Arm.STABLE,
        "version": "digits/0123456789abcdef",
        "client": "c1",
        "at": 1.0,
        "outcome": outcome,
        "compute_seconds": 0.2,
        "total_seconds": 0.3,
        "batch": 3,
        "steps": 10,
    }
    return RequestObservation(**{**values, **changes})


def worker(**changes: Any) -> WorkerObservation:
    values: dict[str, Any] = {"arm": Arm.STABLE, "version": "a/1", "at": 1.0, "alive": True, "rss_bytes": 1000}
    return WorkerObservation(**{**values, **changes})


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_every_arm_and_outcome_is_there_before_the_first_request() -> None:
    metrics = Metrics()
    for arm in Arm:
        for outcome in Outcome:
            assert value(metrics, "evodiff_requests_total", arm=arm, outcome=outcome) == 0


def test_a_request_is_counted_by_its_outcome_and_timed() -> None:
    metrics = Metrics()
    metrics.observe_request(request())
    metrics.observe_request(request(Outcome.FAILED, compute_seconds=0.0))
    assert value(metrics, "evodiff_requests_total", arm="stable", outcome="ok") == 1
    assert value(metrics, "evodiff_requests_total", arm="stable", outcome="failed") == 1
    assert value(metrics, "evodiff_request_duration_seconds_count", arm="stable") == 2
    assert value(metrics, "evodiff_request_compute_seconds_count", arm="stable") == 1
    assert value(metrics, "evodiff_denoiser_call_seconds_sum", arm="stable", batch="4") == pytest.approx(0.02)


def test_who_allows_more_than_is_usual_is_not_among_those_whose_wait_is_judged() -> None:
    metrics = Metrics()
    metrics.observe_request(request(patient=True))
    assert value(metrics, "evodiff_requests_total", arm="stable", outcome="ok") == 1
    assert value(metrics, "evodiff_request_duration_seconds_count", arm="stable") == 0
    assert value(metrics, "evodiff_request_compute_seconds_count", arm="stable") == 1


def test_what_a_client_caused_is_counted_but_never_timed() -> None:
    metrics = Metrics()
    metrics.observe_request(request(Outcome.REFUSED))
    assert value(metrics, "evodiff_requests_total", arm="stable", outcome="refused") == 1
    assert value(metrics, "evodiff_request_duration_seconds_count", arm="stable") == 0


def test_guided_requests_do_not_count_as_single_calls() -> None:
    metrics = Metrics()
    metrics.observe_request(request(guided=True))
    assert value(metrics, "evodiff_denoiser_call_seconds_count", arm="stable", batch="4") is None


def test_deaths_are_counted_once_and_a_new_version_starts_at_none() -> None:
    metrics = Metrics()
    for seen in (worker(), worker(deaths=1), worker(deaths=1), worker(version="a/2"), worker(version="a/2", deaths=2)):
        metrics.observe_worker(seen)
    assert value(metrics, "evodiff_worker_deaths_total", arm="stable") == 3


def test_a_worker_is_shown_as_it_is_now_and_not_at_all_once_it_is_gone() -> None:
    metrics = Metrics()
    metrics.observe_worker(worker(arm=Arm.CANARY, alive=False, in_flight_seconds=(0.5, 2.0)))
    assert value(metrics, "evodiff_worker_up", arm="canary") == 0
    assert value(metrics, "evodiff_oldest_in_flight_seconds", arm="canary") == 2.0
    metrics.forget_arm(Arm.CANARY)
    assert value(metrics, "evodiff_worker_up", arm="canary") is None
    assert value(metrics, "evodiff_in_flight_requests", arm="canary") == 0
    metrics.forget_arm(Arm.CANARY)


def test_the_release_says_who_has_a_role_and_nobodys_id_is_exported() -> None:
    metrics = Metrics()
    entry = {"run": "digits", "candidate": "feedfeedfeedfeed", "generation": 3}
    metrics.observe_request(request(version="digits/feedfeedfeedfeed", client="hashed-client", rollout="rollout-9"))
    metrics.observe_rating(RatingObservation("some-rater", Arm.STABLE, "digits/feedfeedfeedfeed", 4.0, 1.0))
    metrics.set_release({"revision": 7, "champion": entry, "pending": None}, weight=0.05, changed_at=12.5)
    metrics.count_decision("promote")
    assert value(metrics, "evodiff_release_revision") == 7
    assert value(metrics, "evodiff_release_role_filled", role="champion") == 1
    assert value(metrics, "evodiff_release_role_filled", role="pending") == 0
    assert value(metrics, "evodiff_release_canary_weight_ratio") == 0.05
    text = metrics.render().decode()
    for identifier in ("feedfeed", "hashed-client", "some-rater", "rollout-9", "r1"):
        assert identifier not in text


def test_labels_of_batches_are_few() -> None:
    assert {batch_label(images) for images in range(1, 1000)} == {"1", "2", "4", "8", "16", "more"}
    assert batch_label(8) == "8"
    assert batch_label(9) == "16"
