"""A run goes on after any interruption as if there had been none."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from quick_search import QUICK, CommandLine

from evodiff.pipeline.run import Run

pytestmark = pytest.mark.e2e

KILLS = 10


def contents(run: Path) -> dict[str, bytes]:
    """Every file that must be the same on a rerun, by its path in the run."""
    files = [run / "experiment.json", *(run / "inputs").rglob("*"), *(run / "generations").rglob("*")]
    return {str(path.relative_to(run)): path.read_bytes() for path in files if path.is_file()}


def assert_same(first: Path, second: Path) -> None:
    one, other = contents(first), contents(second)
    assert sorted(one) == sorted(other)
    assert [name for name in one if one[name] != other[name]] == []


@pytest.fixture(scope="module")
def straight(evodiff: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three generations without an interruption, by one worker."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    evodiff("evolve", *QUICK, "--workers", 1, "--generations", 3, "--out", folder)
    return folder


@pytest.mark.slow
def test_one_generation_and_two_more_after_a_resume_are_three_generations_byte_for_byte(
    straight: Path, evodiff: CommandLine, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    evodiff("evolve", *QUICK, "--generations", 1, "--out", folder)
    evodiff("evolve", "--resume", folder, "--generations", 3, "--workers", 2, "--champion-steps", 6)
    assert_same(straight, folder)


def test_a_run_that_is_killed_ten_times_ends_with_the_same_bytes(
    straight: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = [str(Path(sys.executable).with_name("evodiff")), "evolve"]
    start = [*QUICK, "--generations", "3", "--out", str(folder)]
    resume = ["--resume", str(folder), "--generations", "3", "--champion-steps", "6"]
    chance = random.Random(20)
    kills = finished = 0
    while kills < KILLS or not finished:
        if finished and (folder / "experiment.json").exists() and Run.open(folder).ledger.closed == 3:
            assert_same(straight, folder)
            shutil.rmtree(folder)  # it was faster than the kills: once more
        arguments = resume if (folder / "experiment.json").exists() else start
        process = subprocess.Popen(
            [*command, *arguments],
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        limit = chance.uniform(1.0, 5.0) if kills < KILLS else 240.0
        try:
            _, complaint = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, complaint.decode()
        finished += 1
    assert_same(straight, folder)


def test_control_c_leaves_a_checkpoint_and_says_how_to_go_on(
    straight: Path, environment: dict[str, str], tmp_path: Path, evodiff: CommandLine
) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("evodiff")), "evolve", *QUICK, "--generations", "3", "--out", str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("generations/*/evaluations/*.json")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, complaint
    assert f"evodiff evolve --resume {folder}" in complaint
    evodiff("evolve", "--resume", folder, "--generations", 3, "--champion-steps", 6)
    assert_same(straight, folder)
