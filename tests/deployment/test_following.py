"""A rollout as it is seen from outside: the router's answers, what a person is asked, and what is kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from evodiff.deployment.release.following import (
    Stage,
    has_moved,
    keep_ended_rollouts,
    keep_rollout,
    outcome,
    question,
    rollout_id,
    stage,
)
from evodiff.deployment.release.router_client import RouterClient, RouterError, StaleCommand
from evodiff.errors import LedgerError, SettingsError

CANARY = {"run": "digits", "candidate": "feedfeedfeedfeed", "generation": 4}
CHAMPION = {"model": "digits", "version": "3"}


def release(waits_for: str | None = None, revision: int = 5, **changes: Any) -> dict[str, Any]:
    return {
        "revision": revision,
        "champion": CHAMPION,
        "challenger": CANARY,
        "pending": None,
        "rollout": {"id": "r1", "waits_for": waits_for, "weight": 0.5},
        "decisions": [
            {"rollout": "r0", "version": "other/1", "action": "promote", "reason": "long ago"},
            {"rollout": "r1", "version": "digits/feedfeedfeedfeed", "action": "step", "reason": "to 50 %",
             "evidence": {"latency": 1.02}},
        ],
        **changes,
    }  # fmt: skip


def test_a_rollout_is_on_or_waits_or_is_over() -> None:
    assert stage(release(), "r1") is Stage.ON
    assert stage(release("approval"), "r1") is Stage.WAITING
    assert stage(release(), "r0") is Stage.OVER
    assert stage(release(rollout=None), "r1") is Stage.OVER
    assert (rollout_id(release()), rollout_id(release(rollout=None))) == ("r1", None)


@pytest.mark.parametrize(
    ("later", "moved"),
    [
        (release("approval"), False),
        (release("approval", revision=6), True),
        (release(), True),
        (release(rollout=None), True),
        (release("approval", rollout={"id": "r2", "waits_for": "approval"}), True),
    ],
)
def test_a_question_is_none_any_more_once_anything_was_decided(later: dict[str, Any], moved: bool) -> None:
    assert has_moved(later, "r1", 5) is moved


def test_a_person_is_told_who_replaces_whom_at_which_revision_and_on_what_evidence() -> None:
    text = question(release("inconclusive"))
    for part in ("digits/feedfeedfeedfeed", "models:/digits/3", "inconclusive", "revision 5", "50%", '"latency": 1.02'):
        assert part in text
    assert "long ago" not in text
    assert '"verdict": "wait"' in question(release("approval", evidence={"verdict": "wait"}))


def test_what_was_decided_is_kept_with_the_run_that_the_version_came_from(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "experiment.json").write_text("{}")
    kept = keep_rollout(tmp_path, release(), "r1", "evodiff_up 1\n")
    assert kept == tmp_path / "digits" / "telemetry" / "rollouts" / "r1.json"
    content = json.loads(kept.read_text())
    assert [item["action"] for item in content["decisions"]] == ["step"]
    assert content["metrics"] == ["evodiff_up 1"]
    assert outcome(release(), "r1") == "step: to 50 %"
    assert outcome(release(), "r9") == "nothing was decided"


def test_rollouts_that_nobody_followed_are_kept_once_they_are_over(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "experiment.json").write_text("{}")
    decisions = [
        {"rollout": "r0", "version": "digits/feed", "action": "roll back", "reason": "blank", "evidence": {}},
        {"rollout": "r9", "version": "models:/digits/3", "action": "begin", "reason": "", "evidence": {}},
        {"rollout": "r9", "version": "models:/digits/3", "action": "loaded", "evidence": {"version": "digits/feed"}},
        {"rollout": None, "version": "digits/feed", "action": "request", "reason": "", "evidence": {}},
        {"rollout": "r1", "version": "digits/feed", "action": "begin", "reason": "", "evidence": {}},
        {"rollout": "r8", "version": "elsewhere/feed", "action": "begin", "reason": "", "evidence": {}},
    ]
    asked = []
    found = keep_ended_rollouts(tmp_path, release(decisions=decisions), lambda: asked.append(1) or "evodiff_up 1")  # type: ignore[func-returns-value]
    folder = tmp_path / "digits" / "telemetry" / "rollouts"
    assert found == [folder / "r0.json", folder / "r9.json"]
    assert [item["action"] for item in json.loads(found[1].read_text())["decisions"]] == ["begin", "loaded"]
    assert keep_ended_rollouts(tmp_path, release(decisions=decisions), lambda: "") == []
    assert len(asked) == 2
    # What was followed up to a person's word, and went on after it.
    decisions.append({"rollout": "r0", "version": "digits/feed", "action": "forget", "reason": "", "evidence": {}})
    assert keep_ended_rollouts(tmp_path, release(decisions=decisions), lambda: "") == [folder / "r0.json"]
    # Its first decisions are no longer told: what is kept stays.
    assert keep_ended_rollouts(tmp_path, release(decisions=decisions[1:]), lambda: "") == []


def test_nothing_is_written_for_a_version_from_elsewhere_or_outside_the_runs(tmp_path: Path) -> None:
    assert keep_rollout(tmp_path, release(), "r1", "") is None
    outside = [{"rollout": "r1", "version": "../x", "action": "step", "reason": ""}]
    (tmp_path / "runs").mkdir()
    (tmp_path / "experiment.json").write_text("{}")
    assert keep_rollout(tmp_path / "runs", release(decisions=outside), "r1", "") is None
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "experiment.json").write_text("{}")
    evil = [{"rollout": "../../r1", "version": "digits/1", "action": "step", "reason": ""}]
    with pytest.raises(LedgerError, match="Not the id of a rollout"):
        keep_rollout(tmp_path, release(decisions=evil), "../../r1", "")


def client(status: int = 200, content: Any = None, seen: list[httpx.Request] | None = None) -> RouterClient:
    def respond(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(status, json=content if content is not None else {"revision": 6})

    return RouterClient("http://router:8090/", token="secret", transport=httpx.MockTransport(respond))


def test_a_command_carries_revision_key_and_token() -> None:
    seen: list[httpx.Request] = []
    assert client(seen=seen).command("promote", key="k1", revision=5) == {"revision": 6}
    (request,) = seen
    assert (request.method, str(request.url)) == ("POST", "http://router:8090/v1/release/promote")
    assert (request.headers["Idempotency-Key"], request.headers["Authorization"]) == ("k1", "Bearer secret")
    assert json.loads(request.content) == {"revision": 5}


def test_a_stale_command_is_told_from_a_refusal() -> None:
    with pytest.raises(StaleCommand):
        client(409, {"detail": "at revision 7"}).command("promote", key="k1", revision=5)
    with pytest.raises(RouterError, match="found 403") as refused:
        client(403, {}).release()
    assert not isinstance(refused.value, StaleCommand)
    with pytest.raises(RouterError, match="expected JSON of a release"):
        asyncio.run(client(content=[]).release_async())


def test_the_router_of_this_machine_is_known_by_port_and_token_file(tmp_path: Path) -> None:
    environment = {"EVODIFF_SERVE_PORT": "1234", "EVODIFF_SERVE_SECRETS_DIR": str(tmp_path)}
    with pytest.raises(SettingsError, match="Expected a token for releases"):
        RouterClient.of_this_machine(environment)
    entries = [{"subject": "a", "scopes": ["use"], "token": "weak"}]
    (tmp_path / "tokens.json").write_text(json.dumps(entries))
    with pytest.raises(SettingsError):
        RouterClient.of_this_machine(environment)
    (tmp_path / "tokens.json").write_text(json.dumps([*entries, {"scopes": ["use", "release"], "token": "strong"}]))
    assert RouterClient.of_this_machine(environment).url == "http://127.0.0.1:1234"
