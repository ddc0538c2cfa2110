"""What the serving process hears of, told to those whom it concerns: metrics, the votes' store, galleries."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from evodiff.deployment.feedback.gallery import write_gallery
from evodiff.deployment.feedback.rate_page import add_rate_page
from evodiff.deployment.feedback.routes import add_feedback_routes
from evodiff.deployment.observation import Arm
from evodiff.deployment.production import ProductionRecorder
from evodiff.deployment.release.entries import served_as
from evodiff.deployment.smoke_report import SMOKE_STEPS
from evodiff.errors import EvodiffError
from evodiff.hardware.processor import processor_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fastapi import FastAPI

    from evodiff.deployment.analysis.quality_advice import QualityObservation
    from evodiff.deployment.feedback.store import FeedbackStore
    from evodiff.deployment.metrics import Metrics
    from evodiff.deployment.observation import RatingObservation
    from evodiff.deployment.release.controller import RolloutController
    from evodiff.deployment.release.state import DecisionRecord, ReleaseState
    from evodiff.deployment.router.fleet import Fleet
    from evodiff.deployment.router.served_version import ServedVersion
    from evodiff.deployment.web.signing import Signer
    from evodiff.deployment.web.tokens import Tokens

PICTURES: Final = 64  # of a gallery
STORE_SECONDS: Final = 15.0

_LOG = logging.getLogger(__name__)


class Hearing:
    """Joins a fleet and the controller of its rollouts to those who want to hear of them.

    Args:
        fleet: its requests and the versions that pass their smoke test are heard of.
        controller: its decisions are.
        metrics: counts them.
        store: votes, and what each version costs, every :data:`STORE_SECONDS`.
        galleries: where the pictures of each version's smoke test go, for people to compare.
        tell: is told every decision, in a line.
    """

    def __init__(
        self,
        fleet: Fleet,
        controller: RolloutController,
        metrics: Metrics,
        store: FeedbackStore,
        galleries: Path,
        tell: Callable[[str], None],
    ) -> None:
        self._tell = tell
        self._fleet, self._controller, self._metrics = fleet, controller, metrics
        self._store, self._galleries = store, galleries
        self._production = ProductionRecorder("cpu", processor_name(), store.production())
        self._revision = controller.state.revision
        fleet.observers.append(self._production.observe)
        fleet.passed.append(self._keep_gallery)
        controller.on_change.append(self.hear_release)
        self._show_release(controller.state)

    def add_routes(self, app: FastAPI, tokens: Tokens, signer: Signer) -> None:
        """Add feedback and the page to rate on."""
        add_feedback_routes(app, self._store, tokens, signer, on_rating=self.hear_rating)
        add_rate_page(
            app,
            self._store,
            signer.for_purpose("comparison"),
            signer.for_purpose("rater"),
            self._galleries,
            champion=self._champion,
        )

    def hear_rating(self, rating: RatingObservation) -> None:
        """Take in a rating that was kept."""
        self._metrics.observe_rating(rating)
        self._controller.observe(rating)

    def hear_quality(self, found: Mapping[Arm, QualityObservation]) -> None:
        """Take in the online KID of the arms that have one."""
        for arm in Arm:
            seen = found.get(arm)
            if seen is None:
                self._metrics.forget_online_kid(arm)
                continue
            self._metrics.set_online_kid(arm, seen.kid, seen.images)
            self._controller.observe(seen)
            self._production.observe_kid(seen.version, seen.at, seen.kid, seen.standard_error, seen.images)

    def hear_release(self, state: ReleaseState) -> None:
        """Take in what was decided since the last time."""
        for decision in state.decisions:
            if decision.revision > self._revision:
                self._metrics.count_decision(decision.action)
                self._tell(_line(decision))
        self._revision = state.revision
        self._show_release(state)

    async def keep_production(self) -> None:
        """Store what each version costs, again and again; what goes wrong is tried again."""
        while True:
            await asyncio.sleep(STORE_SECONDS)
            await self.store_production()

    async def store_production(self) -> None:
        """Store what each version costs."""
        for worker in self._fleet.workers():
            self._production.observe_worker(worker)
        try:
            for record in self._production.records():
                await asyncio.to_thread(self._store.record_production, *record)
        except EvodiffError:
            _LOG.exception("What versions cost could not be stored")

    def _champion(self) -> str | None:
        champion = self._controller.state.champion
        return None if champion is None else served_as(champion)

    def _show_release(self, state: ReleaseState) -> None:
        changed_at = state.decisions[-1].at if state.decisions else 0.0
        self._metrics.set_release(state.to_json(), weight=state.weight, changed_at=changed_at)

    def _keep_gallery(self, version: ServedVersion) -> None:
        """Keep some of the pictures that a version drew; it takes traffic without them too."""
        gallery = version.gallery
        seeds = range(min(PICTURES, len(gallery.images)))
        labels = [gallery.label(seed) or 0 for seed in seeds] if gallery.classes else None
        entry: Mapping[str, Any] = version.entry
        with contextlib.suppress(KeyError):  # of no run: a folder that somebody named
            try:
                images = gallery.images[: len(seeds)]
                write_gallery(self._galleries, entry, images, seeds, labels, version.report.digest, SMOKE_STEPS)
            except (EvodiffError, OSError):
                _LOG.exception("The gallery of %s could not be kept", version.version)


def _line(decision: DecisionRecord) -> str:
    version = f" {decision.version}" if decision.version else ""
    weight = f"weight {100 * decision.weight:g} %"
    return f"revision {decision.revision}: {decision.action}{version}, {weight}: {decision.reason}"
