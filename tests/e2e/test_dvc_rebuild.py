"""A fresh clone of an archive gives the same bytes twice: built by ``dvc repro``, and fetched by ``dvc pull``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dvc_commands import assert_clean, clone, dvc, git, outputs
from quick_search import CommandLine

from evodiff.pipeline.run import Run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def archive(finished_run: Path, evodiff: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a search of two generations that was really trained; tests must not change it."""
    folder = tmp_path_factory.mktemp("archive") / "archive"
    printed = evodiff("archive", finished_run, "--archive", folder).stdout
    assert git(folder, "rev-parse", "HEAD").strip() in printed
    again = evodiff("generation", "archive", "--run", finished_run, "--archive", folder).stdout
    assert again == printed
    return folder


@pytest.mark.slow
def test_a_fresh_clone_builds_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    copy = clone(archive, tmp_path / "clone")
    for net in (copy / "archive" / "feature_nets").glob("*/feature_net.safetensors"):
        net.unlink()  # git carries them: have them trained again
    printed = dvc(copy, "repro").stdout
    assert printed.count("Running stage") == 1 + 2 + 2 * 2
    assert outputs(copy) == outputs(archive)
    assert git(copy, "status", "--porcelain") == ""


def test_a_fresh_clone_fetches_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    copy = clone(archive, tmp_path / "clone")
    dvc(copy, "pull")
    assert outputs(copy) == outputs(archive)
    assert "Running stage" not in dvc(copy, "repro").stdout
    assert_clean(copy)


def test_weights_of_front_and_survivors_are_archived(archive: Path, finished_run: Path) -> None:
    ledger = Run.open(finished_run).ledger
    for generation in range(ledger.closed):
        kept = {folder.name: folder for at, _, folder in ledger.weights_folders() if at == generation}
        folder = archive / f"archive/{finished_run.name}/g{generation:04d}/evaluations/weights"
        assert {path.name for path in folder.iterdir()} == set(kept)
        for name, source in kept.items():
            weights = (folder / name / "weights.safetensors").read_bytes()
            assert weights == (source / "weights.safetensors").read_bytes()


@pytest.mark.slow
def test_a_changed_input_reruns_what_rests_on_it_and_no_more(archive: Path, tmp_path: Path) -> None:
    copy = clone(archive, tmp_path / "clone")
    dvc(copy, "pull")
    (recorded,) = (copy / "archive").glob("*/g0001/inputs/recorded.json")
    content = json.loads(recorded.read_text())
    recorded.write_text(json.dumps({**content, "weights": []}))
    printed = dvc(copy, "repro").stdout
    assert printed.count("Running stage") == 2
    assert "Running stage 'evaluations@" in printed
    evaluations = recorded.parents[1] / "evaluations"
    assert not list(evaluations.rglob("*.safetensors"))
    original = archive / evaluations.relative_to(copy)
    assert (evaluations / "history.json").read_bytes() == (original / "history.json").read_bytes()
