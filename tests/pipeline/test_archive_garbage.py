"""Only what no commit of an archive names is removed from its cache and its own remote."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from told_runs import TellingPool, new_run

from evodiff.errors import EvodiffError
from evodiff.pipeline.archive import archive_run, collect_garbage, create_archive
from evodiff.pipeline.archive.commands import Commands
from evodiff.pipeline.archive.garbage import Garbage
from evodiff.pipeline.archive.repository import opened
from evodiff.pipeline.evolve import evolve

STORES = (".dvc/cache", ".remote")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    create_archive(folder)
    return folder


def store(archive: Path, content: bytes, suffix: str = "") -> str:
    """Put content into cache and remote, as DVC lays them out; return its digest."""
    digest = hashlib.md5(content).hexdigest() + suffix
    for name in STORES:
        path = archive / name / "files" / "md5" / digest[:2] / digest[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return digest


def store_folder(archive: Path, *digests: str) -> str:
    entries = [{"md5": digest, "relpath": f"{number}"} for number, digest in enumerate(digests)]
    return store(archive, json.dumps(entries).encode(), ".dir")


def commit(archive: Path, *digests: str, depends_on: str = "0" * 32) -> None:
    """Write a ``dvc.lock`` that names data, in place of the one before, and commit it."""
    dependency = f"    - path: in\n      hash: md5\n      md5: {depends_on}\n"
    outputs = "".join(f"    - path: out{digest}\n      hash: md5\n      md5: {digest}\n" for digest in digests)
    stage = f"  stage:\n    cmd: nothing\n    deps:\n{dependency}    outs:\n{outputs}"
    (archive / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n{stage}")
    git = ["git", "-C", str(archive), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "add", "dvc.lock"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "Name data"], check=True)


def stored(archive: Path) -> set[str]:
    found = [
        {path.parent.name + path.name for path in (archive / name / "files" / "md5").glob("*/*")} for name in STORES
    ]
    assert found[0] == found[1]
    return found[0]


def places(digests: set[str]) -> list[str]:
    return [f"files/md5/{digest[:2]}/{digest[2:]}" for digest in digests]


def test_what_no_commit_names_goes_and_the_rest_stays(archive: Path) -> None:
    file, inner, stray = (store(archive, content) for content in (b"file", b"in a folder", b"stray"))
    folder = store_folder(archive, inner)
    stray_folder = store_folder(archive, stray)
    commit(archive, file, folder)
    garbage = collect_garbage(archive)
    assert stored(archive) == {file, inner, folder}
    assert garbage is not None
    assert garbage.files == 2 * len({stray, stray_folder})
    assert garbage.size > 2 * len(b"stray")
    again = collect_garbage(archive)
    assert again is not None
    assert (again.files, again.size) == (0, 0)


def test_what_an_older_commit_names_stays(archive: Path) -> None:
    old, new = store(archive, b"old"), store(archive, b"new")
    commit(archive, old)
    commit(archive, new)
    collect_garbage(archive)
    assert stored(archive) == {old, new}


def test_what_another_branch_names_stays(archive: Path) -> None:
    here, there = store(archive, b"here"), store(archive, b"there")
    commit(archive, here)
    subprocess.run(["git", "-C", archive, "checkout", "--quiet", "-b", "other", "HEAD~1"], check=True)
    commit(archive, there)
    subprocess.run(["git", "-C", archive, "checkout", "--quiet", "main"], check=True)
    collect_garbage(archive)
    assert stored(archive) == {here, there}


def test_a_folder_that_a_stage_depends_on_need_not_be_stored(archive: Path) -> None:
    named = store(archive, b"named")
    commit(archive, named, depends_on="1" * 32 + ".dir")
    commit(archive, named, depends_on="2" * 32 + ".dir")
    store(archive, b"stray")
    collect_garbage(archive)
    assert stored(archive) == {named}


def test_a_dry_run_says_the_same_and_removes_nothing(archive: Path) -> None:
    commit(archive, store(archive, b"named"))
    store(archive, b"stray")
    before = stored(archive)
    said = collect_garbage(archive, dry_run=True)
    assert stored(archive) == before
    assert collect_garbage(archive) == said


def test_nothing_goes_where_a_list_that_a_commit_names_is_missing(archive: Path) -> None:
    inner, stray = store(archive, b"in a folder"), store(archive, b"stray")
    folder = store_folder(archive, inner)
    commit(archive, folder)
    (archive / ".dvc" / "cache" / "files" / "md5" / folder[:2] / folder[2:]).unlink()
    with pytest.raises(EvodiffError, match="cannot be read"):
        collect_garbage(archive)
    assert {inner, stray} <= {path.parent.name + path.name for path in (archive / ".remote/files/md5").glob("*/*")}


@pytest.mark.parametrize(
    ("config", "attributes"),
    [
        ("[color]\n ui = always\n diff = always\n", ""),
        ("", "*.lock -diff\n"),
        ("", "*.lock binary\n"),
        ("[diff]\n external = true\n noprefix = true\n renames = copies\n[log]\n showRoot = false\n", ""),
        ('[diff "lock"]\n textconv = true\n command = true\n', "*.lock diff=lock\n"),
    ],
)
def test_a_persons_settings_of_git_do_not_change_what_is_named(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, attributes: str
) -> None:
    old, new = store(archive, b"old"), store(archive, b"new")
    commit(archive, old)
    commit(archive, new)
    store(archive, b"stray")
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".gitconfig").write_text(config)
    (home / ".config" / "git" / "attributes").write_text(attributes)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (archive / ".git" / "info").mkdir(exist_ok=True)
    (archive / ".git" / "info" / "attributes").write_text(attributes)
    collect_garbage(archive)
    assert stored(archive) == {old, new}


def test_nothing_goes_where_git_does_not_show_what_the_last_commit_names(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(archive, store(archive, b"named"))
    stray = store(archive, b"stray")
    real = Commands.git
    monkeypatch.setattr(Commands, "git", lambda self, *given: "" if given[0] == "log" else real(self, *given))
    with pytest.raises(EvodiffError, match=r"leaves out 1 of .*Nothing was removed"):
        collect_garbage(archive)
    assert stray in stored(archive)


def test_files_that_are_not_data_stay(archive: Path) -> None:
    commit(archive, store(archive, b"named"))
    other = archive / ".dvc" / "cache" / "files" / "md5" / "ab" / "unpacking.tmp"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.touch()
    collect_garbage(archive)
    assert other.exists()


def test_no_archive_is_made(tmp_path: Path) -> None:
    assert collect_garbage(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_cache_and_own_remote_share_their_files_but_those_that_differ(archive: Path) -> None:
    same, damaged = store(archive, b"same" * 1000), store(archive, b"right")
    place = archive / ".dvc" / "cache" / places({damaged})[0]
    place.write_bytes(b"wrong")
    with opened(archive) as repository:
        repository.share_remote()
        repository.share_remote()
    one, other = ((archive / name / places({same})[0]) for name in STORES)
    assert one.samefile(other)
    assert (archive / ".remote" / places({damaged})[0]).read_bytes() == b"right"
    assert {path.parent.name + path.name for path in (archive / ".remote" / "files").rglob("*") if path.is_file()} == {
        same,
        damaged,
    }
    place.write_bytes(b"right")
    commit(archive, damaged)
    assert collect_garbage(archive) == Garbage(files=2, size=4000)  # two names of one file


@pytest.mark.e2e
def test_dvc_agrees_and_finds_everything(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    run = new_run(tmp_path / "run", population=2)
    evolve(run, TellingPool(lambda trial: {"kid": 0.1}), generations=1, holder="test")
    archive_run(run, archive)
    kept = stored(archive)
    assert all((archive / STORES[0] / name).samefile(archive / STORES[1] / name) for name in places(kept))
    store(archive, b"stray")
    garbage = collect_garbage(archive)
    assert garbage is not None
    assert garbage.files == 2
    assert stored(archive) == kept

    def dvc(*arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
        return subprocess.run(command, cwd=archive, env=environment, capture_output=True, text=True, check=True).stdout

    assert "up to date" in dvc("status")
    assert "in sync" in dvc("status", "--cloud")
    assert "No unused 'repo' cache to remove" in dvc("gc", "--all-commits", "--force", "--dry")
