"""A process that archives is killed at every step in turn: the next one mends what it left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dvc_commands import assert_clean, environment, git, outputs
from told_runs import TellingPool, new_run

from evodiff.pipeline.archive import archive_run, create_archive
from evodiff.pipeline.evolve import evolve
from evodiff.pipeline.run import Run

pytestmark = pytest.mark.e2e

# Kills itself before the n-th time that it starts a process or changes anything outside of DVC's temporary files.
DEADLY = """
import os, signal, sys
from pathlib import Path
from evodiff.pipeline.archive import archive_run, create_archive
from evodiff.pipeline.run import Run

left = int(sys.argv[1])

def count(event, arguments):
    global left
    renamed = event == "os.rename"
    written = event == "open" and "w" in str(arguments[1]) and "staging" not in str(arguments[0])
    if event == "subprocess.Popen" or renamed or written:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
"""
CREATE = DEADLY + "create_archive(Path(sys.argv[2]))"
ARCHIVE = DEADLY + "archive_run(Run.open(sys.argv[3]), Path(sys.argv[2]))"


def killed(code: str, step: int, archive: Path, *arguments: Path) -> bool:
    """Run code in another process that is killed before its ``step``-th change; return whether it got that far."""
    command = [sys.executable, "-c", code, str(step), str(archive), *map(str, arguments)]
    done = subprocess.run(command, env=environment(archive.parent), capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def closed_run(path: Path) -> Run:
    run = new_run(path)
    evolve(run, TellingPool(lambda row: {"kid": 1 + len(row["genome"]["layers"])}), generations=2, holder="test")
    return run


def test_a_creation_killed_at_any_step_is_finished_by_the_next(tmp_path: Path) -> None:
    archive, step = tmp_path / "archive", 1
    while killed(CREATE, step, archive):
        step += 2
    assert step > 15
    create_archive(tmp_path / "straight")
    assert git(archive, "rev-parse", "HEAD:dvc.yaml") == git(tmp_path / "straight", "rev-parse", "HEAD:dvc.yaml")
    assert git(archive, "ls-files") == git(tmp_path / "straight", "ls-files")
    assert git(archive, "status", "--porcelain") == ""
    assert len(git(archive, "log", "--format=%s").splitlines()) == 1


@pytest.mark.timeout(1800)
def test_a_process_killed_at_any_step_is_mended_by_the_next(tmp_path: Path) -> None:
    run = closed_run(tmp_path / "told")
    archive_run(run, tmp_path / "straight")
    archive, step = tmp_path / "killed", 1
    create_archive(archive)
    while killed(ARCHIVE, step, archive, run.path):
        step += 2
    assert step > 12
    assert outputs(archive) == outputs(tmp_path / "straight")
    assert (archive / "dvc.lock").read_bytes() == (tmp_path / "straight" / "dvc.lock").read_bytes()
    messages = ("log", "--format=%B")
    assert git(archive, *messages) == git(tmp_path / "straight", *messages)
    git(archive, "fsck", "--strict")
    assert_clean(archive)


def test_a_lock_that_a_killed_git_left_is_removed(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    create_archive(archive)
    assert killed(CREATE, 2, archive)
    for lock in ("index.lock", "refs/heads/main.lock"):
        (archive / ".git" / lock).touch()
    create_archive(archive)
    git(archive, "commit", "--quiet", "--allow-empty", "--message", "Nothing is in the way")


def test_a_command_that_outlives_its_killed_process_is_waited_for(tmp_path: Path) -> None:
    run, archive = closed_run(tmp_path / "told"), tmp_path / "archive"
    create_archive(archive)
    command = [sys.executable, "-c", ARCHIVE, "-1", str(archive), str(run.path)]
    process = subprocess.Popen(command, env=environment(tmp_path))
    staging = archive / ".dvc" / "tmp" / "staging"
    deadline = time.monotonic() + 120
    while not (staging / ".dvc" / "tmp" / "lock").exists():  # DVC has begun its commit
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    archive_run(run, archive)
    assert len(git(archive, "log", "--format=%s").splitlines()) == 3
    assert_clean(archive)
