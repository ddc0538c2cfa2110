"""A run goes on from its folder exactly, whatever stopped it and whoever works on it."""

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
from toy_space import DigitSpace, close, error, evolution, plan_of, tree

from evodiff.engine import Evolution

HERE = Path(__file__).parent

# A driver that closes generations until there are enough of them; safe to kill, and to run beside another one.
DRIVER = """
import sys, time
sys.path.insert(0, {here!r})
from toy_space import error, evolution
search = evolution(sys.argv[1])
while search.generation < int(sys.argv[2]):
    for trial in (search.ask(6) or search.pending())[:: -1 if sys.argv[3:] else 1]:
        time.sleep(0.002)
        search.tell(trial.id, {{"error": error(trial.genome)}})
"""


def drive(run: Path, generations: int, *backwards: str) -> subprocess.Popen[bytes]:
    code = DRIVER.format(here=str(HERE))
    command = [sys.executable, "-c", code, str(run), str(generations), *backwards]
    return subprocess.Popen(command, start_new_session=True)


@pytest.mark.parametrize("strategy", ["surrogate", "nsga2", "random", "regularised"])
def test_a_run_that_was_reopened_between_generations_is_the_same_bytes(tmp_path, strategy):
    close(evolution(tmp_path / "whole", strategy=strategy), 6)
    for _ in range(3):
        close(evolution(tmp_path / "parts", strategy=strategy), 2)
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


def test_a_run_that_was_reopened_within_generations_is_the_same_bytes(tmp_path):
    close(evolution(tmp_path / "whole"), 4)
    while (search := evolution(tmp_path / "parts")).generation < 4:
        for trial in (search.pending() or search.ask(2))[:1]:
            search.tell(trial.id, {"error": error(trial.genome)})
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


def test_reopening_asks_nothing_again(tmp_path):
    search = evolution(tmp_path / "run")
    asked = search.ask(2)
    search.tell(asked[0].id, {"error": 1.0})
    again = evolution(tmp_path / "run")
    assert [trial.id for trial in again.pending()] == plan_of(search, 0)[1:]
    assert again.ask(6) == []
    assert again.pending()[0] == asked[1]


def test_open_reads_all_it_needs_from_the_folder(tmp_path):
    first = close(evolution(tmp_path / "run", strategy="regularised", settings={"steps": 3}), 2)
    again = Evolution.open(DigitSpace(), tmp_path / "run")
    assert again.experiment == first.experiment
    assert again.strategy == first.strategy
    assert again.front() == first.front()
    assert again.survivors == first.survivors
    assert again.history() == first.history()


@pytest.mark.parametrize("lost", ["plan.jsonl", "result.json", "evaluations.jsonl", "all"])
@pytest.mark.parametrize("generation", [0, 2, 4])
def test_decisions_are_computed_again_from_the_evaluations(tmp_path, lost, generation):
    close(evolution(tmp_path / "run"), 5)
    before = tree(tmp_path / "run")
    folder = tmp_path / "run" / "generations" / f"{generation:04d}"
    for name in ("plan.jsonl", "result.json", "evaluations.jsonl") if lost == "all" else (lost,):
        (folder / name).unlink()
    assert evolution(tmp_path / "run").generation == 5
    assert tree(tmp_path / "run") == before


def test_all_decisions_are_computed_again_from_evaluations_jsonl_alone(tmp_path):
    close(evolution(tmp_path / "run"), 5)
    before = tree(tmp_path / "run")
    for folder in (tmp_path / "run" / "generations").iterdir():
        (folder / "plan.jsonl").unlink()
        (folder / "result.json").unlink()
        shutil.rmtree(folder / "evaluations")
    assert evolution(tmp_path / "run").generation == 5
    after = tree(tmp_path / "run")
    assert after == {name: content for name, content in before.items() if "/evaluations/" not in name}


def test_ten_kills_leave_a_run_that_ends_as_if_nothing_had_happened(tmp_path):
    generations = 20
    close(evolution(tmp_path / "whole"), generations)
    moments = random.Random(7)
    for _ in range(10):
        driver = drive(tmp_path / "killed", generations)
        target = count_files(tmp_path / "killed") + moments.randrange(1, 8)
        while driver.poll() is None and count_files(tmp_path / "killed") < target:
            time.sleep(moments.random() * 0.002)
        os.killpg(driver.pid, signal.SIGKILL)
        assert driver.wait(timeout=60) == -signal.SIGKILL
    assert drive(tmp_path / "killed", generations).wait(timeout=60) == 0
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def count_files(run: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(run))


def test_two_processes_on_one_folder_make_one_run(tmp_path):
    close(evolution(tmp_path / "alone"), 8)
    drivers = [drive(tmp_path / "together", 8), drive(tmp_path / "together", 8, "backwards")]
    assert [driver.wait(timeout=60) for driver in drivers] == [0, 0]
    assert tree(tmp_path / "together") == tree(tmp_path / "alone")


def test_a_worker_may_tell_what_a_driver_asked(tmp_path):
    driver, worker = evolution(tmp_path / "run"), evolution(tmp_path / "run")
    for generation in range(3):
        trials = driver.ask(6)
        for index, trial in enumerate(trials):
            (worker if index % 2 else driver).tell(trial.id, {"error": error(trial.genome)})
        assert driver.generation == worker.generation == generation + 1
    assert driver.results() == worker.results()


def test_of_two_that_plan_at_once_one_asks_and_the_other_finds_the_trials_pending(tmp_path):
    first, second = evolution(tmp_path / "run"), evolution(tmp_path / "run")
    asked = first.ask(6)
    assert second.ask(6) == []
    assert second.pending() == asked
