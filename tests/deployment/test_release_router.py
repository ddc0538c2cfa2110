"""A router under a release, as users start it: real workers, a kill in the middle of a rollout, a canary that dies."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from router_process import RELEASE, USE, RouterProcess
from served_models import write_model

from evodiff.deployment.analysis.quality_advice import LEAST_IMAGES
from evodiff.engine.layout import input_name
from evodiff.errors import LedgerError
from evodiff.pipeline.deployment import record_deployment
from evodiff.pipeline.export import trained_folder
from evodiff.pipeline.final import named_candidate
from evodiff.pipeline.release import read_release, release_locked, write_release
from evodiff.pipeline.run import Run

pytestmark = pytest.mark.e2e

WAITING_SECONDS = 300.0
ROLLOUT = {
    "STEPS": "[50, 100]",
    "POLL_INTERVAL_SECONDS": "0.2",
    "SYNTHETIC_REQUESTS": "5",
    "METRICS": "[]",
    "MIN_SAMPLES": "1000000",  # no step passes by itself here
}


class ReleasedRouter(RouterProcess):
    """``evodiff serve`` over a release file of its own."""

    def __init__(self, folder: Path, **settings: object) -> None:
        super().__init__(folder, loading_niceness=1, backoff_seconds=0.1, **settings)
        self.file = folder / "release.json"
        self._environment |= {f"EVODIFF_ROLLOUT_{name}": value for name, value in ROLLOUT.items()}
        self.votes = folder / "feedback.sqlite"
        self._environment |= {"EVODIFF_RELEASE_FILE": str(self.file), "EVODIFF_RUNS_DIR": str(folder)}
        self._environment |= {"EVODIFF_FEEDBACK_STORE": str(self.votes)}

    def request(self, model: Path) -> None:
        """Write a model as pending, as a pipeline does."""
        (weights,) = model.rglob("*.safetensors")
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        self.ask_for({"run": model.name, "candidate": digest[:16], "folder": str(model)})

    def ask_for(self, entry: dict[str, Any]) -> None:
        """Write a version as pending."""
        with release_locked(self.file):
            release = read_release(self.file)
            write_release(self.file, {**release, "revision": release["revision"] + 1, "pending": entry})

    def wait(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Return the first release that meets a condition."""
        deadline = time.monotonic() + WAITING_SECONDS
        with self.client(RELEASE) as client:
            while not condition(release := client.get("/v1/release").json()):
                assert time.monotonic() < deadline, f"{what}: never\n{release}\n{self.log.read_text()[-2000:]}"
                time.sleep(0.05)
        return release

    def served_by(self) -> str:
        """Return who answers the client of the token of use."""
        with self.client() as client:
            answer = client.post("/v1/generate", json={"steps": 2})
        assert answer.status_code == 200, answer.text
        return answer.headers["X-Model-Version"].partition("/")[0]

    def command_line(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``evodiff release`` against this router."""
        command = [sys.executable, "-m", "evodiff", "release", *arguments, "--url", self.url]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=200)

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes, oldest first."""
        assert self.process is not None
        return sorted(psutil.Process(self.process.pid).children(), key=lambda worker: worker.create_time())


def running(release: dict[str, Any]) -> bool:
    return release["weight"] == 0.5 and release["loaded"].get("canary") is not None


def test_a_rollout_outlives_its_router_and_ends_with_its_worker(tmp_path: Path) -> None:
    router = ReleasedRouter(tmp_path / "router")
    router.request(write_model(tmp_path / "first", seed=1))
    with router:
        first = router.wait(lambda release: "stable" in release["loaded"], "the first champion")
        assert first["decisions"][-1]["reason"] == "stood 5 synthetic requests"
        assert router.served_by() == "first"
        router.request(write_model(tmp_path / "second", seed=2))
        begun = router.wait(running, "the rollout")
        assert router.process is not None
        workers = router.workers()
        router.process.kill()
        router.process.wait()
        psutil.wait_procs(workers, timeout=60)
    with router:
        back = router.wait(running, "the rollout after a kill")
        assert (back["rollout"], back["decisions"]) == (begun["rollout"], begun["decisions"])
        assert {role: version.partition("/")[0] for role, version in back["loaded"].items()} == {
            "stable": "first",
            "canary": "second",
        }
        shown = router.command_line("status")
        assert shown.returncode == 0, shown.stderr
        assert begun["rollout"]["id"] in shown.stdout
        router.workers()[-1].kill()
        ended = router.wait(lambda release: release["rollout"] is None, "the end of the rollout")
        assert ended["weight"] == 0
        assert "death" in ended["decisions"][-1]["reason"]
        assert [item["version"].partition("/")[0] for item in ended["quarantine"]] == ["second"]
        assert router.served_by() == "first"
        refused = router.command_line("rollback")
        assert refused.returncode == 2
        assert "nothing to roll back" in refused.stderr
    assert read_release(router.file)["champion"]["run"] == "first"


def test_the_online_kid_of_what_served_reaches_the_next_generation(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(shutil.copytree(finished_run, tmp_path / "router" / finished_run.name))
    best = named_candidate(run, "champion")
    router = ReleasedRouter(tmp_path / "router", kid_seconds=0.5, kid_images=64)
    router.ask_for({"run": run.name, "candidate": best})
    with router:
        router.wait(lambda release: "stable" in release["loaded"], "the first champion")
        with router.client() as client:
            for seed in (0, 35):
                client.post("/v1/generate", json={"count": 35, "seed": seed}).raise_for_status()
        release = router.wait(lambda release: "kid" in release["quality"]["arms"]["stable"], "the online KID")
        judged = release["quality"]["arms"]["stable"]
        assert judged["images"] == 70
        metrics = httpx.get(f"{router.url}/metrics").text
        assert 'evodiff_online_kid_images{arm="stable"} 70.0' in metrics
    monkeypatch.setenv("EVODIFF_FEEDBACK_STORE", str(router.votes))
    monkeypatch.setenv("EVODIFF_RELEASE_FILE", str(router.file))
    generation = run.ledger.closed
    record_deployment(run, generation)
    production = json.loads(run.ledger.read(input_name(generation, "production.json")) or b"")
    found = {name: judged[name] for name in ("kid", "standard_error", "images")}
    assert production["versions"][best]["online_kid"] == found


def two_that_can_serve(run: Run) -> list[str]:
    """Return two candidates of a run whose weights are there."""
    every = {row["candidate"] for generation in range(run.ledger.generations) for row in run.ledger.plan(generation)}
    found = []
    for name in sorted(every):
        with contextlib.suppress(LedgerError):
            trained_folder(run, name)
            found.append(name)
    return found[:2]


@pytest.mark.slow
def test_the_online_kid_of_both_arms_goes_along_with_a_whole_rollout(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(shutil.copytree(finished_run, tmp_path / "router" / finished_run.name))
    first, second = two_that_can_serve(run)
    tokens = [{"subject": f"app {number}", "scopes": ["use"], "token": f"{USE} {number}"} for number in range(20)]
    operator = {"subject": "operator", "scopes": ["release"], "token": RELEASE}
    # A search of a few steps says little of what its candidates draw: none shall be refused for that.
    router = ReleasedRouter(
        tmp_path / "router",
        tokens=json.dumps([*tokens, operator]),
        kid_seconds=2,
        kid_images=LEAST_IMAGES,
        max_kid_factor=1000,
    )
    router.ask_for({"run": run.name, "candidate": first})

    def wait_for_kid(arm: str) -> dict[str, Any]:
        release = router.wait(
            lambda release: release["quality"]["arms"].get(arm, {}).get("images", 0) >= LEAST_IMAGES, f"KID of {arm}"
        )
        judged: dict[str, Any] = release["quality"]["arms"][arm]
        return judged

    def advised(release: dict[str, Any]) -> bool:
        return (release["evidence"] or {}).get("kid", {}).get("advice") in ("worse", "not worse")

    def metric(name: str, arm: str) -> float:
        text = httpx.get(f"{router.url}/metrics").raise_for_status().text
        return float(re.search(rf'^{name}{{arm="{arm}"}} (\S+)$', text, re.MULTILINE)[1])  # type: ignore[index]

    def promote() -> None:
        with router.client(RELEASE) as client:
            body = {"revision": client.get("/v1/release").json()["revision"]}
            answer = client.post("/v1/release/promote", json=body, headers={"Idempotency-Key": str(body["revision"])})
        answer.raise_for_status()

    def ask_for_images() -> None:
        """Have each version draw as many images as its sample takes, so that it is judged once when it is full."""
        tried: set[str] = set()
        for token in tokens:
            with router.client(token["token"]) as client:
                version = client.post("/v1/generate", json={}).raise_for_status().headers["x-model-version"]
                for start in range(0, LEAST_IMAGES + 8, 52) if version not in tried else ():
                    client.post("/v1/generate", json={"count": 52, "seed": start}).raise_for_status()
            tried.add(version)
        assert len(tried) == 2, "the rollout's id leaves an arm without clients"

    with router:
        router.wait(lambda release: "stable" in release["loaded"], "the first champion")
        router.ask_for({"run": run.name, "candidate": second})
        router.wait(running, "the rollout")
        ask_for_images()
        judged = {arm: wait_for_kid(arm) for arm in ("stable", "canary")}
        advice = router.wait(advised, "advice")["evidence"]["kid"]
        assert advice["images"] == {arm: judged[arm]["images"] for arm in judged}
        assert advice["difference"] == pytest.approx(judged["canary"]["kid"] - judged["stable"]["kid"])
        for arm, seen in judged.items():
            assert metric("evodiff_online_kid", arm) == pytest.approx(seen["kid"])
            assert metric("evodiff_online_kid_images", arm) == seen["images"]

        promote()
        whole = router.wait(lambda release: release["weight"] == 1 and advised(release), "all of the traffic")
        assert whole["evidence"]["kid"] == whole["decisions"][-1]["evidence"]["kid"] == advice
        promote()
        ended = router.wait(lambda release: release["rollout"] is None, "the end of the rollout")
        assert ended["champion"]["candidate"] == second
        taken_over = pytest.approx(judged["canary"]["kid"])
        router.wait(lambda _: metric("evodiff_online_kid", "stable") == taken_over, "the KID in its new role")

    monkeypatch.setenv("EVODIFF_FEEDBACK_STORE", str(router.votes))
    monkeypatch.setenv("EVODIFF_RELEASE_FILE", str(router.file))
    generation = run.ledger.closed
    record_deployment(run, generation)
    production = json.loads(run.ledger.read(input_name(generation, "production.json")) or b"")
    for name, arm in ((first, "stable"), (second, "canary")):
        found = {key: judged[arm][key] for key in ("kid", "standard_error", "images")}
        assert production["versions"][name]["online_kid"] == found


@pytest.mark.slow
def test_a_group_that_is_asked_to_end_leaves_the_release_as_it_was(tmp_path: Path) -> None:
    router = ReleasedRouter(tmp_path / "router")
    router.request(write_model(tmp_path / "first", seed=1))
    with router:
        router.wait(lambda release: "stable" in release["loaded"], "the first champion")
        router.request(write_model(tmp_path / "second", seed=2))
        router.wait(running, "the rollout")
        before = read_release(router.file)
        for worker in router.workers():  # they get it first, as from systemd
            worker.terminate()
        assert router.end() == 0
    assert read_release(router.file) == before
