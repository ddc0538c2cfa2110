"""Settings of rollouts: ``EVODIFF_ROLLOUT_*`` variables over the defaults below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from evodiff.deployment.analysis.options import METRICS, AnalysisOptions, GuardLimits
from evodiff.deployment.release.assignment import parse_steps
from evodiff.deployment.release.rollout_options import RolloutOptions
from evodiff.settings import settings_errors

if TYPE_CHECKING:
    from evodiff.deployment.release.analyses import RolloutAnalyses

PREFIX: Final = "EVODIFF_ROLLOUT_"


class RolloutSettings(BaseSettings):
    """How a version goes into traffic, and what it is judged by."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    steps: tuple[float, ...] = Field(default=(1, 5, 20, 50, 100), description="percent of clients, ascending to 100")
    poll_interval_seconds: float = Field(default=5.0, gt=0, description="between two looks at the evidence")
    bake_seconds: float = Field(default=600.0, ge=0, description="that stable stays loaded beside all traffic")
    max_rollout_seconds: float = Field(default=24 * 3600.0, gt=0, description="without a verdict")
    on_inconclusive: Literal["hold", "rollback"] = "hold"
    approval: bool = Field(default=False, description="ask a person before the last step")
    synthetic_requests: int = Field(default=100, ge=0, description="that the first champion has to stand")
    retry_seconds: float = Field(default=30.0, ge=0, description="before what could not be loaded is tried again")

    error_ratio: float | None = Field(default=0.05, description="guard; null switches it off")
    p99_seconds: float | None = Field(
        default=25.0, description="guard, of .8 to 1 of the usual deadline; null switches it off"
    )
    rss_factor: float | None = Field(default=1.5, description="guard, of the smoke test's memory; null switches it off")

    metrics: tuple[str, ...] = METRICS
    alpha: float = Field(default=0.05, description="chance that a version that is no worse is rolled back by metrics")
    shown_alpha: float = Field(default=0.05, description="chance that a slower one passes for being within its margin")
    soft_from: float = Field(default=20.0, description="percent of clients from which on metrics are tested")
    min_samples: int = Field(default=100, ge=1, description="requests an arm before a step passes")
    step_seconds: float = Field(default=3600.0, gt=0, description="after which a step is inconclusive")
    block_seconds: float = Field(default=10.0, gt=0, description="the unit of time of the latency test")

    def options(self) -> RolloutOptions:
        """Return how rollouts go."""
        return RolloutOptions(
            steps=parse_steps(self.steps),
            poll_interval_seconds=self.poll_interval_seconds,
            bake_seconds=self.bake_seconds,
            max_rollout_seconds=self.max_rollout_seconds,
            on_inconclusive=self.on_inconclusive,
            approval=self.approval,
            synthetic_requests=self.synthetic_requests,
            retry_seconds=self.retry_seconds,
        )

    def analyses(self) -> RolloutAnalyses:
        """Return what judges them."""
        from evodiff.deployment.release.analyses import RolloutAnalyses

        return RolloutAnalyses(
            GuardLimits(error_ratio=self.error_ratio, p99_seconds=self.p99_seconds, rss_factor=self.rss_factor),
            AnalysisOptions(
                metrics=self.metrics,
                alpha=self.alpha,
                shown_alpha=self.shown_alpha,
                soft_from=self.soft_from,
                min_samples=self.min_samples,
                step_seconds=self.step_seconds,
                block_seconds=self.block_seconds,
            ),
        )


def load_rollout_settings() -> RolloutSettings:
    """Return the settings of the environment.

    Raises:
        SettingsError: a value is not allowed.
    """
    with settings_errors(PREFIX, f"the {PREFIX}* variable"):
        settings = RolloutSettings()
    settings.options(), settings.analyses()
    return settings
