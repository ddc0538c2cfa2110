"""The evidence on the rollout at hand, kept on disk so that a restart goes on with it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from evodiff.deployment.observation import RequestObservation
from evodiff.deployment.release.state import Phase
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from evodiff.deployment.release.contracts import Analyses, Analysis, Decision, SmokeReport
    from evodiff.deployment.release.file import ReleaseFile
    from evodiff.deployment.release.state import ReleaseState, Rollout

_LOG = logging.getLogger(__name__)


class ReleaseWatch:
    """The analysis of one rollout after another: each begins with none, whatever the one before has seen.

    Attributes:
        requests: requests of the rollout that were seen since it was opened, or this process started.
    """

    def __init__(self, file: ReleaseFile, analyses: Analyses) -> None:
        self._file, self._analyses = file, analyses
        self._analysis: Analysis | None = None
        self._rollout = ""
        self._step = -1
        self._keeping = asyncio.Lock()
        self.requests = 0

    def observe(self, observation: Any) -> None:
        """Take in what is of the rollout; a worker is of any."""
        if self._analysis is not None and getattr(observation, "rollout", self._rollout) == self._rollout:
            self._analysis.observe(observation)
            self.requests += isinstance(observation, RequestObservation)

    def decide(self, now: float) -> Decision | None:
        """Return what the evidence on the step at hand says; None where there is no step yet."""
        return None if self._analysis is None or self._step < 0 else self._analysis.decide(now)

    async def open(self, state: ReleaseState, smoke: SmokeReport) -> None:
        """Go on with what was kept of a rollout whose challenger is loaded, or begin; one that is open stays."""
        rollout = state.rollout
        if rollout is None or self._is_open(rollout):
            return
        self._analysis, self._step = self._kept(rollout, smoke)
        self._rollout, self.requests = rollout.id, 0
        await self.follow(state)

    async def follow(self, state: ReleaseState) -> None:
        """Tell the analysis of the step that holds now; end it with its rollout."""
        rollout = state.rollout
        if rollout is None or not self._is_open(rollout):
            self._analysis, self._rollout, self._step = None, "", -1
            return
        step = 0 if rollout.phase is Phase.PROVING else rollout.step
        if self._analysis is not None and step != self._step:
            self._analysis.begin_step(step, rollout.step_started_at)
            self._step = step
            await self.keep()

    async def keep(self) -> None:
        """Write down what the analysis knows."""
        if self._analysis is None:
            return
        async with self._keeping:
            known = self._analysis.to_json()
            await asyncio.to_thread(self._file.write_analysis, self._rollout, self._step, known)

    def _is_open(self, rollout: Rollout) -> bool:
        return self._analysis is not None and self._rollout == rollout.id

    def _kept(self, rollout: Rollout, smoke: SmokeReport) -> tuple[Analysis, int]:
        kept = self._file.read_analysis(rollout.id)
        if kept is not None:
            try:
                return self._analyses.read(kept[1]), kept[0]
            except (EvodiffError, ValueError, KeyError, TypeError) as error:
                _LOG.warning("The evidence on rollout %s starts afresh: %s", rollout.id, error)
        return self._analyses.new(rollout.id, rollout.steps, smoke), -1
