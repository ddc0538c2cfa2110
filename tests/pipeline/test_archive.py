"""What an archive is called and refuses, and what its lists hold; DVC is not run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import dump_yaml
from told_runs import TellingPool, new_run

from evodiff.errors import EvodiffError, SettingsError
from evodiff.pipeline.archive import archive_run, create_archive, rebuild
from evodiff.pipeline.archive.contents import encode_history
from evodiff.pipeline.archive.entries import Entries, read_entries, read_lock, write_entries, write_lock
from evodiff.pipeline.archive.layout import dataset_key, experiment_key, feature_net_key, generation_key
from evodiff.pipeline.archive.repository import skeleton
from evodiff.pipeline.evolve import evolve
from evodiff.pipeline.run import Run
from evodiff.settings import Settings, load_settings

PROJECT = Path(__file__).parents[2]


def told_run(path: Path, *, kid: float = 1.0) -> Run:
    """A run of two closed generations in which every trial has the same KID."""
    run = new_run(path)
    evolve(run, TellingPool(lambda row: {"kid": kid}), generations=2, holder="test")
    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["digits-001", "v1.2 of me", "größe", "--", "a/../b; rm"])
def test_a_key_has_only_letters_that_a_stage_may_have(name: str) -> None:
    key = generation_key(experiment_key(name), 3)
    assert key.endswith("-g0003")
    assert key.replace("-", "").replace("_", "").isalnum()
    assert key.isascii()


def test_a_version_of_a_dataset_is_called_by_its_last_folder_and_its_digest() -> None:
    assert dataset_key("folder:/home/me/pictures", "0123456789abcdef") == "pictures-0123456789ab"
    assert dataset_key("photos:16", "0123456789abcdef") == "photos-16-0123456789ab"


def test_the_longest_names_make_stages_that_stand_in_the_lock_as_shorter_ones_do(tmp_path: Path) -> None:
    dataset = dataset_key(f"folder:/home/{'pictures' * 30}", "0" * 64)
    experiment = experiment_key("experiment" * 25)
    keys = Entries({dataset: {}}, {feature_net_key(dataset, "search", "1" * 64): {}}, {f"{experiment}-g0003": {}})
    dump_yaml(tmp_path / "dvc.lock", {"schema": "2.0", "stages": {name: {"cmd": "x"} for name in keys.stages()}})
    assert set(read_lock(tmp_path)) == set(keys.stages())
    assert experiment_key("experiment" * 25) != experiment_key("experiment" * 25 + "s")
    assert experiment_key("e" * 104) == "e" * 104  # those from before keep their names
    assert dataset_key("d" * 77, "0" * 64) == f"{'d' * 77}-{'0' * 12}"


def test_a_run_is_not_archived_under_the_name_of_something_else() -> None:
    with pytest.raises(SettingsError, match="datasets"):
        experiment_key("datasets")


def test_entries_are_read_as_they_were_written(tmp_path: Path) -> None:
    entries = Entries({"digits-1": {"evodiff_version": "0.1"}}, {}, {"a-g0000": {"generation": 0}})
    write_entries(tmp_path, entries)
    assert read_entries(tmp_path) == entries
    assert list(entries.stages()) == ["dataset@digits-1", "genomes@a-g0000", "evaluations@a-g0000"]


def test_damaged_entries_are_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "generations.yaml").write_text("recorded: [")
    with pytest.raises(EvodiffError, match=r"generations\.yaml.*checkout HEAD"):
        read_entries(tmp_path)


def test_the_lock_keeps_the_text_of_stages_that_are_not_touched(tmp_path: Path) -> None:
    first = "genomes@a-g0000:\n    cmd: evodiff\n    deps:\n    - path: \n        long/path\n"
    write_lock(tmp_path, {"genomes@a-g0000": first})
    before = (tmp_path / "dvc.lock").read_text()
    write_lock(tmp_path, {**read_lock(tmp_path), "evaluations@a-g0000": "evaluations@a-g0000:\n    cmd: evodiff\n"})
    after = (tmp_path / "dvc.lock").read_text()
    assert after.startswith(before)
    assert list(yaml.safe_load(after)["stages"]) == ["genomes@a-g0000", "evaluations@a-g0000"]


def test_history_changes_with_any_generation_before(tmp_path: Path) -> None:
    one, same, other = (told_run(tmp_path / name, kid=kid) for name, kid in (("a", 1.0), ("b", 1.0), ("c", 2.0)))
    assert encode_history(one.ledger, 1) == encode_history(same.ledger, 1)
    assert encode_history(one.ledger, 1) != encode_history(other.ledger, 1)
    assert encode_history(one.ledger, 0) != encode_history(one.ledger, 1)


def test_an_archive_is_created_once(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    create_archive(archive)
    before = files(archive / ".git")
    create_archive(archive)
    assert files(archive / ".git") == before
    assert f'url = "{archive / ".remote"}"' in (archive / ".dvc" / "config").read_text()


def test_an_archive_pushes_where_it_is_told_to(tmp_path: Path) -> None:
    create_archive(tmp_path / "archive", "s3://bucket/path")
    create_archive(tmp_path / "archive")
    assert 'url = "s3://bucket/path"' in (tmp_path / "archive" / ".dvc" / "config").read_text()


def test_a_checkout_is_never_taken_for_an_archive(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    subprocess.run(["git", "init", "--quiet", checkout], check=True)
    (checkout / "mine.txt").write_text("mine")
    before = files(checkout)
    with pytest.raises(EvodiffError, match="not an archive"):
        archive_run(told_run(tmp_path / "run"), checkout)
    assert files(checkout) == before


def test_an_archive_inside_a_checkout_leaves_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "init", "--quiet", checkout], check=True)
    before = files(checkout)
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))  # as in a hook
    monkeypatch.setenv("GIT_WORK_TREE", str(checkout))
    create_archive(checkout / ".archive")
    inside = checkout / ".archive"
    assert {path: data for path, data in files(checkout).items() if not path.startswith(str(inside))} == before
    assert (inside / ".git" / "refs" / "heads" / "main").exists()


def test_an_archive_of_another_format_is_refused(tmp_path: Path) -> None:
    create_archive(tmp_path / "archive")
    (tmp_path / "archive" / "evodiff-archive.json").write_text('{"format": "evodiff-archive-9", "remote": null}')
    with pytest.raises(EvodiffError, match="evodiff-archive-9"):
        create_archive(tmp_path / "archive")


def test_a_run_without_a_closed_generation_is_not_archived(tmp_path: Path) -> None:
    assert archive_run(new_run(tmp_path / "run"), tmp_path / "archive") is None
    assert not (tmp_path / "archive").exists()


def test_another_version_does_not_rebuild() -> None:
    with pytest.raises(EvodiffError, match=r"pinned to evodiff 0\.0\.7.*dvc pull"):
        rebuild.check_version("0.0.7")


def test_an_archive_has_the_stages_of_the_project() -> None:
    assert (PROJECT / "dvc.yaml").read_bytes() == skeleton("dvc.yaml")


def test_the_parameters_of_the_project_are_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("EVODIFF_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    defaults = load_settings({})
    monkeypatch.chdir(PROJECT)
    assert load_settings({}) == defaults
    given = yaml.safe_load((PROJECT / "params.yaml").read_text())
    assert set(given["training"]) == set(Settings.model_fields["training"].default.model_dump())
    assert set(given["evaluation"]) == set(Settings.model_fields["evaluation"].default.model_dump())
