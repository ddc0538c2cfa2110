"""What holds of a release whatever happens to it, in whatever order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pretended_fleet import entry

from evodiff.deployment.observation import Arm
from evodiff.deployment.release.assignment import STEPS, arm_of, parse_steps, position
from evodiff.deployment.release.commands import Command, StaleRevision, obey
from evodiff.deployment.release.entries import version_name
from evodiff.deployment.release.rollout_options import RolloutOptions
from evodiff.deployment.release.state import (
    Phase,
    Quarantined,
    ReleaseConflict,
    ReleaseState,
    advance,
    judge,
    loaded,
    overdue,
    proceed,
    quarantined,
    recognise,
    reload_champion,
    roll_back,
    same_version,
    take_pending,
    withdraw,
)
from evodiff.errors import SettingsError

CANDIDATES = st.sampled_from("abcd")
KEYS = st.sampled_from(["k1", "k2", "k3"])


def test_a_registered_version_and_its_candidate_are_one_version_once_that_is_known() -> None:
    found = {"model": "digits", "version": "3", "run": "digits", "candidate": "a", "digest": "d"}
    for other in ({"run": "digits", "candidate": "a"}, {"model": "digits", "version": "3"}):
        assert same_version(found, other)
        assert same_version(other, found)
        assert not same_version(found, {**other, "digest": "of others"})
    assert not same_version(found, {"model": "digits", "version": "4"})
    options = RolloutOptions(steps=(0.5, 1.0))
    serves = ReleaseState(champion=found, pending={"model": "digits", "version": "4"})
    begun = take_pending(serves, 0.0, options, "r1")
    after = loaded(begun, 1.0, "d", {}, version="digits/a")
    assert (after.rollout, after.champion, after.quarantine) == (None, found, ())
    assert after.decisions[-1].reason == "these weights serve already"


def test_a_registered_champion_that_was_registered_anew_is_known_by_its_new_candidate() -> None:
    registered = {"model": "digits", "version": "3"}
    old = {**registered, "run": "digits", "candidate": "a", "digest": "d", "experiment": "x", "generation": 1}
    after = reload_champion(ReleaseState(champion=old), 1.0, registered, "new", version="digits/b", experiment="y")
    found = {**registered, "run": "digits", "candidate": "b", "digest": "new", "experiment": "y"}
    assert {name: value for name, value in (after.champion or {}).items() if value is not None} == found
    mine = {"run": "digits", "candidate": "a", "generation": 1, "digest": "d", "experiment": "x"}
    after = reload_champion(ReleaseState(champion=mine), 1.0, mine, "new", version="digits/a", experiment="y")
    assert after.champion == {**mine, "digest": "new", "experiment": "y"}


def test_a_registered_model_cannot_pass_by_the_name_under_which_its_candidate_is_held() -> None:
    held = Quarantined("digits/a", 0.0, "rolled back while it was loaded")
    waiting = ReleaseState(pending={"model": "digits", "version": "3"}, quarantine=(held,))
    begun = take_pending(waiting, 1.0, RolloutOptions(steps=(0.5, 1.0)), "r1")
    after = loaded(begun, 2.0, "d", {}, version="digits/a")
    assert (after.rollout, after.decisions[-1].action) == (None, "withdraw")
    assert quarantined(after, {"model": "digits", "version": "3"}) is not None


@pytest.mark.parametrize("kid", [0.1, None])
def test_a_version_whose_images_nothing_could_judge_goes_on_and_the_decision_says_so(kid: float | None) -> None:
    begun = take_pending(ReleaseState(pending={"run": "digits", "candidate": "a"}), 0.0, RolloutOptions(), "r1")
    after = loaded(begun, 1.0, "d", {"kid": kid})
    assert after.rollout is not None
    assert ("nothing was at hand to judge" in after.decisions[-1].reason) is (kid is None)


def test_what_loading_has_shown_stands_in_the_evidence_once() -> None:
    champion = {"run": "digits", "candidate": "a", "digest": "d"}
    after = recognise(ReleaseState(champion=champion), 1.0, champion, "digits/a", "x")
    assert after.champion == {**champion, "experiment": "x"}
    assert after.decisions[-1].evidence == {"champion": {"experiment": "x"}}
    assert recognise(after, 2.0, champion, "digits/a", "x") is after


class Release(RuleBasedStateMachine):
    """Everything that may happen to a release, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = ReleaseState()
        self.now = 0.0
        self.rollouts = 0
        self.freed: set[str] = set()  # started despite their quarantine
        self.answers: dict[str, dict[str, Any]] = {}
        self.options = RolloutOptions(steps=(0.05, 0.5, 1.0), bake_seconds=10.0, max_rollout_seconds=1000.0)

    def move(self, after: ReleaseState) -> None:
        before, self.state = self.state, after
        if after is before:
            return
        assert after.revision > before.revision
        assert [item.revision for item in after.decisions][-1] == after.revision
        if before.rollout is not None and after.rollout is not None and before.rollout.id != after.rollout.id:
            raise AssertionError("one rollout became another without an end")
        if after.weight != before.weight:
            assert after.decisions[-1].weight == after.weight
            assert after.decisions[-1].reason
        self.weighs_by_steps(before, after)

    def weighs_by_steps(self, before: ReleaseState, after: ReleaseState) -> None:
        """A rollout goes on one step at a time, and back to nothing alone."""
        if before.rollout is not None and after.rollout is not None:
            assert after.rollout.step in (before.rollout.step, before.rollout.step + 1)

    @rule(seconds=st.sampled_from([1.0, 11.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(candidate=CANDIDATES, approval=st.sampled_from([{}, {"approval": True}]))
    def ask(self, candidate: str, approval: dict[str, Any]) -> None:
        """The pipeline writes what waits, and nothing else."""
        self.state = replace(self.state, pending=entry(candidate, **approval), revision=self.state.revision + 1)

    @rule()
    def begin(self) -> None:
        wanted, before = self.state.pending, self.state
        self.rollouts += 1
        self.move(take_pending(self.state, self.now, self.options, f"r{self.rollouts}"))
        if before.rollout is not None:
            assert self.state is before
        elif wanted is not None and quarantined(before, wanted) is not None:
            assert self.state.rollout is None

    @precondition(lambda self: self.state.rollout is not None and self.state.rollout.phase is Phase.LOADING)
    @rule(shared=st.booleans())
    def load(self, shared: bool) -> None:
        assert self.state.challenger is not None
        digest = "of all" if shared else f"of {self.state.challenger['candidate']}"
        after = loaded(self.state, self.now, digest, {})
        if after.rollout is not None and after.rollout.phase is Phase.RUNNING:
            after = proceed(after, self.now, "its first step", {})
        self.move(after)
        if self.state.rollout is not None:
            assert not any(item.digest == digest for item in self.state.quarantine)

    @precondition(lambda self: self.state.rollout is not None and self.state.rollout.step >= 0)
    @rule(verdict=st.sampled_from(["pass", "pass", "wait", "inconclusive", "fail"]))
    def hear(self, verdict: str) -> None:
        before = self.state.rollout
        assert before is not None
        self.move(judge(self.state, self.now, verdict, "so it seems", self.options, evidence={"n": 1}))
        if verdict == "fail":
            assert (self.state.rollout, self.state.weight) == (None, 0.0)
        elif before.paused:
            assert self.state.rollout == before

    @precondition(lambda self: self.state.rollout is not None)
    @rule()
    def look_at_the_clock(self) -> None:
        self.move(overdue(self.state, self.now, self.options))

    @precondition(lambda self: self.state.rollout is not None and self.state.rollout.phase is Phase.PROVING)
    @rule(good=st.booleans())
    def prove(self, good: bool) -> None:
        after = advance if good else roll_back
        self.move(after(self.state, self.now, "synthetic load"))

    @precondition(lambda self: self.state.rollout is not None)
    @rule()
    def lose(self) -> None:
        self.move(withdraw(self.state, self.now, "no memory"))

    @rule(
        action=st.sampled_from(["start", "promote", "rollback", "pause"]),
        key=KEYS,
        candidate=CANDIDATES,
        stale=st.booleans(),
        freely=st.booleans(),
    )
    def command(self, action: str, key: str, candidate: str, stale: bool, freely: bool) -> None:
        fields = {"entry": entry(candidate), "despite_quarantine": freely} if action == "start" else {}
        revision = self.state.revision - 1 if stale else self.state.revision
        if action == "rollback" and freely:
            revision = None
        before = self.state
        try:
            after, answer = obey(before, Command(action, key, "somebody", revision, fields), self.now)
        except StaleRevision:
            assert stale
            return
        except ReleaseConflict:
            return
        if key in self.answers:
            assert after is before
            assert answer == self.answers[key]
            return
        self.answers[key] = answer
        assert not stale or (action == "rollback" and revision is None)
        if freely and action == "start":
            assert quarantined(after, entry(candidate)) is None
        if action == "rollback":
            assert after.weight == 0
        self.move(after)

    @rule()
    def restart(self) -> None:
        """What is on the disk is the whole of it."""
        assert ReleaseState.from_json(self.state.to_json()) == self.state

    @invariant()
    def roles_fit(self) -> None:
        state = self.state
        assert (state.challenger is None) == (state.rollout is None)
        if state.rollout is None or state.rollout.phase is not Phase.RUNNING:
            assert state.weight == 0
        if state.champion is not None and state.challenger is not None:
            assert version_name(state.champion) != version_name(state.challenger) or (
                state.champion.get("digest") != state.challenger.get("digest")
            )

    @invariant()
    def nothing_in_quarantine_is_on_its_way(self) -> None:
        if self.state.challenger is not None:
            assert quarantined(self.state, self.state.challenger) is None


TestRelease = Release.TestCase
TestRelease.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@given(st.text("ab:é1", max_size=20), st.text("ab:é1", max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_a_client_in_the_canary_stays_in_it_at_every_larger_weight(
    rollout: str, client: str, low: float, high: float
) -> None:
    assume(low <= high)
    if arm_of(rollout, client, low) is Arm.CANARY:
        assert arm_of(rollout, client, high) is Arm.CANARY
    assert arm_of(rollout, client, 0.0) is Arm.STABLE
    assert arm_of(rollout, client, 1.0) is Arm.CANARY


def test_clients_are_spread_evenly_and_anew_by_each_rollout() -> None:
    """Kolmogorov's distance of 4,000 clients; 1.95 / sqrt(n) is passed by chance once in a thousand."""
    clients = [f"client {number}" for number in range(4000)]
    places = sorted(position("one", client) for client in clients)
    assert max(abs(place - index / len(places)) for index, place in enumerate(places)) < 1.95 / len(places) ** 0.5
    both = sum(position("one", client) < 0.5 and position("two", client) < 0.5 for client in clients)
    assert abs(both / len(clients) - 0.25) < 0.03


@pytest.mark.parametrize("steps", [[], [5, 5, 100], [50, 20, 100], [1, 5], [100, 101], [-1, 100], [float("nan"), 100]])
def test_steps_that_do_not_lead_to_all_traffic_are_refused(steps: list[float]) -> None:
    with pytest.raises(SettingsError):
        parse_steps(steps)


def test_steps_of_any_size_lead_to_all_traffic() -> None:
    assert parse_steps([1, 5, 20, 50, 100]) == STEPS
    assert parse_steps([0, 33.3, 100]) == pytest.approx((0.0, 0.333, 1.0))
    assert parse_steps([100]) == (1.0,)
