"""`evodiff prepare` and `evodiff audit` as a user runs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from quick_search import CommandLine

pytestmark = pytest.mark.e2e


def test_a_good_dataset_is_prepared_and_its_page_named(evodiff: CommandLine, cache_dir: Path) -> None:
    said = evodiff("prepare", "--dataset", "digits", "--workers", 1).stdout
    assert "1797 images" in said
    page = Path(said.rpartition("Gate: ")[2].strip())
    assert page.is_relative_to(cache_dir)
    assert "passed its gate" in page.read_text()


@pytest.mark.parametrize("verb", ["prepare", "evolve"])
def test_a_bad_dataset_is_stopped_before_anything_is_made_of_it(
    verb: str, evodiff: CommandLine, cache_dir: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for index in range(300):
        folder = tmp_path / "pictures" / ("rare" if index < 3 else "frequent")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    before = set(cache_dir.rglob("*feature*"))
    out = ("--out", tmp_path / "run") if verb == "evolve" else ()
    done = evodiff(verb, "--dataset", f"folder:{tmp_path / 'pictures'}", "--image-size", 8, *out, check=False)
    assert done.returncode == 2
    assert "balance: No class has more than 90% of the images." in done.stderr
    assert "Traceback" not in done.stderr
    assert set(cache_dir.rglob("*feature*")) == before
    assert not (tmp_path / "run").exists()
    folder = Path(done.stderr.rpartition("set aside is in ")[2].strip().removesuffix("."))
    assert "failed its gate" in (folder / "index.html").read_text()
    assert json.loads((folder / "quarantine" / "classes.jsonl").read_text().splitlines()[0])["offends"] == ["balance"]


def test_a_real_run_passes_its_audit(evodiff: CommandLine, finished_run: Path, tmp_path: Path) -> None:
    said = evodiff("audit", finished_run, "--out", tmp_path).stdout
    assert "23 of 23 expectations met" in said
    assert "passed its gate" in (tmp_path / "index.html").read_text()


def test_evaluations_of_a_real_run_name_the_net_that_the_audit_compares(finished_run: Path) -> None:
    frozen = json.loads((finished_run / "experiment.json").read_text())["settings"]["digests"]["feature_net"]
    lines = (finished_run / "generations" / "0000" / "evaluations.jsonl").read_text().splitlines()
    evaluations = [json.loads(line) for line in lines]
    assert {item["details"]["feature_net"] for item in evaluations if item["failure"] is None} == {frozen}


def test_a_random_arm_passes_though_weights_it_never_trained_may_be_gone(
    evodiff: CommandLine, finished_run: Path, tmp_path: Path
) -> None:
    said = evodiff("audit", finished_run.with_name("digits-random"), "--out", tmp_path).stdout
    assert said.count("not met") == said.count("not met: Front and survivors have their weights.")


def test_a_spoiled_run_fails_its_audit(evodiff: CommandLine, finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    with (run / "inputs" / "feature_net.safetensors").open("ab") as file:
        file.write(b"more")
    done = evodiff("audit", run, check=False)
    assert done.returncode == 2
    assert "inputs as frozen" in done.stderr
    assert "failed its gate" in (run / "report" / "audit" / "index.html").read_text()
