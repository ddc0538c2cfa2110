"""Models come from a run or the registry to where they are served, and their images are judged by their run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from served_models import write_model
from tracked_runs import told_run

from evodiff.deployment.release.entries import entry_of
from evodiff.deployment.router.fetch import _known_here, _named, fetch
from evodiff.deployment.router.offline_kid import offline_kid
from evodiff.deployment.worker.model_checks import ModelRefused, check_model_folder
from evodiff.deployment.worker.served_network import ServedNetwork
from evodiff.errors import CandidateNotFound, LedgerError
from evodiff.pipeline.run import Run
from evodiff.pipeline.scratch import heirs_of_front, retrain_front, scratch_weights
from evodiff.workers import Outcome, Task

MOST = 10**8


def test_a_candidate_of_a_run_is_served_with_what_is_on_record(tmp_path: Path) -> None:
    run = told_run(tmp_path / "runs" / "told", generations=1, weights=True)
    row = run.ledger.plan(0)[0]
    entry = {"run": "told", "candidate": row["candidate"], "generation": 7}
    found = fetch(entry, tmp_path / "out", runs_dir=tmp_path / "runs", tracking_uri=None, max_bytes=MOST)
    assert found["entry"] == {"run": "told", "candidate": row["candidate"], "generation": 0, "experiment": run.identity}
    assert found["recorded"] == [run.ledger.evaluation(0, row["id"]).objectives["kid"], 0.01]
    json.dumps(found)
    network = ServedNetwork.load(check_model_folder(tmp_path / "out", max_bytes=MOST))
    assert network.network.genome.to_json() == row["genome"]

    (run.ledger.weights_folder(row) / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(LedgerError, match="published with digest"):
        fetch(entry, tmp_path / "again", runs_dir=tmp_path / "runs", tracking_uri=None, max_bytes=MOST)


def test_another_run_of_that_name_is_no_place_to_take_a_candidate_from(tmp_path: Path) -> None:
    run = told_run(tmp_path / "runs" / "told", generations=1, weights=True)
    entry = {"run": "told", "candidate": run.ledger.plan(0)[0]["candidate"], "digest": "0" * 64}
    options = {"runs_dir": tmp_path / "runs", "tracking_uri": None, "max_bytes": MOST}
    with pytest.raises(LedgerError, match="another run of that name"):
        fetch({**entry, "experiment": "0" * 64}, tmp_path / "other", **options)
    assert fetch({**entry, "experiment": run.identity}, tmp_path / "out", **options)["entry"]["run"] == "told"


class RetrainingPool:
    """Leaves the weights of the trial as if they were trained from scratch, and tells a worse KID."""

    def __init__(self, run: Run) -> None:
        self.run_at = run

    def run(self, tasks: Sequence[Task], *, on_progress: object = None) -> Iterator[Outcome]:
        for task in tasks:
            row = task.payload["trial"]
            weights = scratch_weights(self.run_at, row["candidate"])
            shutil.copytree(self.run_at.ledger.weights_folder(row), weights)
            told = {"objectives": {"kid": 0.75}, "weights": "0" * 64, "details": {"kid_standard_error": 0.02}}
            yield Outcome(task.id, told, None, 0.0, 0)


def test_an_heir_is_served_with_what_it_reached_from_scratch(tmp_path: Path) -> None:
    run = told_run(tmp_path / "runs" / "told", weights=True, inherit=True)
    heir, row = next(iter(heirs_of_front(run).items()))
    seen = run.ledger.evaluation(row["generation"], row["id"])
    entry = {"run": "told", "candidate": heir}
    options = {"runs_dir": tmp_path / "runs", "tracking_uri": None, "max_bytes": MOST}
    with pytest.raises(LedgerError, match="from scratch"):
        fetch(entry, tmp_path / "early", **options)
    retrain_front(run, RetrainingPool(run), only=[heir])
    found = fetch(entry, tmp_path / "out", **options)
    assert found["recorded"] == [0.75, 0.02]
    assert seen is not None
    assert seen.objectives["kid"] != 0.75


def test_a_folder_is_checked_before_it_is_copied(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mine")
    options = {"runs_dir": tmp_path, "tracking_uri": None, "max_bytes": MOST}
    found = fetch({"folder": str(folder)}, tmp_path / "out", **options)
    digest = check_model_folder(tmp_path / "out", max_bytes=MOST).digest
    assert found["entry"] == {"run": "mine", "candidate": digest[:16], "generation": None}
    (folder / "weights.pkl").write_bytes(b"")
    with pytest.raises(ModelRefused, match="may hold code"):
        fetch({"folder": str(folder)}, tmp_path / "other", **options)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("name", "served"),
    [("日本", "folder"), ("two words", "two-words"), ("a..b", "a-.b"), ("-x", "x"), ("v1.2", "v1.2")],
)
def test_a_folder_is_served_under_a_name_that_can_stand_in_a_header(tmp_path: Path, name: str, served: str) -> None:
    folder = write_model(tmp_path / name)
    found = fetch({"folder": str(folder)}, tmp_path / "out", runs_dir=tmp_path, tracking_uri=None, max_bytes=MOST)
    assert found["entry"]["run"] == served


@pytest.mark.parametrize("name", ["日本", "a\r\nb", "", "../x"])
def test_names_from_a_registry_that_cannot_stand_in_a_header_are_refused(name: str) -> None:
    for found in ({"run": name, "candidate": "3"}, {"run": "digits", "candidate": name}):
        with pytest.raises(ModelRefused, match="cannot be served under the"):
            _named(found)


def test_what_is_known_of_a_run_counts_for_versions_of_that_very_run(tmp_path: Path) -> None:
    run = told_run(tmp_path / "told")
    tags = {
        "evodiff.digests": json.dumps(run.settings["digests"]),
        "evodiff.weights": "w",
        "evodiff.evaluated_weights": "w",
        "evodiff.objectives": json.dumps({"kid": 0.25}),
    }
    named = {"run": "told", "candidate": "0123456789abcdef"}
    known = {"run_folder": str(run.path.resolve()), "recorded": [0.25, 0.0]}
    assert _known_here(named, tags, tmp_path) == known
    assert _known_here(named, {**tags, "evodiff.weights": "others"}, tmp_path) == {**known, "recorded": None}
    assert _known_here(named, {**tags, "evodiff.digests": json.dumps({"dataset": "another"})}, tmp_path) == {}
    assert _known_here(named, {}, tmp_path) == {}
    assert _known_here(named, {**tags, "evodiff.experiment": run.identity}, tmp_path) == known
    assert _known_here(named, {**tags, "evodiff.experiment": "0" * 64}, tmp_path) == {}
    assert _known_here(named, {**tags, "evodiff.objectives": "rubbish"}, tmp_path) == {}
    assert _known_here({**named, "run": "elsewhere"}, tags, tmp_path) == {}


def test_what_is_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(CandidateNotFound, match="no registry is named"):
        fetch(
            {"run": "gone", "candidate": "0123456789abcdef"},
            tmp_path / "out",
            runs_dir=tmp_path,
            tracking_uri=None,
            max_bytes=MOST,
        )


@pytest.mark.e2e
def test_real_images_are_nearer_to_the_data_of_a_run_than_noise(finished_run: Path) -> None:
    images = Run.open(finished_run).dataset().images.transpose(0, 2, 3, 1)[:128]
    near = offline_kid(finished_run, images)
    far = offline_kid(finished_run, np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8))
    assert near is not None
    assert far is not None
    assert near[0] + 5 * near[1] < far[0] - 5 * far[1]


@pytest.mark.e2e
def test_a_run_is_served_by_its_champion(finished_run: Path, tmp_path: Path) -> None:
    found = fetch(entry_of(str(finished_run)), tmp_path / "out", runs_dir=tmp_path, tracking_uri=None, max_bytes=MOST)
    champion = json.loads((finished_run / "final" / "champion.json").read_text())["champion"]
    assert found["entry"]["candidate"] == champion
    again = entry_of(f"{finished_run}/{champion}")
    assert fetch(again, tmp_path / "same", runs_dir=tmp_path, tracking_uri=None, max_bytes=MOST) == found


def test_a_run_without_its_inputs_has_no_judge(tmp_path: Path) -> None:
    run = told_run(tmp_path / "told", generations=1)
    assert offline_kid(run.path, np.zeros((8, 8, 8, 1), np.uint8)) is None
