"""``dvc repro`` works at once in a checkout of the project: it carries a small experiment."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc_commands import dvc, git

from evodiff.engine.experiment import code_version

PROJECT = Path(__file__).parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh checkout of what the project tracks."""
    folder = tmp_path_factory.mktemp("project") / "checkout"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--force", ".")
    git(folder, "commit", "--quiet", "--message", "Start")
    return folder


def locked(folder: Path) -> dict[str, str]:
    """Return the digest of every output in ``dvc.lock``, by path."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return {output["path"]: output["md5"] for stage in stages.values() for output in stage["outs"]}


@pytest.mark.slow
def test_the_small_experiment_is_built_at_once(checkout: Path) -> None:
    before = locked(checkout)
    dvc(checkout, "repro")
    assert "up to date" in dvc(checkout, "status").stdout
    after = locked(checkout)
    # Scores differ by the type of CPU; what is planned before any score, and the images, do not.
    always = [name for name in before if "/datasets/" in name or "/feature_nets/" in name or "/g0000/plan" in name]
    assert len(always) == 3
    assert {name: after[name] for name in always} == {name: before[name] for name in always}
    changed = git(checkout, "status", "--porcelain").split()
    assert [name for name in changed[1::2] if name != "dvc.lock" and not name.endswith("metrics.json")] == []
    shown = json.loads(dvc(checkout, "metrics", "show", "--json").stdout)[""]["data"]
    assert sorted(shown) == [f"archive/digits-small/g{generation:04d}/metrics.json" for generation in range(2)]


def test_the_small_experiment_is_pinned_to_this_version() -> None:
    recorded = yaml.safe_load((PROJECT / "generations.yaml").read_text())["recorded"]
    pins = {entry["evodiff_version"] for kind in recorded.values() for entry in kind.values()}
    assert pins == {code_version()}
