"""Generations go into a real archive, by DVC and git, once; nobody is kept out of it, and nothing is lost."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from dvc_commands import assert_clean, clone, dvc, git, outputs
from PIL import Image
from told_runs import TellingPool, new_run

from evodiff.data import open_dataset
from evodiff.errors import EvodiffError
from evodiff.pipeline import driver
from evodiff.pipeline.archive import archive_dataset, archive_run, create_archive
from evodiff.pipeline.evolve import evolve
from evodiff.pipeline.run import Run

pytestmark = pytest.mark.e2e


def close_generations(run: Run, generations: int) -> Run:
    """Close generations of a run in which simpler networks are the better ones."""
    pool = TellingPool(lambda row: {"kid": 1 + len(row["genome"]["layers"])})
    evolve(run, pool, generations=generations, holder="test")
    return run


def subjects(archive: Path) -> list[str]:
    """Return the headlines of an archive's commits, oldest first."""
    return git(archive, "log", "--reverse", "--format=%s").splitlines()


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path, str | None]:
    """A run of two generations, its archive, and the commit of the last; tests must not change them."""
    folder = tmp_path_factory.mktemp("archived")
    run = close_generations(new_run(folder / "told"), 2)
    return run, folder / "archive", archive_run(run, folder / "archive")


def test_a_headline_names_the_fitness_of_whole_trainings(tmp_path: Path) -> None:
    run = new_run(tmp_path / "told", population=12, rungs=2, strategy="nsga2")
    pool = TellingPool(lambda row: {"kid": 1 + len(row["genome"]["layers"]) - 20 * (row["rung"] == 0)})
    evolve(run, pool, generations=2, holder="test")
    archive_run(run, tmp_path / "archive")
    best = max(item.fitness_score or 0.0 for item in run.evolution().front())
    assert f"{best:.3f}" != f"{run.evolution().history()[-1].best_fitness:.3f}"
    assert subjects(tmp_path / "archive")[-1].startswith(f"told: generation 1, best fitness {best:.3f}, ")


def test_every_generation_is_one_commit_and_nothing_is_left_to_do(archived: tuple[Run, Path, str | None]) -> None:
    run, archive, commit = archived
    assert [line.partition(",")[0] for line in subjects(archive)] == [
        "Create the archive",
        "told: generation 0",
        "told: generation 1",
    ]
    assert commit == git(archive, "rev-parse", "HEAD").strip()
    assert archive_run(run, archive) == commit
    assert_clean(archive)


def test_fitness_is_shown_by_generation(archived: tuple[Run, Path, str | None]) -> None:
    run, archive, _ = archived
    shown = json.loads(dvc(archive, "metrics", "show", "--json").stdout)[""]["data"]
    for generation in range(2):
        result = run.ledger.result(generation)
        assert result is not None
        figures = shown[f"archive/told/g{generation:04d}/metrics.json"]["data"]
        assert figures["best_fitness"] == result["metrics"]["best_fitness"]
        assert figures["hypervolume"] == result["hypervolume"]


def test_a_clone_fetches_what_the_run_holds(archived: tuple[Run, Path, str | None], tmp_path: Path) -> None:
    run, archive, _ = archived
    copy = clone(archive, tmp_path / "clone")
    dvc(copy, "pull")
    assert outputs(copy) == outputs(archive)
    ledger = run.path / "generations" / "0001"
    for name in ("plan.jsonl", "evaluations/evaluations.jsonl", "evaluations/result.json"):
        assert (copy / "archive/told/g0001" / name).read_bytes() == (ledger / Path(name).name).read_bytes()


def test_a_later_generation_adds_to_what_is_there(archived: tuple[Run, Path, str | None], tmp_path: Path) -> None:
    run, archive, commit = archived
    shutil.copytree(run.path, tmp_path / "told")
    shutil.copytree(archive, tmp_path / "archive", symlinks=True)
    later = close_generations(Run.open(tmp_path / "told"), 3)
    before = outputs(tmp_path / "archive")
    assert archive_run(later, tmp_path / "archive") != commit
    after = outputs(tmp_path / "archive")
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[1] for name in set(after) - set(before)} == {"g0002"}
    assert subjects(tmp_path / "archive")[-2:] == [
        next(line for line in subjects(archive) if "generation 1" in line),
        next(line for line in subjects(tmp_path / "archive") if "generation 2" in line),
    ]
    assert_clean(tmp_path / "archive")


def test_another_experiment_of_the_same_name_is_refused(archived: tuple[Run, Path, str | None], tmp_path: Path) -> None:
    _, archive, commit = archived
    other = close_generations(new_run(tmp_path / "told", seed=1), 1)
    with pytest.raises(EvodiffError, match="another experiment called told"):
        archive_run(other, archive)
    assert git(archive, "rev-parse", "HEAD").strip() == commit


def test_a_run_that_was_begun_anew_is_not_taken_for_the_one_before(
    archived: tuple[Run, Path, str | None], tmp_path: Path
) -> None:
    _, archive, commit = archived
    for generations in (1, 3):
        other = new_run(tmp_path / str(generations) / "told")
        evolve(other, TellingPool(lambda row: {"kid": 0.5}), generations=generations, holder="test")
        with pytest.raises(EvodiffError, match="another run of the experiment told"):
            archive_run(other, archive)
    assert git(archive, "rev-parse", "HEAD").strip() == commit


def test_what_a_killed_process_left_of_another_run_keeps_nobody_out(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    create_archive(archive)
    left = close_generations(new_run(tmp_path / "other" / "told", seed=1), 1)
    (archive / "archive" / "told").mkdir()
    shutil.copyfile(left.path / "experiment.json", archive / "archive" / "told" / "experiment.json")
    run = close_generations(new_run(tmp_path / "told"), 1)
    archive_run(run, archive)
    kept = git(archive, "show", "HEAD:archive/told/experiment.json").encode()
    assert kept == (run.path / "experiment.json").read_bytes()
    assert_clean(archive)


def test_what_was_computed_on_cuda_is_fetched_and_not_rebuilt(tmp_path: Path) -> None:
    run = close_generations(new_run(tmp_path / "told", given={"device": "cuda"}), 2)
    archive = tmp_path / "archive"
    archive_run(run, archive)
    copy = clone(archive, tmp_path / "clone")
    dvc(copy, "pull", "dataset@blank-" + run.settings["digests"]["dataset"][:12])
    refused = dvc(copy, "repro", check=False)
    assert refused.returncode != 0
    assert "computed on cuda" in refused.stderr
    assert "dvc pull evaluations@told-g0000" in refused.stderr
    dvc(copy, "pull")
    assert "evaluations@told-g0001' didn't change" in dvc(copy, "repro").stdout
    forced = dvc(copy, "repro", "--force", "--single-item", "evaluations@told-g0001", check=False)
    assert forced.returncode != 0
    assert outputs(copy) == outputs(archive)


def add_pictures(folder: Path, version: int, count: int = 60) -> None:
    """Write small pictures into a folder; another version writes others."""
    rng = np.random.default_rng(version)
    folder.mkdir(exist_ok=True)
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{version}-{index}.png")


def test_preparing_a_persons_images_archives_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_pictures(tmp_path / "pictures", 0, count=200)
    monkeypatch.setenv("EVODIFF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("EVODIFF_ARCHIVE", str(tmp_path / "archive"))
    said: list[str] = []
    form = {"dataset": f"folder:{tmp_path / 'pictures'}", "image_size": 8, "target": "m1", "device": "cpu"}
    driver.prepare(form, said.append)
    (key,) = (line.removeprefix("archived as ") for line in said if line.startswith("archived as "))
    assert key.startswith("pictures-")
    assert subjects(tmp_path / "archive")[1:] == [f"Add dataset {key}"]


def test_every_version_of_a_persons_images_is_kept(tmp_path: Path) -> None:
    images = tmp_path / "pictures"
    archive, keys = tmp_path / "archive", []
    for version in range(2):
        add_pictures(images, version)
        file = tmp_path / f"{version}.safetensors"
        open_dataset(f"folder:{images}", image_size=8).save(file)
        keys.append(archive_dataset(file, archive))
        assert archive_dataset(file, archive) == keys[-1]
    assert len(subjects(archive)) == 3
    assert_clean(archive)
    copy = clone(archive, tmp_path / "clone")
    dvc(copy, "repro", f"dataset@{keys[1]}")  # the images are where they were
    refused = dvc(copy, "repro", f"dataset@{keys[0]}", check=False)
    assert "not those of" in refused.stderr
    assert f"dvc pull dataset@{keys[0]}" in refused.stderr
    dvc(copy, "pull")
    assert outputs(copy) == outputs(archive)


@contextmanager
def dvc_holds(archive: Path) -> Iterator[None]:
    """Have another process hold DVC's own lock of an archive."""
    code = "import sys; from dvc.repo import Repo\nwith Repo(sys.argv[1]).lock: print(flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(archive)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
    finally:
        holder.communicate()


def test_a_lock_that_dvc_holds_is_waited_for(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    create_archive(archive)
    run = close_generations(new_run(tmp_path / "told"), 1)
    with dvc_holds(archive):
        with pytest.raises(EvodiffError, match="held by another process"):
            archive_run(run, archive, patience_seconds=0.3)
        waiting = multiprocessing.get_context("spawn").Process(target=archive_run, args=(run, archive))
        waiting.start()
        waiting.join(3)
        assert waiting.is_alive()
        assert len(subjects(archive)) == 1
    waiting.join()
    assert waiting.exitcode == 0
    assert len(subjects(archive)) == 2


def test_a_lock_that_git_holds_is_waited_for_and_never_broken(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    create_archive(archive)
    run = close_generations(new_run(tmp_path / "told"), 1)
    lock = archive / ".git" / "index.lock"
    lock.touch()
    for _ in range(2):
        with pytest.raises(EvodiffError, match=r"index\.lock"):
            archive_run(run, archive, patience_seconds=0.3)
        assert lock.exists()
    lock.unlink()
    waiting = multiprocessing.get_context("spawn").Process(target=archive_run, args=(run, archive))
    waiting.start()
    while not (archive / ".dvc" / "tmp" / "staging" / "dvc.lock").exists():
        assert waiting.is_alive()
        time.sleep(0.01)
    lock.touch()
    while not (archive / "dvc.lock").exists():  # all that is left to do is git's
        assert waiting.is_alive()
        time.sleep(0.01)
    waiting.join(1)
    assert waiting.is_alive()
    lock.unlink()
    waiting.join()
    assert waiting.exitcode == 0
    assert_clean(archive)


def test_twins_archive_a_generation_once(tmp_path: Path) -> None:
    run = close_generations(new_run(tmp_path / "told"), 1)
    context = multiprocessing.get_context("spawn")
    twins = [context.Process(target=archive_run, args=(run, tmp_path / "archive")) for _ in range(2)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
    assert [twin.exitcode for twin in twins] == [0, 0]
    assert len(subjects(tmp_path / "archive")) == 2
    assert_clean(tmp_path / "archive")
