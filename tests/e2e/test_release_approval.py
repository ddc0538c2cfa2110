"""A rollout that waits for a person, on a real Airflow: who says nothing rejects, the API's word ends the question."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from evodiff.architecture.zoo import ddpm_unet, tiny
from evodiff.deployment.release.router_client import RouterClient
from evodiff.local.load import Load, make_tokens
from evodiff.local.stack import Stack, wait_for
from evodiff.local.story_models import train_models
from evodiff.local.story_settings import CLIENTS, REQUESTS_A_SECOND, SAMPLER_STEPS, SETTINGS
from evodiff.settings import load_settings

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

DAG = "release_canary"


class Site:
    """A stack whose champion is slow, with a fast candidate beside it, under load."""

    def __init__(self, stack: Stack, router: RouterClient, load: Load, models: list[str]) -> None:
        self.stack, self.router, self.load = stack, router, load
        self.champion, self.candidate = models

    def start(self, candidate: str, **said: Any) -> None:
        """Start a rollout."""
        run, _, identifier = candidate.partition("/")
        revision = self.router.release()["revision"]
        entry = {"run": run, "candidate": identifier}
        self.router.command("start", key=secrets.token_hex(8), revision=revision, entry=entry, **said)

    def start_and_wait_for_the_question(self) -> tuple[str, str]:
        """Have the candidate get as far as a person's word; return the rollout and the run of Airflow that asks."""
        self.start(self.candidate, approval=True, despite_quarantine=True)
        waits = wait_for("it waits for a person", self.waiting, 300)
        assert waits["weight"] == 0.5
        self.stack.api.trigger(DAG, {})
        return str(waits["id"]), wait_for("Airflow asks", lambda: self.asking(waits["id"]), 300)

    def waiting(self) -> dict[str, Any] | None:
        """Return the rollout that waits for an approval."""
        rollout = self.router.release()["rollout"]
        return rollout if rollout and rollout["waits_for"] == "approval" else None

    def asking(self, rollout: str) -> str | None:
        """Return the run of Airflow in which a person is asked about a rollout."""
        for run, state in self.stack.api.runs(DAG).items():
            if state == "running":
                found = self.stack.api.ask("GET", f"{self._task(run)}/hitlDetails", tolerate=(404,))
                if found is not None and rollout in found["subject"]:
                    return run
        return None

    def question(self, run: str) -> dict[str, Any]:
        """Return what a person is asked."""
        found: dict[str, Any] = self.stack.api.ask("GET", f"{self._task(run)}/hitlDetails")
        return found

    def say_until_heard(self, run: str, word: str) -> bool:
        """Answer as a person does who clicks on a required action, as often as it is there; return whether it is over.

        Airflow takes a task for failed that goes on before the scheduler has heard of its pause, and asks again.
        """
        ended = self.has_ended(run)
        if not ended and not self.question(run)["response_received"]:
            self.stack.api.ask("PATCH", f"{self._task(run)}/hitlDetails", {"chosen_options": [word]}, tolerate=(409,))
        return ended

    def has_ended(self, run: str) -> bool:
        """Return whether a run of Airflow is over; it must not have failed."""
        state = self.stack.api.runs(DAG)[run]
        assert state != "failed", self.stack.api.tasks(DAG, run)
        return state == "success"

    def serves(self) -> str:
        """Return the champion."""
        found = self.router.release()["champion"]
        return "" if found is None else f"{found['run']}/{found['candidate']}"

    def last(self, action: str) -> dict[str, Any]:
        """Return the last decision of a kind."""
        return next(item for item in reversed(self.router.release()["decisions"]) if item["action"] == action)

    def kept(self, rollout: str) -> dict[str, Any]:
        """Return what Airflow kept of a rollout with the run that it came from."""
        run = self.candidate.partition("/")[0]
        file = self.stack.place("EVODIFF_RUNS_DIR") / run / "telemetry" / "rollouts" / f"{rollout}.json"
        found: dict[str, Any] = json.loads(wait_for("the rollout is kept", lambda: file.exists() and file.read_text()))
        return found

    def _task(self, run: str) -> str:
        return f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances/ask/-1"


@pytest.fixture
def site(stack: Stack, environment: dict[str, str]) -> Iterator[Site]:
    settings = load_settings({**SETTINGS, "cache_dir": environment["EVODIFF_CACHE_DIR"]})
    tokens = make_tokens(stack.place("EVODIFF_SERVE_SECRETS_DIR"), CLIENTS)
    path = stack.place("EVODIFF_RUNS_DIR") / "asked"
    run, candidates = train_models(settings, path, lambda shape: [ddpm_unet(shape), tiny(shape)])
    router = RouterClient(stack.site.router_url, token=tokens[0])
    with Load(stack.site.router_url, tokens[1:], rate=REQUESTS_A_SECOND, steps=SAMPLER_STEPS) as load:
        load.pause()
        site = Site(stack, router, load, [f"{run.name}/{candidate}" for candidate in candidates])
        site.start(site.champion)
        wait_for("the first champion serves", lambda: site.serves() == site.champion)
        load.resume()
        yield site
    assert load.counts.lost == {}


def test_a_person_is_asked_and_whoever_speaks_first_decides(site: Site) -> None:
    _silence_rejects(site)
    _the_word_of_the_api_ends_the_question(site)
    _a_person_promotes(site)


def _silence_rejects(site: Site) -> None:
    rollout, run = site.start_and_wait_for_the_question()
    asked = site.question(run)
    assert asked["options"] == ["Promote", "Reject"]
    assert asked["defaults"] == ["Reject"]
    assert f"**{site.candidate}** is to replace **{site.champion}**" in asked["body"]
    wait_for("the question is over", lambda: site.has_ended(run), 300)
    assert site.last("roll back")["reason"].endswith("rejected by nobody, in time")
    assert site.serves() == site.champion
    assert [item["action"] for item in site.kept(rollout)["decisions"]][-1] == "roll back"


def _the_word_of_the_api_ends_the_question(site: Site) -> None:
    _, run = site.start_and_wait_for_the_question()
    site.router.command("promote", key=secrets.token_hex(8), revision=site.router.release()["revision"])
    wait_for("the question is over", lambda: site.has_ended(run), 300)
    (answer,) = [task for task in site.stack.api.tasks(DAG, run) if task["task_id"] == "ask"]
    assert answer["state"] == "success"
    assert "the release: moved" in site.stack.api.log(DAG, run, "tell")
    wait_for("the candidate serves", lambda: site.serves() == site.candidate)
    site.router.command("rollback", key=secrets.token_hex(8), reason="for the next part")
    wait_for("the one before serves again", lambda: site.serves() == site.champion)


def _a_person_promotes(site: Site) -> None:
    rollout, run = site.start_and_wait_for_the_question()
    wait_for("the answer is heard", lambda: site.say_until_heard(run, "Promote"), 300)
    assert "Promote" in site.stack.api.log(DAG, run, "tell")
    wait_for("the candidate serves", lambda: site.serves() == site.candidate)
    assert rollout == site.last("promote")["rollout"]
