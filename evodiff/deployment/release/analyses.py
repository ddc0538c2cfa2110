"""The analyses that the controller of rollouts uses in service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evodiff.deployment.analysis.options import AnalysisOptions, GuardLimits
from evodiff.deployment.analysis.rollout_analysis import RolloutAnalysis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.deployment.release.contracts import SmokeReport

_DIGITS = 9  # of a percentage: 0.07 is 7 %, not 7.000000000000001 %


@dataclass(frozen=True)
class RolloutAnalyses:
    """Makes an analysis for each rollout, with these limits and options.

    See :class:`~evodiff.deployment.analysis.rollout_analysis.RolloutAnalysis`.
    """

    limits: GuardLimits = field(default_factory=GuardLimits)
    options: AnalysisOptions = field(default_factory=AnalysisOptions)

    def new(self, rollout: str, steps: Sequence[float], smoke: SmokeReport) -> RolloutAnalysis:
        """Return one that knows nothing yet of the version that passed a smoke test."""
        return RolloutAnalysis(
            [round(100 * step, _DIGITS) for step in steps],
            self.limits,
            self.options,
            rollout=rollout,
            version=smoke.version,
            smoke_peak_bytes=smoke.peak_rss_bytes,
        )

    def read(self, data: Mapping[str, Any]) -> RolloutAnalysis:
        """Read what an analysis wrote."""
        return RolloutAnalysis.from_json(data)
