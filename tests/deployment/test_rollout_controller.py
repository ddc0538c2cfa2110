"""The controller of rollouts over a fleet in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from pretended_fleet import Clock, PretendedFleet, ToldAnalyses, entry

from evodiff.deployment.observation import Arm, Outcome
from evodiff.deployment.release.commands import Command, StaleRevision
from evodiff.deployment.release.controller import RolloutController
from evodiff.deployment.release.entries import served_as, version_name
from evodiff.deployment.release.file import ReleaseFile
from evodiff.deployment.release.rollout_options import RolloutOptions
from evodiff.deployment.release.state import Phase, ReleaseConflict, ReleaseState, Wait
from evodiff.deployment.smoke_report import SmokeTestFailure
from evodiff.errors import LedgerError
from evodiff.pipeline.release import EMPTY, read_release, release_locked, write_release

QUICK = RolloutOptions(steps=(0.05, 0.5, 1.0), bake_seconds=60.0, retry_seconds=0.0, poll_interval_seconds=0.02)


class Stage:
    """A controller with all that it needs; :meth:`look` has it look until the workers have nothing left to do."""

    def __init__(self, folder: Path, options: RolloutOptions = QUICK, **more: Any) -> None:
        self.path = folder / "release.json"
        self.clock = more.pop("clock", None) or Clock()
        self.fleet = PretendedFleet()
        self.analyses = more.pop("analyses", None) or ToldAnalyses()
        ids = iter(f"rollout-{number}" for number in range(1, 100))
        self.controller = RolloutController(
            ReleaseFile(self.path),
            self.fleet,
            self.analyses,
            options,
            clock=self.clock,
            new_id=lambda: next(ids),
            **more,
        )

    @property
    def state(self) -> ReleaseState:
        return ReleaseFile(self.path).read()

    async def look(self) -> ReleaseState:
        for _ in range(6):
            await self.controller.poll()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return self.state

    async def ask(self, action: str, key: str = "", **fields: Any) -> dict[str, Any]:
        now = self.state.revision
        revision = fields.pop("revision", None if action == "rollback" else now)
        return await self.controller.command(Command(action, key or f"{action} {now}", "somebody", revision, fields))

    async def crown(self, candidate: str = "first") -> None:
        """Have a first champion serve."""
        await self.look_for(entry(candidate))
        assert self.fleet.arms == {Arm.STABLE: f"run/{candidate}"}

    def wait_for(self, wanted: dict[str, Any]) -> None:
        """Write what is to be released, as the pipeline does."""
        with release_locked(self.path):
            release = read_release(self.path)
            write_release(self.path, {**release, "revision": release["revision"] + 1, "pending": wanted})

    async def look_for(self, wanted: dict[str, Any]) -> ReleaseState:
        """Look once something waits."""
        self.wait_for(wanted)
        return await self.look()

    async def begin(self, candidate: str, **more: Any) -> None:
        """Have a first champion serve, and a candidate beside it at its first step."""
        await self.crown()
        await self.look_for(entry(candidate, **more))

    async def promote(self) -> None:
        """Have a person say so at every step."""
        for _ in range(3):
            await self.ask("promote")
            await self.look()

    async def pass_step(self) -> ReleaseState:
        """Have the canary answer enough requests for its step."""
        assert self.state.rollout is not None
        self.fleet.answer(self.state.rollout.id)
        return await self.look()


Story = Callable[[Stage], Coroutine[Any, Any, None]]


def play(folder: Path, story: Story, options: RolloutOptions = QUICK, **more: Any) -> None:
    async def run() -> None:
        stage = Stage(folder, options, **more)
        await story(stage)
        await stage.controller.close()

    asyncio.run(run())


def played(story: Story) -> Callable[[Path], None]:
    """Make a test of a story on a stage of its own."""

    def test(tmp_path: Path) -> None:
        play(tmp_path, story)

    test.__name__ = story.__name__
    return test


@played
async def test_a_better_version_goes_out_in_steps_and_swaps_roles_without_a_reload(stage: Stage) -> None:
    await stage.begin("second")
    assert stage.fleet.routed == ("rollout-2", 0.05)
    await stage.pass_step()
    assert stage.fleet.routed == ("rollout-2", 0.5)
    await stage.pass_step()
    state = await stage.pass_step()
    assert stage.fleet.routed == ("rollout-2", 1.0)  # bakes
    assert state.rollout is not None
    stage.clock.now += 61
    state = await stage.look()
    assert state.champion is not None
    assert state.previous is not None
    assert (state.champion["candidate"], state.previous["candidate"]) == ("second", "first")
    assert stage.fleet.arms == {Arm.STABLE: "run/second", Arm.CANARY: "run/first"}
    assert stage.fleet.routed == ("", 0.0)
    assert [line for line in stage.fleet.log if line.startswith("load")] == [
        "load run/first as canary",
        "load run/second as canary",
    ]


@played
async def test_a_failing_canary_loses_its_traffic_and_is_never_started_again(stage: Stage) -> None:
    await stage.begin("bad")
    stage.fleet.answer("rollout-2", Outcome.FAILED)
    await stage.controller.poll()
    assert stage.fleet.routed == ("", 0.0)
    state = await stage.look()
    assert (state.rollout, state.challenger) == (None, None)
    assert state.decisions[-1].reason == "The guard errors tripped."
    assert state.decisions[-1].evidence["seen"] == 1
    assert stage.fleet.arms == {Arm.STABLE: "run/first"}
    state = await stage.look_for(entry("bad"))
    assert (state.pending, state.rollout) == (None, None)
    state = await stage.look_for(entry("twin", weights="weights of run/bad"))
    assert state.rollout is None
    assert "rolled back before" in state.decisions[-1].reason
    with pytest.raises(ReleaseConflict, match="quarantine"):
        await stage.ask("start", entry=entry("bad"))
    await stage.ask("start", entry=entry("bad"), despite_quarantine=True)
    state = await stage.look()
    assert state.rollout is not None
    assert stage.fleet.routed[1] == 0.05


@played
async def test_every_decision_has_reached_the_disk_before_a_weight_changes(stage: Stage) -> None:
    seen: list[float] = []

    def check(rollout: str, weight: float) -> None:
        seen.append(weight)
        assert stage.state.weight == weight

    stage.fleet.on_route = check
    await stage.begin("second")
    await stage.pass_step()
    await stage.ask("rollback")
    assert seen == [0.05, 0.5, 0.0]


@played
async def test_guards_go_on_while_a_person_thinks_and_a_pass_does_not_go_on_by_itself(stage: Stage) -> None:
    await stage.begin("second", approval=True)
    await stage.pass_step()
    state = await stage.pass_step()
    assert state.rollout is not None
    assert (state.rollout.waits_for, stage.fleet.routed[1]) == (Wait.APPROVAL, 0.5)
    assert (await stage.pass_step()).weight == 0.5
    await stage.ask("promote")
    assert stage.fleet.routed[1] == 1.0
    await stage.ask("pause")
    stage.clock.now += 61
    assert (await stage.pass_step()).rollout is not None
    stage.fleet.answer("rollout-2", Outcome.FAILED)
    assert (await stage.look()).rollout is None
    assert stage.fleet.routed == ("", 0.0)


@played
async def test_what_a_person_decides_stands_beside_the_evidence_that_there_was(stage: Stage) -> None:
    await stage.begin("second")
    told = (("promote", "step"), ("pause", "pause"), ("rollback", "roll back"))
    for seen, (command, action) in enumerate(told, start=1):
        stage.fleet.answer("rollout-2")
        await stage.ask(command)
        decision = stage.state.decisions[-1]
        assert (decision.action, decision.by, decision.evidence["total"]) == (action, "somebody", seen)


@played
async def test_of_a_registered_model_the_release_says_which_candidate_it_was_found_to_be(stage: Stage) -> None:
    await stage.crown()
    state = await stage.look_for({"model": "digits", "version": "3"})
    assert state.challenger is not None
    assert (state.challenger["run"], state.challenger["candidate"]) == ("digits", "found3")
    assert stage.fleet.routed[1] == 0.05
    assert stage.fleet.log.count("load models:/digits/3 as canary") == 1
    await stage.ask("rollback")
    await stage.look()
    assert {item.version for item in stage.state.quarantine} == {"models:/digits/3", "digits/found3"}
    decisions = [item.action for item in stage.state.decisions]
    await stage.look_for({"run": "digits", "candidate": "found3"})
    assert [item.action for item in stage.state.decisions] == [*decisions, "refuse"]


@played
async def test_a_registered_champion_is_known_by_its_candidate_and_loaded_as_such_again(stage: Stage) -> None:
    state = await stage.look_for({"model": "digits", "version": "3"})
    assert state.champion is not None
    assert served_as(state.champion) == "digits/found3"
    assert version_name(state.champion) == "models:/digits/3"
    again = Stage(stage.path.parent)
    await again.look()
    assert again.fleet.arms == {Arm.STABLE: "models:/digits/3"}
    assert again.state.revision == state.revision


@pytest.mark.parametrize("role", ["champion", "previous", "challenger"])
def test_a_release_that_knew_a_registered_model_by_that_name_alone_learns_its_candidate(
    tmp_path: Path, role: str
) -> None:
    async def before(stage: Stage) -> None:
        registered = {"model": "digits", "version": "3"}
        await stage.look_for(registered if role != "challenger" else entry("first"))
        if role != "champion":
            await stage.look_for(registered if role == "challenger" else entry("second"))
        if role == "previous":
            await stage.promote()
        with release_locked(stage.path):
            release = read_release(stage.path)
            kept = {
                name: value for name, value in release[role].items() if name not in ("run", "candidate", "experiment")
            }
            write_release(stage.path, {**release, role: kept})

    async def after(stage: Stage) -> None:
        held = (await stage.look()).to_json()[role]
        assert (held["run"], held["candidate"], held["experiment"]) == ("digits", "found3", "e" * 64)
        decisions = [item.action for item in stage.state.decisions]
        assert decisions.count("recognise") == 1
        await stage.look_for({"run": "digits", "candidate": "found3"})
        refused = [item.action for item in stage.state.decisions[len(decisions) :]]
        assert ("refuse" in refused) == (role == "champion")  # it serves already

    play(tmp_path, before)
    play(tmp_path, after)


@played
async def test_weights_that_were_rolled_back_are_held_under_their_other_name_once_it_is_known(stage: Stage) -> None:
    await stage.crown()
    await stage.look_for({"model": "digits", "version": "3"})
    await stage.ask("rollback")
    with release_locked(stage.path):
        release = read_release(stage.path)
        named = [item for item in release["quarantine"] if item["version"] == "models:/digits/3"]
        write_release(stage.path, {**release, "quarantine": named})
    again = {"run": "digits", "candidate": "found3", "weights": "weights of models:/digits/3"}
    state = await stage.look_for(again)
    assert (state.rollout, state.decisions[-1].action) == (None, "withdraw")
    assert {item.version for item in state.quarantine} == {"models:/digits/3", "digits/found3"}
    assert (await stage.look_for(again)).decisions[-1].action == "refuse"


@played
async def test_a_rollback_that_rests_on_a_revision_comes_too_late_after_another_word(stage: Stage) -> None:
    await stage.begin("second")
    revision = stage.state.revision
    await stage.promote()
    with pytest.raises(StaleRevision):
        await stage.ask("rollback", revision=revision)
    state = stage.state
    assert state.champion is not None
    assert state.champion["candidate"] == "second"
    await stage.ask("rollback")
    assert (await stage.look()).champion["candidate"] == "first"  # type: ignore[index]


@played
async def test_no_command_waits_for_evidence_that_cannot_be_looked_at(stage: Stage) -> None:
    await stage.begin("second")

    def broken(now: float) -> Any:
        raise ArithmeticError("no number")

    stage.analyses.made[-1].decide = broken  # type: ignore[method-assign]
    await stage.ask("rollback")
    assert (stage.state.rollout, stage.state.decisions[-1].evidence) == (None, {})


@played
async def test_the_newest_waits_and_begins_without_what_the_one_before_has_shown(stage: Stage) -> None:
    await stage.begin("second")
    stage.wait_for(entry("third"))
    state = await stage.look_for(entry("fourth"))
    assert state.challenger is not None
    assert state.challenger["candidate"] == "second"
    for _ in range(3):
        stage.fleet.answer("rollout-2")
    await stage.ask("rollback")
    state = await stage.look()
    assert state.challenger is not None
    assert state.challenger["candidate"] == "fourth"
    stage.fleet.answer("rollout-2")  # late, of the one before
    assert stage.analyses.made[-1].total == 0
    assert (await stage.look()).weight == 0.05


@played
async def test_without_traffic_it_holds_until_it_has_taken_too_long_and_nothing_is_held_against_it(
    stage: Stage,
) -> None:
    await stage.crown()
    stage.wait_for(entry("second"))
    stage.clock.now += 1e4
    assert (await stage.look()).weight == 0.05
    stage.clock.now += 25 * 3600
    state = await stage.look()
    assert (state.rollout, state.quarantine) == (None, ())
    assert (state.decisions[-1].action, state.decisions[-1].evidence["total"]) == ("withdraw", 0)
    assert stage.fleet.routed == ("", 0.0)


def test_what_is_inconclusive_waits_for_a_person_or_is_rolled_back(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("second")
        stage.analyses.told["verdict"] = "inconclusive"
        state = await stage.look()
        if state.rollout is None:
            assert stage.controller.options.on_inconclusive == "rollback"
            return
        assert state.rollout.waits_for is Wait.INCONCLUSIVE
        revision = state.revision
        assert (await stage.look()).revision == revision
        await stage.ask("promote")
        assert stage.fleet.routed[1] == 0.5

    play(tmp_path, story)
    (tmp_path / "other").mkdir()
    play(tmp_path / "other", story, RolloutOptions(steps=QUICK.steps, on_inconclusive="rollback"))


@played
async def test_outside_a_rollout_it_swaps_back_once(stage: Stage) -> None:
    await stage.begin("second")
    await stage.promote()
    assert stage.fleet.arms == {Arm.STABLE: "run/second", Arm.CANARY: "run/first"}
    await stage.ask("rollback", key="once")
    state = await stage.look()
    assert stage.fleet.arms == {Arm.STABLE: "run/first"}
    assert state.quarantine[-1].version == "run/second"
    assert await stage.ask("rollback", key="once") == state.answers[-1]["answer"]
    with pytest.raises(ReleaseConflict):
        await stage.ask("rollback", key="twice")


@played
async def test_commands_are_done_once_and_refused_when_they_come_late(stage: Stage) -> None:
    await stage.crown()
    revision = stage.state.revision
    first = await stage.ask("start", key="k", entry=entry("second"), revision=revision)
    assert await stage.ask("start", key="k", entry=entry("second"), revision=revision) == first
    with pytest.raises(ReleaseConflict, match="key"):
        await stage.ask("start", key="k", entry=entry("third"), revision=revision)
    with pytest.raises(StaleRevision):
        await stage.ask("start", entry=entry("third"), revision=revision)
    await stage.look()
    assert [item.action for item in stage.state.decisions].count("request") == 1


def test_the_first_champion_stands_synthetic_load_before_it_serves(tmp_path: Path) -> None:
    outcome = Outcome.FAILED

    async def story(stage: Stage) -> None:
        async def probe(rollout: str, requests: int) -> None:
            assert stage.fleet.routed == ("", 0.0)
            for _ in range(requests):
                stage.fleet.answer(rollout, outcome)

        stage.controller._probe = probe
        state = await stage.look_for(entry("first"))
        assert (state.champion is None) is (outcome is Outcome.FAILED)
        assert Arm.STABLE in stage.fleet.arms or outcome is Outcome.FAILED
        assert "synthetic" in state.decisions[-1].reason or state.quarantine

    play(tmp_path, story)
    (tmp_path / "good").mkdir()
    outcome = Outcome.OK
    play(tmp_path / "good", story)


@played
async def test_a_version_that_fails_its_smoke_test_is_quarantined_and_trouble_of_the_machine_is_not_its_own(
    stage: Stage,
) -> None:
    await stage.crown()
    stage.fleet.failures = {
        "run/blank": SmokeTestFailure("Blank images."),
        "run/unlucky": OSError("no memory"),
    }
    state = await stage.look_for(entry("blank"))
    assert [item.version for item in state.quarantine] == ["run/blank"]
    state = await stage.look_for(entry("unlucky"))
    assert (state.rollout, len(state.quarantine)) == (None, 1)
    assert state.decisions[-1].action == "withdraw"
    assert stage.fleet.log.count("load run/unlucky as canary") == 3
    assert stage.fleet.arms == {Arm.STABLE: "run/first"}


@played
async def test_a_rollback_while_a_version_loads_gives_the_load_up(stage: Stage) -> None:
    await stage.crown()
    stage.fleet.gate.clear()
    state = await stage.look_for(entry("slow"))
    assert state.rollout is not None
    assert state.rollout.phase is Phase.LOADING
    await stage.ask("rollback")
    await stage.look()
    assert stage.fleet.arms == {Arm.STABLE: "run/first"}
    stage.fleet.gate.set()
    await stage.look()
    assert stage.fleet.arms == {Arm.STABLE: "run/first"}


def test_traffic_stops_even_where_a_rollback_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("second")
        working = stage.controller.file.change

        def full(transition: Any) -> ReleaseState:
            before = stage.controller.file.read()
            if transition(before) is not before:
                raise LedgerError("No space left.")
            return before

        monkeypatch.setattr(stage.controller.file, "change", full)
        with pytest.raises(LedgerError):
            await stage.ask("rollback")
        assert stage.fleet.routed == ("", 0.0)
        await stage.look()
        assert stage.fleet.routed == ("", 0.0)
        assert stage.state.rollout is not None
        monkeypatch.setattr(stage.controller.file, "change", working)
        state = await stage.look()
        assert (state.rollout, state.decisions[-1].action) == (None, "roll back")

    play(tmp_path, story)


def test_a_guard_stops_the_traffic_though_the_release_cannot_be_read(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("second")
        whole = stage.path.read_bytes()
        stage.path.write_bytes(whole[:50])
        stage.fleet.answer("rollout-2", Outcome.FAILED)
        assert stage.fleet.routed[1] == 0.05
        await stage.controller.poll()
        assert stage.fleet.routed == ("", 0.0)
        assert "Damaged release" in str(stage.controller.trouble)
        stage.path.write_bytes(whole)
        state = await stage.look()
        assert (state.rollout, state.decisions[-1].action) == (None, "roll back")
        assert stage.controller.trouble is None

    play(tmp_path, story)


def test_a_dead_worker_stops_the_traffic_though_the_release_cannot_be_read(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("second")
        stage.path.write_bytes(stage.path.read_bytes()[:50])
        stage.fleet.dead.add(Arm.CANARY)
        await stage.controller.poll()
        assert stage.fleet.routed == ("", 0.0)

    play(tmp_path, story)


def test_a_guard_stops_the_traffic_though_the_release_is_locked(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("second")
        stopped = asyncio.Event()
        stage.fleet.on_route = lambda rollout, weight: stopped.set() if weight == 0 else None
        with release_locked(stage.path):
            await stage.controller.poll()  # what changes nothing waits for nobody
            assert stage.controller.trouble is None
            stage.fleet.answer("rollout-2", Outcome.FAILED)
            polling = asyncio.create_task(stage.controller.poll())
            await asyncio.wait_for(stopped.wait(), 60)
            assert not polling.done()  # it waits for the lock still
            assert stage.fleet.routed == ("", 0.0)
        await polling
        state = await stage.look()
        assert (state.rollout, state.decisions[-1].action) == (None, "roll back")

    play(tmp_path, story)


def test_a_rollback_that_is_still_to_be_written_outlives_another_command_and_no_other_rollout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, release: Any) -> None:
        raise LedgerError("No space left.")

    async def story(stage: Stage) -> None:
        await stage.begin("second")
        with monkeypatch.context() as patch:
            patch.setattr("evodiff.deployment.release.file.write_release", full)
            with pytest.raises(LedgerError):
                await stage.ask("rollback")
            with pytest.raises(StaleRevision):
                await stage.ask("promote", revision=0)
            await stage.look()
            assert stage.fleet.routed == ("", 0.0)
        assert (await stage.look()).decisions[-1].action == "roll back"

    async def promoted(stage: Stage) -> None:
        await stage.begin("second")
        await stage.pass_step()
        await stage.pass_step()
        with monkeypatch.context() as patch:
            patch.setattr("evodiff.deployment.release.file.write_release", full)
            with pytest.raises(LedgerError):
                await stage.ask("rollback")
        await stage.ask("promote", revision=stage.state.revision)  # somebody knows better
        state = await stage.look()
        assert state.champion is not None
        assert (state.champion["candidate"], state.quarantine) == ("second", ())

    play(tmp_path, story)
    (tmp_path / "other").mkdir()
    play(tmp_path / "other", promoted)


@pytest.mark.parametrize("stale", [False, True])
def test_a_rollback_at_a_revision_that_could_not_be_written_is_done_later_unless_it_came_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stale: bool
) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("second")
        revision = stage.state.revision - stale

        def full(transition: Any) -> ReleaseState:
            raise LedgerError("No space left.")

        with monkeypatch.context() as patch:
            patch.setattr(stage.controller.file, "change", full)
            with pytest.raises(LedgerError):
                await stage.ask("rollback", revision=revision)
        assert stage.fleet.routed[1] == (0.05 if stale else 0.0)
        stage.wait_for(entry("third"))  # the release moves on before it can be told
        state = await stage.look()
        assert [item.action for item in state.decisions].count("roll back") == (0 if stale else 1)
        assert stage.fleet.routed[1] == 0.05
        assert state.challenger is not None
        assert state.challenger["candidate"] == ("second" if stale else "third")

    play(tmp_path, story)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_restart_goes_on_with_roles_weight_and_evidence(tmp_path: Path, step: int) -> None:
    async def before(stage: Stage) -> None:
        await stage.begin("second")
        for _ in range(step):
            await stage.pass_step()
        stage.fleet.answer("rollout-2")
        await stage.controller._watch.keep()

    play(tmp_path, before, analyses=ToldAnalyses(enough=1))

    async def after(stage: Stage) -> None:
        stage.analyses.told["verdict"] = "wait"
        state = await stage.look()
        assert state.rollout is not None
        assert stage.fleet.arms == {Arm.STABLE: "run/first", Arm.CANARY: "run/second"}
        assert stage.fleet.routed == ("rollout-2", QUICK.steps[step])
        assert (stage.analyses.made[-1].step, stage.analyses.made[-1].total) == (step, step + 1)

    play(tmp_path, after)


def test_after_a_restart_the_version_before_can_still_be_gone_back_to(tmp_path: Path) -> None:
    async def before(stage: Stage) -> None:
        await stage.begin("second")
        await stage.promote()

    async def after(stage: Stage) -> None:
        await stage.look()
        assert stage.fleet.arms == {Arm.STABLE: "run/second", Arm.CANARY: "run/first"}
        await stage.ask("rollback")
        await stage.look()
        assert stage.fleet.arms == {Arm.STABLE: "run/first"}

    play(tmp_path, before)
    play(tmp_path, after)


def test_files_of_the_format_before_are_read_and_others_refused(tmp_path: Path) -> None:
    path = tmp_path / "release.json"
    roles = {"champion": entry("first"), "challenger": None, "previous": None, "pending": entry("second")}
    path.write_text(json.dumps({"format": 1, "revision": 3, **roles}))
    state = ReleaseFile(path).read()
    assert (state.revision, state.champion, state.pending) == (3, entry("first"), entry("second"))
    for wrong in (
        {**EMPTY, "format": 3},
        {**EMPTY, "rollout": {"id": "x"}},
        {**EMPTY, "challenger": entry("alone")},
        {**EMPTY, "revision": "seven"},
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(LedgerError):
            ReleaseFile(path).read()


@played
async def test_it_looks_by_itself(stage: Stage) -> None:
    running = asyncio.create_task(stage.controller.run())
    stage.wait_for(entry("first"))
    async with asyncio.timeout(20):
        while stage.fleet.arms != {Arm.STABLE: "run/first"}:
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_champion_that_was_trained_on_since_serves_as_it_is_now(tmp_path: Path) -> None:
    async def before(stage: Stage) -> None:
        await stage.crown()

    async def after(stage: Stage) -> None:
        stage.fleet.trained_on = {"run/first": "longer"}
        state = await stage.look()
        assert stage.fleet.arms == {Arm.STABLE: "run/first"}
        assert state.champion is not None
        assert state.champion["digest"] == "longer"
        assert state.decisions[-1].action == "reload"
        assert (await stage.look()).revision == state.revision

    play(tmp_path, before)
    play(tmp_path, after)


def test_a_champion_that_cannot_be_loaded_leaves_the_challenger_to_serve(tmp_path: Path) -> None:
    async def story() -> None:
        stage = Stage(tmp_path)
        await stage.begin("second")
        again = Stage(tmp_path)  # the router is started again, and the champion is gone
        again.fleet.failures["run/first"] = LedgerError("Gone.", remedy="Restore it.")
        for _ in range(3):
            await again.look()
        assert again.fleet.arms == {Arm.CANARY: "run/second"}
        again.fleet.failures.clear()
        for _ in range(3):
            await again.look()
        assert again.fleet.arms == {Arm.STABLE: "run/first", Arm.CANARY: "run/second"}

    asyncio.run(story())
