"""The verdict on a rollout: what it waits for, what it fails by, and that a restart changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_samples import analysis, rating, request, worker

from evodiff.deployment.analysis.options import AnalysisOptions, GuardLimits
from evodiff.deployment.analysis.quality_advice import QualityObservation
from evodiff.deployment.analysis.rollout_analysis import Observation, RolloutAnalysis, Verdict
from evodiff.deployment.observation import Arm, Outcome
from evodiff.errors import SettingsError

STEPS = (1, 5, 20, 50, 100)


def small(**values: object) -> AnalysisOptions:
    known: dict[str, object] = {"min_samples": 10, "step_seconds": 100.0, "block_seconds": 1.0}
    return AnalysisOptions.from_mapping({**known, **values})


def at_step(
    index: int, steps: tuple[float, ...] = STEPS, limits: GuardLimits | None = None, **values: object
) -> RolloutAnalysis:
    seen = analysis(steps, limits, small(**values))
    seen.begin_step(index, 0.0)
    return seen


def serve(seen: RolloutAnalysis, count: int, *, ratio: float = 1.0, start: float = 0.0, arms: str = "both") -> float:
    """Serve both arms evenly, the canary's computation ``ratio`` times as long; return the time afterwards."""
    at = start
    for number in range(count):
        at += 0.05
        jitter = 1.0 + 0.001 * ((number * 7919) % 101)
        wanted = (Arm.CANARY, Arm.STABLE) if arms == "both" else (Arm(arms),)
        for arm in wanted:
            seconds = 0.1 * jitter * (ratio if arm is Arm.CANARY else 1.0005)
            seen.observe(
                request(arm, at=at, weight=seen.weight, compute_seconds=seconds, client=f"{arm} {number % 17}")
            )
    return at


def rate(seen: RolloutAnalysis, raters: int, *, canary: float, stable: float, at: float = 0.0) -> None:
    """Have so many raters of each arm rate it alike."""
    for number in range(raters):
        seen.observe(rating(Arm.CANARY, canary, f"r{number}", at))
        seen.observe(rating(Arm.STABLE, stable, f"s{number}", at))


def verdict(seen: RolloutAnalysis, now: float) -> Verdict:
    return seen.decide(now).verdict


@pytest.mark.parametrize("index", [0, 1, 2, 3, 4])
def test_no_traffic_is_a_hold_at_any_step_without_end(index: int) -> None:
    seen = at_step(index)
    serve(seen, 500, arms="stable")
    assert verdict(seen, 1e9) is Verdict.WAIT


def test_before_the_first_step_it_waits() -> None:
    assert verdict(analysis(), 1e9) is Verdict.WAIT


@pytest.mark.parametrize("index", [0, 1, 4])
def test_a_step_without_soft_tests_passes_at_its_last_needed_sample(index: int) -> None:
    seen = at_step(index)
    now = serve(seen, 9, arms="canary")
    assert verdict(seen, now) is Verdict.WAIT
    now = serve(seen, 1, arms="canary", start=now)
    assert verdict(seen, now) is Verdict.PASS


def test_refused_requests_are_no_samples() -> None:
    seen = at_step(0)
    for _ in range(200):
        seen.observe(request(outcome=Outcome.REFUSED, weight=0.01))
    assert verdict(seen, 1e9) is Verdict.WAIT


def test_requests_assigned_at_another_weight_are_no_samples_but_guards_see_them() -> None:
    seen = at_step(2)
    for _ in range(50):
        seen.observe(request(weight=0.05))
    assert seen.decide(1.0).evidence["requests"]["canary"] == 0
    seen.observe(request(weight=0.05, outcome=Outcome.NOT_FINITE))
    assert seen.decide(1.0).guard == "not_finite"


def test_a_step_of_zero_percent_is_a_hold_and_its_guards_work() -> None:
    seen = at_step(0, (0, 50, 100))
    assert seen.weight == 0.0
    serve(seen, 100, arms="stable")
    assert verdict(seen, 1e9) is Verdict.WAIT
    seen.observe(worker(alive=False))
    assert verdict(seen, 1e9) is Verdict.FAIL


def test_too_few_requests_at_the_end_of_a_step_are_inconclusive() -> None:
    seen = at_step(1)
    serve(seen, 9, arms="canary")
    assert verdict(seen, 99.9) is Verdict.WAIT
    assert verdict(seen, 100.0) is Verdict.INCONCLUSIVE
    serve(seen, 1, arms="canary", start=101.0)
    assert verdict(seen, 102.0) is Verdict.PASS


def test_without_early_passes_a_step_lasts_its_time() -> None:
    seen = at_step(1, early_pass=False)
    serve(seen, 50, arms="canary")
    assert verdict(seen, 99.0) is Verdict.WAIT
    assert verdict(seen, 100.0) is Verdict.PASS


def test_a_soft_step_needs_requests_of_both_arms() -> None:
    seen = at_step(2)
    serve(seen, 50, arms="canary")
    assert verdict(seen, 50.0) is Verdict.WAIT
    assert verdict(seen, 100.0) is Verdict.INCONCLUSIVE
    serve(seen, 10, arms="stable", start=101.0)
    assert verdict(seen, 102.0) is Verdict.PASS


def test_at_twenty_percent_latency_need_not_be_shown_and_at_fifty_it_must() -> None:
    for index, expected in ((2, Verdict.PASS), (3, Verdict.INCONCLUSIVE)):
        seen = at_step(index)
        serve(seen, 12, ratio=1.1)
        assert verdict(seen, 100.0) is expected


def test_latency_shown_under_the_margin_passes_fifty_percent() -> None:
    seen = at_step(3)
    now = serve(seen, 12)
    assert verdict(seen, now) is Verdict.WAIT
    now = serve(seen, 600, start=now)
    assert verdict(seen, now) is Verdict.PASS
    seen.begin_step(3, now)  # what was shown was shown for that time only
    now = serve(seen, 12, start=now)
    assert verdict(seen, now) is Verdict.WAIT


def test_latency_need_not_be_shown_where_it_is_not_tested() -> None:
    seen = at_step(3, metrics=["errors"])
    now = serve(seen, 12, ratio=3.0)
    assert verdict(seen, now) is Verdict.PASS


def test_a_slower_canary_fails_by_latency_and_stays_failed() -> None:
    seen = at_step(2)
    now = serve(seen, 400, ratio=1.3)
    decision = seen.decide(now)
    assert (decision.verdict, decision.guard, decision.evidence["failed_metric"]) == (Verdict.FAIL, None, "latency")
    seen.begin_step(3, now)
    serve(seen, 2000, ratio=0.5, start=now)
    assert verdict(seen, 1e9) is Verdict.FAIL


def test_at_one_and_five_percent_latency_and_ratings_are_not_tested() -> None:
    seen = at_step(1)
    now = serve(seen, 400, ratio=1.3)
    rate(seen, 200, canary=1.0, stable=5.0, at=now)
    assert verdict(seen, now) is Verdict.PASS


def test_lower_ratings_fail() -> None:
    seen = at_step(2)
    rate(seen, 60, canary=2.0, stable=4.0)
    assert seen.decide(0.0).evidence["failed_metric"] == "ratings"


@pytest.mark.parametrize(("failing", "expected"), [(Arm.CANARY, "errors"), (Arm.STABLE, None)])
def test_errors_of_many_clients_of_the_canary_fail_it_and_the_stable_ones_do_not(
    failing: Arm, expected: str | None
) -> None:
    seen = at_step(2, limits=GuardLimits(error_ratio=None))
    for number in range(600):
        arm = Arm.CANARY if number % 5 == 0 else Arm.STABLE
        outcome = Outcome.FAILED if arm is failing and number % 2 == 0 else Outcome.OK
        seen.observe(request(arm, outcome, client=f"c{number}", at=float(number), weight=0.2))
    assert seen.decide(1000.0).evidence["failed_metric"] == expected


@pytest.mark.parametrize("steps", [(7, 100), (3, 11, 100)])
def test_the_last_step_below_a_hundred_is_tested_however_small_it_is(steps: tuple[float, ...]) -> None:
    seen = at_step(len(steps) - 2, steps)
    now = serve(seen, 12)
    assert verdict(seen, now) is Verdict.WAIT  # not shown yet
    now = serve(seen, 600, start=now)
    assert verdict(seen, now) is Verdict.PASS


def test_a_death_fails_unless_it_is_the_stable_workers_or_another_versions() -> None:
    seen = at_step(0)
    seen.observe(worker(Arm.STABLE, alive=False, deaths=3, rss_bytes=10**12, in_flight_judged_seconds=(1e9,) * 99))
    seen.observe(worker(version="new/0", alive=False))
    assert verdict(seen, 0.0) is Verdict.WAIT
    seen.observe(worker(alive=False))
    assert seen.decide(0.0).guard == "death"


def test_a_breach_during_a_hold_is_found() -> None:
    seen = at_step(3)
    now = serve(seen, 600)
    assert verdict(seen, now) is Verdict.PASS  # a person may be asked now, and takes an hour
    seen.observe(request(outcome=Outcome.NOT_FINITE, weight=0.5, at=now + 3600))
    assert verdict(seen, now + 3600) is Verdict.FAIL


def test_a_replaced_version_starts_afresh() -> None:
    replaced = at_step(0)
    for _ in range(3):
        replaced.observe(request(outcome=Outcome.FAILED, weight=0.01))
    assert verdict(replaced, 0.0) is Verdict.FAIL
    fresh = analysis(STEPS, GuardLimits(), small(), version="new/2", rollout="r2")
    fresh.begin_step(0, 0.0)
    for _ in range(3):  # what the one before leaves behind
        fresh.observe(request(outcome=Outcome.NOT_FINITE, weight=0.01))
        fresh.observe(request(outcome=Outcome.NOT_FINITE, weight=0.01, rollout="r2"))
        fresh.observe(request(outcome=Outcome.NOT_FINITE, weight=0.01, version="new/2"))
        fresh.observe(worker(alive=False))
    assert verdict(fresh, 0.0) is Verdict.WAIT
    for _ in range(10):
        fresh.observe(request(weight=0.01, rollout="r2", version="new/2"))
    assert verdict(fresh, 0.0) is Verdict.PASS


@pytest.mark.parametrize(
    ("images", "kid", "advice"), [(511, 9.0, "too few images"), (512, 9.0, "worse"), (512, 0.06, "not worse")]
)
def test_online_kid_advises_from_512_images_an_arm_on_and_decides_nothing(images: int, kid: float, advice: str) -> None:
    seen = at_step(0)
    serve(seen, 10, arms="canary")
    seen.observe(QualityObservation(Arm.STABLE, "old/7", 512, 0.05, 0.01, 0.0, "r"))
    seen.observe(QualityObservation(Arm.CANARY, "new/1", images, kid, 0.01, 0.0, "r"))
    decision = seen.decide(1.0)
    assert decision.verdict is Verdict.PASS
    assert decision.evidence["kid"]["advice"] == advice


def test_steps_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingsError, match="Steps"):
        analysis((5, 50))
    with pytest.raises(IndexError, match="step"):
        analysis().begin_step(5, 0.0)


def test_evidence_is_plain_json() -> None:
    seen = at_step(2)
    now = serve(seen, 40)
    decision = seen.decide(now)
    assert json.loads(json.dumps(decision.to_json(), allow_nan=False))["verdict"] == "pass"
    assert set(decision.evidence["metrics"]) == {"latency", "errors", "ratings"}


clients = st.integers(0, 12)
observations = st.one_of(
    st.builds(
        lambda arm, outcome, client, seconds, weight: request(
            arm, outcome, client=f"c{client}", compute_seconds=seconds, total_seconds=10 * seconds, weight=weight
        ),
        st.sampled_from(list(Arm)),
        st.sampled_from([*[Outcome.OK] * 8, Outcome.FAILED, Outcome.BLANK, Outcome.REFUSED]),
        clients,
        st.floats(0.1, 4.0),
        st.sampled_from([0.2, 0.5]),
    ),
    st.builds(
        lambda arm, rater, value: rating(arm, float(value), f"c{rater}"),
        st.sampled_from(list(Arm)),
        clients,
        st.integers(1, 5),
    ),
    st.builds(lambda ages: worker(in_flight_judged_seconds=tuple(ages)), st.lists(st.floats(0.0, 60.0), max_size=3)),
)


@settings(max_examples=50)
@given(st.lists(observations, max_size=80), st.integers(0, 80), st.integers(0, 80))
def test_a_restart_at_any_point_gives_the_same_decisions(rows: list[Observation], stop: int, step: int) -> None:
    whole, restarted = at_step(2), at_step(2)
    for number, row in enumerate(rows):
        at = 0.3 * number
        if number == stop:
            restarted = RolloutAnalysis.from_json(json.loads(json.dumps(restarted.to_json(), allow_nan=False)))
        if number == step:
            whole.begin_step(3, at)
            restarted.begin_step(3, at)
        whole.observe(replace(row, at=at))
        restarted.observe(replace(row, at=at))
        assert whole.decide(at) == restarted.decide(at)
    assert whole.to_json() == restarted.to_json()


@settings(max_examples=50)
@given(st.lists(observations, max_size=60), st.lists(observations, max_size=60))
def test_asking_more_often_changes_nothing(rows: list[Observation], others: list[Observation]) -> None:
    asked, unasked = at_step(2), at_step(2)
    for number, row in enumerate([*rows, *others]):
        at = 0.3 * number
        for seen in (asked, unasked):
            seen.observe(replace(row, at=at))
        asked.decide(at)
    now = 0.3 * len([*rows, *others])
    assert asked.decide(now) == unasked.decide(now)


@settings(max_examples=50)
@given(st.lists(observations, max_size=80), st.randoms(use_true_random=False))
def test_what_the_stable_arm_does_and_how_the_arms_interleave_changes_no_guard(
    rows: list[Observation], chance: Random
) -> None:
    canary = [row for row in rows if row.arm is Arm.CANARY]
    stable = [replace(row, arm=Arm.STABLE, version="old/7") for row in rows]
    alone, mixed = at_step(2), at_step(2)
    waiting = list(stable)
    for row in canary:
        alone.observe(row)
        while waiting and chance.random() < 0.5:
            mixed.observe(waiting.pop())
        mixed.observe(row)
        assert mixed.decide(0.0).guard == alone.decide(0.0).guard


def test_a_state_of_another_format_is_refused() -> None:
    with pytest.raises(SettingsError, match="format"):
        RolloutAnalysis.from_json({**at_step(0).to_json(), "format": 99})
