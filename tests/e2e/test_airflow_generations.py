"""Two experiments side by side on a real scheduler: forms, runs, registry, archive, pause and stop."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow_site import Services, services, wait_for
from quick_search import CommandLine

from evodiff.pipeline.lease import leases
from evodiff.pipeline.requests import pending, submit
from evodiff.pipeline.run import Run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]

TINY = {"dataset": "digits", "population": 4, "steps": 4}


def generation_files(path: Path) -> dict[str, bytes]:
    """Return what has to be the same bytes however a run was driven: generations but for what came from outside."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted((path / "generations").rglob("*"))
        if file.is_file() and file.parent.name != "inputs"
    }


@pytest.mark.slow
def test_two_experiments_evolve_side_by_side_and_never_mix(
    tmp_path: Path, environment: dict[str, str], evodiff: CommandLine
) -> None:
    with services(tmp_path, environment) as site:
        site.trigger("left-form", experiment="left", generations=2, seed=1, **TINY)
        site.trigger("right-form", experiment="right", generations=1, seed=2, **TINY)
        wait_for("left is open", lambda: (site.runs / "left" / "leases").exists())

        refused = site.trigger("left-again", experiment="left", generations=9)
        wait_for("the second form is answered", lambda: site.api.runs("evolve_architecture")[refused] == "failed")
        assert "already looping" in site.api.log("evolve_architecture", refused, "open")

        left, right = site.wait_until_closed("left", 2), site.wait_until_closed("right", 1)
        assert {"left-form": "success", "left-g0001": "success"}.items() <= site.states("left").items()
        assert site.states("right") == {"right-form": "success"}
        assert [lease.holder for lease in leases(left)] == ["left-form", "left-g0001"]
        assert pending(left) == pending(right) == []
        assert (left.path / "report" / "index.html").exists()
        assert json.loads((left.path / "final" / "champion.json").read_text())["champion"]
        assert json.loads((tmp_path / "release.json").read_text())["pending"]["run"] in ("left", "right")
        _check_shards_are_shown(site)
        _check_archive_is_clean(site)
        _check_pause_holds(site, evodiff)

    # The command line, with the same settings, finds the same bytes.
    alone = tmp_path / "alone" / "left"
    options = [text for name, value in {**TINY, "seed": 1, "generations": 2}.items() for text in (f"--{name}", value)]
    evodiff("evolve", *options, "--workers", 1, "--champion-steps", 4, "--out", alone)
    assert (alone / "experiment.json").read_bytes() == (left.path / "experiment.json").read_bytes()
    mine, theirs = generation_files(alone), generation_files(left.path)
    assert {name: theirs.get(name) for name in mine} == mine
    # While a generation closed, what waited for its release, registration or archive kept its weights.
    assert all(Path(name).parts[2] == "weights" for name in theirs.keys() - mine.keys())


def _check_shards_are_shown(site: Services) -> None:
    tasks = site.api.tasks("evolve_architecture", "left-form")
    shown = {task["rendered_map_index"] for task in tasks if task["task_id"] == "train_proxy"}
    assert shown == {"1/2: 2 candidates", "2/2: 2 candidates"}
    first = Run.open(site.runs / "left").ledger.plan(0)[0]["candidate"]
    logs = [
        site.api.log("evolve_architecture", "left-form", "train_proxy", map_index=index) for index in range(len(shown))
    ]
    assert any(first in log for log in logs)


def _check_archive_is_clean(site: Services) -> None:
    status = subprocess.run(
        ["dvc", "status"], cwd=site.archive, env=site.environment, capture_output=True, text=True, check=True
    )
    assert "up to date" in status.stdout
    log = subprocess.run(
        ["git", "log", "--format=%s"], cwd=site.archive, capture_output=True, text=True, check=True
    ).stdout
    for generation in ("left: generation 0", "left: generation 1", "right: generation 0"):
        assert log.count(generation) == 1


def _check_pause_holds(site: Services, evodiff: CommandLine) -> None:
    """A paused experiment opens no generation, however often the scheduler looks; resumed, it goes on by itself."""

    def looks() -> int:
        return list(site.api.runs("keep_evolving").values()).count("success")

    right = Run.open(site.runs / "right")
    evodiff("pause", right.path)
    submit(right, {"alert": "latency", "startsAt": "now"}, {"extra_generations": 1}, datetime.now(UTC))
    before = looks()
    wait_for("the scheduler has looked twice", lambda: looks() >= before + 2)
    assert site.closed("right") == 1
    evodiff("resume", right.path)
    site.wait_until_closed("right", 2)
    assert site.states("right") == {"right-form": "success", "right-g0001": "success"}
    assert pending(right) == []
