"""A fleet in memory, and an analysis that says what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evodiff.deployment.observation import Arm, Outcome, RequestObservation, WorkerObservation
from evodiff.deployment.release.entries import version_name
from evodiff.deployment.smoke_report import SmokeTestFailure


@dataclass(frozen=True)
class Smoke:
    """What a smoke test found."""

    digest: str
    version: str = ""
    peak_rss_bytes: int = 1
    experiment: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"digest": self.digest}


def digest_of(entry: Mapping[str, Any]) -> str:
    """Return the digest of the weights that the fleet finds for an entry."""
    return str(entry.get("weights") or f"weights of {version_name(entry)}")


class PretendedFleet:
    """Loads at once, or when ``gate`` is set; ``failures`` maps versions to what loading them raises."""

    def __init__(self) -> None:
        self.observers: list[Callable[[RequestObservation], None]] = []
        self.arms: dict[Arm, str] = {}
        self.routed: tuple[str, float] = ("", 0.0)
        self.log: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.trained_on: dict[str, str] = {}
        self.dead: set[Arm] = set()
        self.on_route: Callable[[str, float], None] | None = None

    async def load(self, entry: Mapping[str, Any], arm: Arm) -> Smoke:
        name = version_name(entry)
        assert arm not in self.arms, f"{arm} holds {self.arms.get(arm)}"
        self.log.append(f"load {name} as {arm}")
        await self.gate.wait()
        if name in self.failures:
            raise self.failures[name]
        digest = self.trained_on.get(name, digest_of(entry))
        if entry.get("digest") not in (None, digest):
            raise SmokeTestFailure(f"Expected {entry['digest']}, found {digest}.")
        self.arms[arm] = name
        registered = entry.get("model") is not None
        return Smoke(digest, f"{entry['model']}/found{entry['version']}" if registered else name, experiment="e" * 64)

    async def swap(self) -> None:
        self.log.append("swap")
        held = {Arm.STABLE: self.arms.get(Arm.CANARY), Arm.CANARY: self.arms.get(Arm.STABLE)}
        self.arms = {arm: name for arm, name in held.items() if name is not None}
        self.routed = ("", 0.0)

    async def unload(self, arm: Arm) -> None:
        self.log.append(f"unload {arm}")
        self.arms.pop(arm, None)

    def route(self, rollout_id: str, weight: float) -> None:
        if self.on_route is not None:
            self.on_route(rollout_id, weight)
        assert weight == 0 or Arm.CANARY in self.arms
        self.routed = (rollout_id, weight)

    def workers(self) -> list[WorkerObservation]:
        arms = self.arms.items()
        return [WorkerObservation(arm, name, 0.0, alive=arm not in self.dead, rss_bytes=1) for arm, name in arms]

    def answer(self, rollout: str, outcome: Outcome = Outcome.OK) -> None:
        """Have the canary answer a request."""
        seen = RequestObservation("r", Arm.CANARY, self.arms[Arm.CANARY], "c", 0.0, outcome, rollout=rollout)
        for observer in self.observers:
            observer(seen)


@dataclass
class Said:
    """A decision."""

    verdict: str
    evidence: dict[str, Any]
    guard: str | None = None
    reason: str = ""


@dataclass
class ToldAnalysis:
    """Passes a step after ``enough`` requests of its rollout, and fails by one that failed, or where it is told to."""

    told: dict[str, str] = field(default_factory=dict)
    enough: int = 1
    step: int = -1
    seen: int = 0
    failed: int = 0
    total: int = 0

    def observe(self, observation: Any) -> None:
        if isinstance(observation, RequestObservation):
            self.total += 1
            self.seen += 1
            self.failed += observation.outcome is Outcome.FAILED
        elif isinstance(observation, WorkerObservation):
            self.failed += observation.arm is Arm.CANARY and not observation.alive

    def begin_step(self, index: int, now: float) -> None:
        self.step, self.seen = index, 0

    def decide(self, now: float) -> Said:
        evidence = {"step": self.step, "seen": self.seen, "total": self.total}
        if self.failed:
            return Said("fail", evidence, "errors", "The guard errors tripped.")
        return Said(self.told.get("verdict") or ("pass" if self.seen >= self.enough else "wait"), evidence)

    def to_json(self) -> dict[str, Any]:
        return {"step": self.step, "seen": self.seen, "failed": self.failed, "total": self.total, "enough": self.enough}


class ToldAnalyses:
    """Makes analyses; ``told["verdict"]`` overrules all of them."""

    def __init__(self, enough: int = 1) -> None:
        self.told: dict[str, str] = {}
        self.enough = enough
        self.made: list[ToldAnalysis] = []

    def new(self, rollout: str, steps: Sequence[float], smoke: Any) -> ToldAnalysis:
        self.made.append(ToldAnalysis(self.told, self.enough))
        return self.made[-1]

    def read(self, data: Mapping[str, Any]) -> ToldAnalysis:
        self.made.append(ToldAnalysis(self.told, **data))
        return self.made[-1]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def entry(candidate: str, run: str = "run", **more: Any) -> dict[str, Any]:
    """Return an entry of the release file."""
    return {"run": run, "candidate": candidate, "generation": 0, **more}
