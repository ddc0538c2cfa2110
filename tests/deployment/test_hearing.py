"""What the serving process hears is told to metrics, store and galleries."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from evodiff.deployment.analysis.quality_advice import QualityObservation
from evodiff.deployment.feedback.gallery import gallery_of
from evodiff.deployment.feedback.store import FeedbackStore
from evodiff.deployment.metrics import Metrics
from evodiff.deployment.observation import Arm, Outcome, RatingObservation, RequestObservation, WorkerObservation
from evodiff.deployment.release.state import ReleaseState, decide
from evodiff.deployment.router.hearing import PICTURES, Hearing
from evodiff.deployment.smoke_report import Gallery

ENTRY = {"run": "digits", "candidate": "feed", "generation": 1}


@dataclass
class Told:
    """A fleet and a controller that only take what they are told."""

    observers: list[Any] = field(default_factory=list)
    passed: list[Any] = field(default_factory=list)
    on_change: list[Any] = field(default_factory=list)
    state: ReleaseState = field(default_factory=ReleaseState)
    heard: list[Any] = field(default_factory=list)

    def observe(self, seen: Any) -> None:
        self.heard.append(seen)

    def workers(self) -> list[WorkerObservation]:
        return [WorkerObservation(Arm.STABLE, "digits/feed", 5.0, True, 4096)]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "votes.sqlite")


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_every_decision_is_counted_and_told_once(told: Told, store: FeedbackStore, tmp_path: Path) -> None:
    metrics, lines = Metrics(), list[str]()
    hearing = Hearing(told, told, metrics, store, tmp_path, lines.append)  # type: ignore[arg-type]
    state = decide(told.state, 1.0, "begin", "asked for", by="test", about=ENTRY)
    state = decide(state, 2.0, "step", "its first", by="test", about=ENTRY)
    for _ in range(2):
        hearing.hear_release(state)
    assert [line.split()[:3] for line in lines] == [["revision", "1:", "begin"], ["revision", "2:", "step"]]
    for action in ("begin", "step"):
        assert value(metrics.registry, "evodiff_release_decisions_total", action=action) == 1
    assert value(metrics.registry, "evodiff_release_revision") == 2
    assert value(metrics.registry, "evodiff_release_changed_timestamp_seconds") == 2.0


def test_a_rating_reaches_metrics_and_the_analysis(told: Told, store: FeedbackStore, tmp_path: Path) -> None:
    metrics = Metrics()
    hearing = Hearing(told, told, metrics, store, tmp_path, print)  # type: ignore[arg-type]
    rating = RatingObservation("somebody", Arm.CANARY, "digits/feed", 4.0, 1.0)
    hearing.hear_rating(rating)
    assert told.heard == [rating]
    assert value(metrics.registry, "evodiff_rating_count", arm="canary") == 1


def test_what_versions_cost_is_stored(told: Told, store: FeedbackStore, tmp_path: Path) -> None:
    hearing = Hearing(told, told, Metrics(), store, tmp_path, print)  # type: ignore[arg-type]
    for observe in told.observers:
        observe(RequestObservation("r", Arm.STABLE, "digits/feed", "c", 4.0, Outcome.OK, 0.25, 0.5, batch=8, steps=10))
    asyncio.run(hearing.store_production())
    (found,) = store.production().values()
    assert found["requests"] == 1
    assert found["rss_bytes"] == 4096
    assert found["compute"][0]["p50_seconds"] == pytest.approx(0.25)


def test_pictures_of_a_smoke_test_are_kept_and_those_of_no_run_are_not(
    told: Told, store: FeedbackStore, tmp_path: Path
) -> None:
    Hearing(told, told, Metrics(), store, tmp_path / "galleries", print)  # type: ignore[arg-type]
    images = np.arange((PICTURES + 3) * 4 * 4 * 3, dtype=np.uint8).reshape(-1, 4, 4, 3)
    for entry in (ENTRY, {"folder": "somewhere"}):
        report = SimpleNamespace(digest="0" * 64)
        gallery = Gallery(images, classes=10)
        version = SimpleNamespace(entry=entry, version="digits/feed", gallery=gallery, report=report)
        for keep in told.passed:
            keep(version)
    assert len(gallery_of(tmp_path / "galleries", "digits/feed").pictures) == PICTURES
    assert [item.name for item in (tmp_path / "galleries").iterdir()] == ["digits"]


def test_online_kid_reaches_metrics_the_analysis_and_the_store_and_outlives_the_process(
    told: Told, store: FeedbackStore, tmp_path: Path
) -> None:
    metrics = Metrics()
    hearing = Hearing(told, told, metrics, store, tmp_path, print)  # type: ignore[arg-type]
    seen = QualityObservation(Arm.STABLE, "digits/feed", 600, 0.02, 0.001, 9.0)
    hearing.hear_quality({Arm.STABLE: seen})
    assert told.heard == [seen]
    assert value(metrics.registry, "evodiff_online_kid", arm="stable") == 0.02
    assert value(metrics.registry, "evodiff_online_kid_images", arm="stable") == 600
    assert value(metrics.registry, "evodiff_online_kid", arm="canary") is None
    hearing.hear_quality({})
    assert value(metrics.registry, "evodiff_online_kid", arm="stable") is None
    asyncio.run(hearing.store_production())
    again = Hearing(told, told, Metrics(), store, tmp_path, print)  # type: ignore[arg-type]
    asyncio.run(again.store_production())
    assert store.production()["digits/feed"]["online_kid"] == {"kid": 0.02, "standard_error": 0.001, "images": 600}
