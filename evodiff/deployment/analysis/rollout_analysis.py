"""The analysis of a rollout: pure state that takes in observations and gives a verdict with its evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from evodiff.deployment.analysis.error_process import ErrorProcess
from evodiff.deployment.analysis.evalues import log_threshold
from evodiff.deployment.analysis.guards import FAILURES, Guards
from evodiff.deployment.analysis.latency_process import BatchKind, LatencyProcess
from evodiff.deployment.analysis.options import DEFAULT_STEPS, AnalysisOptions, GuardLimits, check_steps
from evodiff.deployment.analysis.quality_advice import QualityObservation, advise
from evodiff.deployment.analysis.rating_process import RatingProcess
from evodiff.deployment.observation import Arm, Outcome, RatingObservation, RequestObservation, WorkerObservation
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT: Final = 1

_BOTH: Final = (Arm.CANARY, Arm.STABLE)
_CANARY_ALONE: Final = (Arm.CANARY,)

Observation: TypeAlias = RequestObservation | RatingObservation | WorkerObservation | QualityObservation
"""What an analysis takes in."""


class Verdict(StrEnum):
    """What is held of the canary at its step."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    WAIT = "wait"


@dataclass(frozen=True)
class Decision:
    """A verdict, why, and what it rests on, as plain JSON; ``guard`` names the hard guard that tripped, if one did."""

    verdict: Verdict
    evidence: Mapping[str, Any]
    guard: str | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "verdict": str(self.verdict), "evidence": dict(self.evidence)}


@dataclass
class _Step:
    index: int = -1
    began: float = 0.0
    samples: dict[Arm, int] = field(default_factory=lambda: {Arm.STABLE: 0, Arm.CANARY: 0})


class RolloutAnalysis:
    """Judges one version in one rollout, from what it is told alone: no clock, no file, no chance.

    1. Hard guards (:class:`~evodiff.deployment.analysis.guards.Guards`) at every step, in every pause: fail at once.
    2. Soft metrics at the steps from ``options.soft_from`` percent on and at the last step below 100, one e-process a
       metric carried through the steps, each at level alpha / metrics. A metric fails once its process reaches
       metrics / alpha. By Ville's inequality and Bonferroni's, a version that is no worse than the margins fails by
       them with probability at most alpha in the whole rollout, however often one asks, whatever the weights do.
    3. A step passes with ``min_samples`` requests and no fail. The last step below 100 also needs latency to be shown
       under its margin there, at ``shown_alpha``; it is inconclusive after ``step_seconds`` without, as is any step
       with too few requests.
    4. No canary traffic at all is a wait, without end. So is a step of 0 percent.

    What belongs to another rollout or another canary version is passed over, so that a replaced version starts afresh
    with an analysis of its own. A fail stays.

    ``weight`` is the canary's share of clients at the step, in [0, 1], and 0 before the first; ``tests_soft_metrics``
    and ``must_show_latency`` say what is asked of the step.

    Args:
        steps: percentages of traffic, as :func:`~evodiff.deployment.analysis.options.check_steps` takes them.
        limits: of the guards.
        options: of the soft metrics.
        rollout: id of the rollout.
        version: name of the canary's version.
        smoke_peak_bytes: its peak memory in the smoke test; None switches the memory guard off.

    Raises:
        SettingsError: the steps cannot be.
    """

    def __init__(
        self,
        steps: Sequence[float] = DEFAULT_STEPS,
        limits: GuardLimits | None = None,
        options: AnalysisOptions | None = None,
        *,
        rollout: str,
        version: str,
        smoke_peak_bytes: int | None = None,
    ) -> None:
        self.steps = check_steps(steps)
        self.limits = limits or GuardLimits()
        self.options = options or AnalysisOptions()
        self.rollout = rollout
        self.version = version
        self.smoke_peak_bytes = smoke_peak_bytes
        self.guards = Guards(self.limits, smoke_peak_bytes)
        self.latency = LatencyProcess(
            self.options.latency_margin, self.options.latency_alternative, self.options.block_seconds
        )
        self.errors = ErrorProcess(self.options.error_margin, self.options.block_seconds)
        self.ratings = RatingProcess(self.options.rating_margin, self.options.rating_alternative)
        self.quality: dict[Arm, QualityObservation] = {}
        self.failed_metric: str | None = None
        self._threshold = log_threshold(self.options.alpha_per_metric)
        self._shown_threshold = log_threshold(self.options.shown_alpha)
        self._enter(_Step())

    def begin_step(self, index: int, now: float) -> None:
        """Begin the step with this index in ``steps``; evidence of the soft metrics is carried on.

        Raises:
            IndexError: there is no such step.
        """
        if not 0 <= index < len(self.steps):
            raise IndexError(f"step: expected an index from 0 to {len(self.steps) - 1}, found {index}")
        self.latency.begin_step()
        self.errors.begin_step()
        self.ratings.begin_step()
        self._look()
        self._enter(_Step(index, now))

    def _enter(self, step: _Step) -> None:
        percent = self.steps[step.index] if step.index >= 0 else 0.0
        self._step = step
        self.weight = percent / 100.0
        self.must_show_latency = 0 <= step.index == len(self.steps) - 2
        soft = percent >= self.options.soft_from or self.must_show_latency
        self.tests_soft_metrics = soft and 0.0 < percent < 100.0

    def observe(self, seen: Observation) -> None:
        """Take in one observation."""
        if isinstance(seen, RequestObservation):
            self._observe_request(seen)
        elif isinstance(seen, WorkerObservation):
            if seen.arm is Arm.CANARY and seen.version == self.version:
                self.guards.observe_worker(seen)
        elif self._concerns(seen):
            if isinstance(seen, QualityObservation):
                self.quality[seen.arm] = seen
            elif self.tests_soft_metrics:
                self.ratings.observe(seen.arm, seen.rater, seen.rating)
                self._look()

    def _observe_request(self, seen: RequestObservation) -> None:
        if not self._concerns(seen):
            return
        if seen.arm is Arm.CANARY:
            self.guards.observe_request(seen)
        if seen.outcome is Outcome.REFUSED or abs(seen.weight - self.weight) > 1e-9:
            return  # assigned at another weight: it ended late, or before the step began
        self._step.samples[seen.arm] += 1
        if self.tests_soft_metrics:
            self._compare(seen)

    def decide(self, now: float) -> Decision:
        """Return what is held of the canary at ``now``, in UNIX seconds."""
        verdict, reason = self.verdict(now)
        guard = self.guards.tripped
        return Decision(verdict, self._evidence(now), guard.name if guard else None, reason)

    def verdict(self, now: float) -> tuple[Verdict, str]:
        """Return the verdict and its reason without the evidence, for whoever asks at every request."""
        if self.tests_soft_metrics:
            self._advance(now)
        if self.guards.tripped:
            return Verdict.FAIL, f"The guard {self.guards.tripped.name} tripped."
        if self.failed_metric:
            return Verdict.FAIL, f"The canary is worse than the margin allows in {self.failed_metric}."
        if self._step.samples[Arm.CANARY] == 0:
            return Verdict.WAIT, "The canary has had no traffic at this step."
        over = now - self._step.began >= self.options.step_seconds
        lacking = self._lacking()
        if lacking:
            return (Verdict.INCONCLUSIVE if over else Verdict.WAIT), lacking
        if not (over or self.options.early_pass):
            return Verdict.WAIT, "The step's time is not over."
        return Verdict.PASS, "Enough requests, and nothing against the canary."

    def _lacking(self) -> str:
        """Return what a pass lacks, or nothing."""
        least, samples = self.options.min_samples, self._step.samples
        arms = _BOTH if self.tests_soft_metrics else _CANARY_ALONE
        for arm in arms:
            if samples[arm] < least:
                return f"Requests of {arm} at this step: expected at least {least}, found {samples[arm]}."
        if self.must_show_latency and "latency" in self.options.metrics and not self._latency_shown():
            return f"Latency is not shown to be less than {self.options.latency_margin:.0%} above the stable version's."
        return ""

    def _latency_shown(self) -> bool:
        return self.latency.log_within >= self._shown_threshold

    def _concerns(self, seen: RequestObservation | RatingObservation | QualityObservation) -> bool:
        return seen.rollout == self.rollout and (seen.arm is Arm.STABLE or seen.version == self.version)

    def _compare(self, seen: RequestObservation) -> None:
        self._advance(seen.at)
        if seen.outcome is Outcome.OK and seen.compute_seconds > 0.0:
            kind = BatchKind(seen.batch, seen.steps, seen.guided)
            self.latency.observe(seen.arm, kind, seen.compute_seconds, seen.at)
        self.errors.observe(seen.arm, seen.client, seen.outcome in FAILURES, seen.weight, seen.at)

    def _advance(self, now: float) -> None:
        """Close the blocks whose time is over, and look at the metrics if one was."""
        if self.latency.advance(now) | self.errors.advance(now):
            self._look()

    def _look(self) -> None:
        """Note the first metric whose process has ever reached its threshold."""
        if self.failed_metric:
            return
        for metric in self.options.metrics:
            if self._log_value(metric) >= self._threshold:
                self.failed_metric = metric
                return

    def _log_value(self, metric: str) -> float:
        if metric == "latency":
            return self.latency.slower.log_value
        return self.errors.log_value if metric == "errors" else self.ratings.capital.log_value

    def _evidence(self, now: float) -> dict[str, Any]:
        tripped = self.guards.tripped
        return {
            "rollout": self.rollout,
            "version": self.version,
            "step": self._step.index,
            "weight": self.weight,
            "seconds": now - self._step.began if self._step.index >= 0 else 0.0,
            "requests": {str(arm): count for arm, count in self._step.samples.items()},
            "guard": asdict(tripped) if tripped else None,
            "failed_metric": self.failed_metric,
            "metrics": {
                metric: {
                    "log_e_value": self._log_value(metric),
                    "log_threshold": self._threshold,
                    **self._units(metric),
                }
                for metric in self.options.metrics
            },
            "kid": advise(self.quality),
        }

    def _units(self, metric: str) -> dict[str, Any]:
        if metric == "latency":
            return {
                "blocks": self.latency.blocks,
                "requests": {str(arm): count for arm, count in self.latency.compared.items()},
                "log_e_value_within_margin": self.latency.log_within,
                "log_threshold_within_margin": self._shown_threshold,
            }
        counted = self.errors.counted if metric == "errors" else self.ratings.counted
        unit = "clients_with_errors" if metric == "errors" else "raters"
        return {unit: {str(arm): count for arm, count in counted.items()}}

    def to_json(self) -> dict[str, Any]:
        """Return the whole of it as plain JSON, so that a restart goes on with the same decisions."""
        return {
            "format": FORMAT,
            "rollout": self.rollout,
            "version": self.version,
            "steps": list(self.steps),
            "limits": asdict(self.limits),
            "options": {**asdict(self.options), "metrics": list(self.options.metrics)},
            "smoke_peak_bytes": self.smoke_peak_bytes,
            "step": {
                "index": self._step.index,
                "began": self._step.began,
                "samples": {str(arm): count for arm, count in self._step.samples.items()},
            },
            "failed_metric": self.failed_metric,
            "guards": self.guards.to_json(),
            "latency": self.latency.to_json(),
            "errors": self.errors.to_json(),
            "ratings": self.ratings.to_json(),
            "quality": [seen.to_json() for seen in self.quality.values()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RolloutAnalysis:
        """Read what :meth:`to_json` wrote.

        Raises:
            SettingsError: it is of another format, or holds names or values of options that cannot be.
            KeyError: something is missing.
        """
        if data.get("format") != FORMAT:
            raise SettingsError(
                f"State of an analysis: expected format {FORMAT}, found {data.get('format')}.",
                remedy="Roll back and start the rollout anew: evidence of another format cannot be carried on.",
            )
        analysis = cls(
            data["steps"],
            GuardLimits.from_mapping(data["limits"]),
            AnalysisOptions.from_mapping(data["options"]),
            rollout=data["rollout"],
            version=data["version"],
            smoke_peak_bytes=data["smoke_peak_bytes"],
        )
        step = data["step"]
        samples = {Arm(arm): count for arm, count in step["samples"].items()}
        analysis._enter(_Step(step["index"], step["began"], samples))
        analysis.failed_metric = data["failed_metric"]
        analysis.guards = Guards.from_json(data["guards"], analysis.limits, analysis.smoke_peak_bytes)
        analysis.latency.restore(data["latency"])
        analysis.errors.restore(data["errors"])
        analysis.ratings.restore(data["ratings"])
        quality = [QualityObservation.from_json(seen) for seen in data["quality"]]
        analysis.quality = {seen.arm: seen for seen in quality}
        return analysis
