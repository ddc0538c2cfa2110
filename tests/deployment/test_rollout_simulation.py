"""A short run of the simulation that benchmarks/canary_simulation.py runs at length."""

from __future__ import annotations

import numpy as np
import pytest

from evodiff.deployment.analysis.baseline_rules import FixedThresholds, RequestLevelTests
from evodiff.deployment.analysis.options import GuardLimits
from evodiff.deployment.analysis.rollout_analysis import RolloutAnalysis
from evodiff.deployment.analysis.simulation import Effect, Judgement, Stream, Traffic, judge, simulate
from evodiff.deployment.observation import Arm

PHASES = ((5, 200), (20, 1600), (50, 1600), (100, 100))
ROLLOUTS = 24


def streams(effect: Effect, count: int = ROLLOUTS, traffic: Traffic | None = None) -> list[Stream]:
    return [
        simulate(traffic or Traffic(), effect, PHASES, np.random.default_rng((5, number))) for number in range(count)
    ]


def judged(stream: Stream) -> Judgement:
    limits = GuardLimits(p99_seconds=2.0)
    return judge(RolloutAnalysis(stream.steps, limits, rollout="simulated", version="canary"), stream)


@pytest.fixture(scope="module")
def alike() -> list[Stream]:
    return streams(Effect())


@pytest.fixture(scope="module")
def results(alike: list[Stream]) -> list[Judgement]:
    return [judged(stream) for stream in alike]


def test_a_canary_that_is_the_stable_version_is_hardly_ever_rolled_back_and_mostly_passes(
    results: list[Judgement],
) -> None:
    assert sum(result.cause is not None for result in results) <= 2
    assert sum(result.passed_last_test for result in results) >= 0.6 * ROLLOUTS


def test_tests_of_requests_and_fixed_thresholds_roll_back_more(alike: list[Stream], results: list[Judgement]) -> None:
    ours = sum(result.cause is not None for result in results)
    requests = sum(bool(RequestLevelTests(every=100).rejected(stream)) for stream in alike)
    usual = simulate(Traffic(), Effect(), ((0, 8000),), np.random.default_rng(6))
    limit = 1.2 * float(np.quantile(usual.ended - usual.arrived, 0.99))
    thresholds = sum(FixedThresholds(limit).rolls_back(stream) for stream in alike)
    assert requests >= 4 + ours
    assert thresholds >= 2 + ours


@pytest.mark.parametrize(
    ("effect", "cause"),
    [
        (Effect(slowdown=1.3), {"latency"}),
        (Effect(error_ratio=30.0), {"errors", "guard errors", "guard failures_in_a_row"}),
        (Effect(rating_drop=2.5), {"ratings"}),
    ],
)
def test_what_is_worse_is_found_by_its_metric(effect: Effect, cause: set[str]) -> None:
    many_raters = Traffic(clients=1000, zipf=0.8, rated=0.5)
    found = [judged(stream).cause for stream in streams(effect, 5, many_raters)]
    assert sum(metric in cause for metric in found) >= 4


def test_clients_stay_in_their_arm_and_weights_are_met() -> None:
    stream = simulate(Traffic(clients=3000, zipf=0.2), Effect(), PHASES, np.random.default_rng(0))
    for phase, percent in enumerate(stream.steps):
        rows = stream.phase == phase
        assert stream.canary[rows].mean() == pytest.approx(percent / 100, abs=0.04)
        mine, others = set(stream.client[rows & stream.canary]), set(stream.client[rows & ~stream.canary])
        assert not mine & others
    assert np.all(np.diff(stream.ended) >= 0)
    assert np.all(stream.ended >= stream.arrived + stream.compute - 1e-9)
    arms = {request.arm for request, _ in stream.observations()}
    assert arms == {Arm.STABLE, Arm.CANARY}
