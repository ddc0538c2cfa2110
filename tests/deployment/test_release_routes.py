"""``/v1/release`` and what a terminal shows of it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pretended_fleet import Clock, PretendedFleet, ToldAnalyses
from rich.console import Console

from evodiff.deployment.observation import Arm
from evodiff.deployment.release.controller import RolloutController
from evodiff.deployment.release.file import ReleaseFile
from evodiff.deployment.release.rollout_options import RolloutOptions
from evodiff.deployment.release.routes import add_release_routes
from evodiff.deployment.web.tokens import Tokens
from evodiff.errors import LedgerError
from evodiff.reporting.release import release_tables

OWNER, USER = "owner-owner-owner-owner", "user-user-user-user-user"
TOKENS = Tokens.from_json(
    json.dumps(
        [
            {"subject": "owner", "scopes": ["use", "release"], "token": OWNER},
            {"subject": "user", "scopes": ["use"], "token": USER},
        ]
    ),
    "the test",
)
FIRST, SECOND = "a" * 16, "b" * 16


class Router:
    """The app in this process."""

    def __init__(self, folder: Path) -> None:
        self.fleet, self.analyses = PretendedFleet(), ToldAnalyses()
        self.controller = RolloutController(
            ReleaseFile(folder / "release.json"),
            self.fleet,
            self.analyses,
            RolloutOptions(steps=(0.05, 0.5, 1.0), retry_seconds=0.0),
            clock=Clock(),
        )
        app = FastAPI()
        add_release_routes(app, self.controller, TOKENS)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://router")

    async def show(self, token: str = OWNER) -> dict[str, Any]:
        answer = await self.client.get("/v1/release", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(
        self, action: str, token: str | None = OWNER, key: str | None = "key", **body: Any
    ) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.client.post(f"/v1/release/{action}", json=body, headers=headers)

    async def look(self) -> None:
        for _ in range(6):
            await self.controller.poll()
            await asyncio.sleep(0)

    async def start(self, candidate: str, **more: Any) -> httpx.Response:
        revision = (await self.show())["revision"]
        entry = {"run": "run", "candidate": candidate}
        answer = await self.post("start", key=f"start {candidate} {revision}", revision=revision, entry=entry, **more)
        await self.look()
        return answer


def play(folder: Path, story: Callable[[Router], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        router = Router(folder)
        async with router.client:
            await story(router)
        await router.controller.close()

    asyncio.run(run())


def test_a_rollout_by_commands_shows_where_it_stands_and_why(tmp_path: Path) -> None:
    async def story(router: Router) -> None:
        await router.start(FIRST)
        answer = await router.start(SECOND)
        assert answer.json()["action"] == "start"
        shown = await router.show(USER)
        assert shown["champion"]["candidate"] == FIRST
        assert shown["challenger"]["candidate"] == SECOND
        assert shown["rollout"]["weight"] == shown["weight"] == router.fleet.routed[1] == 0.05
        assert shown["loaded"] == {"stable": f"run/{FIRST}", "canary": f"run/{SECOND}"}
        assert shown["evidence"]["verdict"] == "wait"
        assert "answers" not in shown
        promoted = await router.post("promote", revision=shown["revision"])
        assert promoted.json()["weight"] == router.fleet.routed[1] == 0.5
        paused = await router.post("pause", key="hold", revision=promoted.json()["revision"])
        assert paused.status_code == 200
        assert (await router.show())["rollout"]["paused"] is True
        back = await router.post("rollback", key=None, reason="too [bold]slow[/bold]")
        assert back.json()["reason"] == "owner: too [bold]slow[/bold]"
        assert router.fleet.routed == ("", 0.0)
        shown = await router.show()
        text = io.StringIO()
        Console(file=text, width=200).print(*release_tables(shown, now=1060.0))
        assert "too [bold]slow[/bold]" in text.getvalue()
        assert f"run/{SECOND}" in text.getvalue()

    play(tmp_path, story)


def test_commands_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    async def story(router: Router) -> None:
        await router.start(FIRST)
        revision = (await router.show())["revision"]
        entry = {"run": "run", "candidate": SECOND}
        refused = [
            (401, await router.post("promote", None, revision=revision)),
            (401, await router.post("promote", "x" * 30, revision=revision)),
            (403, await router.post("promote", USER, revision=revision)),
            (422, await router.post("promote", key=None, revision=revision)),
            (422, await router.post("promote")),
            (422, await router.post("promote", revision=str(revision))),
            (422, await router.post("start", revision=revision, entry={"run": "../../etc", "candidate": SECOND})),
            (422, await router.post("start", revision=revision, entry={"folder": "/etc"})),
            (422, await router.post("start", revision=revision, entry=entry, force=True)),
            (422, await router.post("start", revision=revision, entry={**entry, "generation": 10**9})),
            (409, await router.post("start", revision=revision - 1, entry=entry)),
            (409, await router.post("start", revision=revision, entry={"run": "run", "candidate": FIRST})),
            (409, await router.post("promote", revision=revision)),
            (409, await router.post("pause", revision=revision)),
            (409, await router.post("rollback")),
            (422, await router.post("rollback", revision="1")),
        ]
        assert [answer.status_code for _, answer in refused] == [status for status, _ in refused]
        assert (await router.show())["revision"] == revision
        assert (await router.client.get("/v1/release")).status_code == 401

    play(tmp_path, story)


def test_a_rollback_may_rest_on_a_revision(tmp_path: Path) -> None:
    async def story(router: Router) -> None:
        await router.start(FIRST)
        await router.start(SECOND)
        revision = (await router.show())["revision"]
        late = await router.post("rollback", key="late", revision=revision - 1)
        assert late.status_code == 409
        assert router.fleet.routed[1] == 0.05
        assert (await router.post("rollback", key="now", revision=revision)).status_code == 200

    play(tmp_path, story)


def test_an_entry_of_the_release_can_be_started_as_it_stands_there(tmp_path: Path) -> None:
    async def story(router: Router) -> None:
        await router.start(FIRST)
        revision = (await router.show())["revision"]
        entry = {"model": "digits", "version": "3", "run": "digits", "candidate": "of long ago"}
        assert (await router.post("start", revision=revision, entry=entry)).status_code == 200
        await router.look()
        assert (await router.show())["challenger"]["candidate"] == "found3"

    play(tmp_path, story)


def test_a_command_is_done_once_however_often_it_is_sent(tmp_path: Path) -> None:
    async def story(router: Router) -> None:
        await router.start(FIRST)
        await router.start(SECOND)
        revision = (await router.show())["revision"]
        answers = await asyncio.gather(*(router.post("promote", revision=revision) for _ in range(5)))
        assert {answer.text for answer in answers} == {answers[0].text}
        assert router.fleet.routed[1] == 0.5
        assert (await router.show())["revision"] == revision + 1

    play(tmp_path, story)


def test_what_cannot_be_written_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(router: Router) -> None:
        await router.start(FIRST)
        await router.start(SECOND)

        def full(transition: Any) -> Any:
            raise LedgerError("No space left.")

        monkeypatch.setattr(router.controller.file, "change", full)
        assert (await router.post("rollback")).status_code == 503
        assert router.fleet.routed == ("", 0.0)
        assert router.fleet.arms[Arm.CANARY] == f"run/{SECOND}"

    play(tmp_path, story)
