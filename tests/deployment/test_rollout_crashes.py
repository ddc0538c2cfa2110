"""A router that is killed at any write of the release goes on where it stood."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pretended_fleet import Clock, PretendedFleet, ToldAnalyses, entry

from evodiff.deployment.observation import Arm
from evodiff.deployment.release import file as release_file
from evodiff.deployment.release.commands import Command
from evodiff.deployment.release.controller import RolloutController
from evodiff.deployment.release.entries import version_name
from evodiff.deployment.release.file import ReleaseFile
from evodiff.deployment.release.rollout_options import RolloutOptions
from evodiff.deployment.release.state import Phase, ReleaseState
from evodiff.pipeline import release

OPTIONS = RolloutOptions(steps=(0.05, 0.5, 1.0), bake_seconds=60.0, retry_seconds=0.0)
LOOKS = 60


class Killed(BaseException):
    """The process ended here."""


class Disk:
    """Counts writes, and kills the process at one of them, before or after it has reached the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kill_at: int | None = None, *, after: bool = False) -> None:
        self.writes = 0
        write = release.write_durably

        def count(file: Path, content: bytes) -> None:
            self.writes += 1
            if self.writes == kill_at and not after:
                raise Killed
            write(file, content)
            if self.writes == kill_at:
                raise Killed

        monkeypatch.setattr(release, "write_durably", count)
        monkeypatch.setattr(release_file, "write_durably", count)


async def settle(controller: RolloutController) -> None:
    await controller.poll()
    for _ in range(4):
        await asyncio.sleep(0)


async def tell_the_story(path: Path, clock: Clock) -> RolloutController:
    """Have "first" serve, then "second" take its place step by step, wherever the release stands; then go back."""
    fleet = PretendedFleet()
    file = ReleaseFile(path)
    controller = RolloutController(file, fleet, ToldAnalyses(), OPTIONS, clock=clock)
    for _ in range(LOOKS):
        await settle(controller)
        agree(controller, fleet)
        state = file.read()
        if [item.action for item in state.decisions].count("roll back"):
            break
        if state.rollout is not None and fleet.routed[1] > 0:
            fleet.answer(state.rollout.id)
            clock.now += 61
        elif state.rollout is None and state.pending is None:
            await ask_next(controller, fleet, state)
    for _ in range(3):
        await settle(controller)
    agree(controller, fleet)
    return controller


async def ask_next(controller: RolloutController, fleet: PretendedFleet, state: ReleaseState) -> None:
    served = None if state.champion is None else state.champion["candidate"]
    if served == "second":
        if Arm.CANARY in fleet.arms:
            await controller.command(Command("rollback", "back", "somebody"))
        return
    wanted = entry("first" if served is None else "second")
    key = f"start {wanted['candidate']}"
    await controller.command(Command("start", key, "somebody", state.revision, {"entry": wanted}))


def agree(controller: RolloutController, fleet: PretendedFleet) -> None:
    """The workers never do more than the release on the disk says."""
    state = controller.file.read()
    rollout = state.rollout
    assert fleet.routed[1] in (0.0, state.weight)
    if fleet.routed[1] > 0:
        assert rollout is not None
        assert fleet.routed[0] == rollout.id
        assert rollout.phase is Phase.RUNNING
        assert state.challenger is not None
        assert fleet.arms[Arm.CANARY] == version_name(state.challenger)
        watch = controller._watch
        assert (watch._rollout, watch._step) == (rollout.id, rollout.step)
    if Arm.STABLE in fleet.arms:
        assert state.champion is not None


def plot(state: ReleaseState) -> list[tuple[str, str | None, float]]:
    return [(item.action, item.version, item.weight) for item in state.decisions]


def whole_story(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ReleaseState, int]:
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        asyncio.run(tell_the_story(folder / "whole.json", Clock()))
    return ReleaseFile(folder / "whole.json").read(), disk.writes


@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
def test_killed_at_any_write_it_tells_the_same_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    wanted, writes = whole_story(tmp_path, monkeypatch)
    assert [item[0] for item in plot(wanted)] == [
        *("request", "begin", "loaded", "promote"),
        *("request", "begin", "loaded", "step", "step", "step", "promote", "roll back"),
    ]
    for kill_at in range(1, writes + 1):
        path, clock = tmp_path / f"{kill_at}.json", Clock()
        with monkeypatch.context() as patch:
            Disk(patch, kill_at, after=after)
            with pytest.raises(Killed):
                asyncio.run(tell_the_story(path, clock))
        controller = asyncio.run(tell_the_story(path, clock))
        state = ReleaseFile(path).read()
        assert plot(state) == plot(wanted), f"killed at write {kill_at} of {writes}"
        fleet: Any = controller.fleet
        assert fleet.arms == {Arm.STABLE: "run/first"}
        assert fleet.routed == ("", 0.0)
