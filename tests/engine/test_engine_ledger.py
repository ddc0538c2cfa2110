"""The run folder: how it is written, what it refuses, and what readers find in it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from toy_space import close, error, evolution, tree

from evodiff.engine import Ledger
from evodiff.errors import CandidateNotFound, LedgerError


def test_the_first_of_many_publishers_wins(tmp_path):
    ledger = Ledger(tmp_path)
    contents = [f"{index}\n".encode() * 1000 for index in range(16)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda content: ledger.publish("inputs/one.json", content), contents))
    assert sum(won) == 1
    assert ledger.read("inputs/one.json") == contents[won.index(True)]
    assert list((tmp_path / "scratch" / "publishing").iterdir()) == []


def test_two_processes_that_publish_one_file_agree_on_its_content(tmp_path):
    code = (
        "import sys; from evodiff.engine import Ledger; ledger = Ledger(sys.argv[1]);"
        "sys.stdin.read(1);"
        "print(sum(ledger.publish(f'inputs/{i}', sys.argv[2].encode()) for i in range(200)))"
    )
    twins = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("first", "second")
    ]
    for twin in twins:
        twin.stdin.write("x")
        twin.stdin.flush()
    assert sum(int(twin.communicate(timeout=60)[0]) for twin in twins) == 200
    assert {path.read_text() for path in (tmp_path / "inputs").iterdir()} <= {"first", "second"}


def test_a_full_disk_is_an_error_that_leaves_the_run_intact(tmp_path):
    """A real refusal by the kernel: the process may not write files beyond a few bytes."""
    search = close(evolution(tmp_path / "run"), 2)
    trials = search.ask(6)
    before = tree(tmp_path / "run")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        with pytest.raises(LedgerError, match="Free space and resume"):
            search.tell(trials[0].id, {"error": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert tree(tmp_path / "run") == before
    assert list((tmp_path / "run" / "scratch" / "publishing").iterdir()) == []
    search.tell(trials[0].id, {"error": 1.0})
    assert evolution(tmp_path / "run").pending() == trials[1:]


def test_a_full_file_system_stops_a_run_that_goes_on_elsewhere(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system takes root")
    try:
        with pytest.raises(LedgerError, match="Free space and resume"):
            close(evolution(mount / "run"), 100)
        subprocess.run(["mount", "-o", "remount,size=64m", str(mount)], check=True)
        done = evolution(mount / "run").generation
        close(evolution(mount / "run"), 3)
        close(evolution(tmp_path / "whole"), done + 3)
        whole, small = tree(tmp_path / "whole"), tree(mount / "run")
        assert {name: small[name] for name in whole if name in small} == whole
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_file_in_the_place_of_a_run_is_an_error(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(LedgerError):
        evolution(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "inputs/../../outside", ""])
def test_names_outside_the_run_are_refused(tmp_path, name):
    ledger = Ledger(tmp_path / "run")
    for use in (ledger.read, lambda path: ledger.publish(path, b"x"), lambda path: ledger.replace(path, b"x")):
        with pytest.raises(LedgerError, match="inside the run folder"):
            use(name)


def test_absolute_paths_inside_the_run_are_understood(tmp_path):
    ledger = Ledger(tmp_path / "run")
    assert ledger.publish(tmp_path / "run" / "inputs" / "a.json", b"1\n")
    assert ledger.read("inputs/a.json") == b"1\n"
    ledger.replace("inputs/a.json", b"2\n")
    assert (tmp_path / "run" / "inputs" / "a.json").read_bytes() == b"2\n"


def test_every_stored_file_is_sorted_json_that_ends_in_a_newline(tmp_path):
    close(evolution(tmp_path / "run"), 2)
    for name, content in tree(tmp_path / "run").items():
        assert content.endswith(b"\n"), name
        for text in content.splitlines() if name.endswith("jsonl") else [content]:
            plain = json.loads(text)
            assert list(plain) == sorted(plain), name


def test_a_reader_needs_no_space(tmp_path):
    search = close(evolution(tmp_path / "run"), 2)
    trials = search.ask(2)
    search.tell(trials[1].id, {"error": 1.0})
    ledger = Ledger(tmp_path / "run")
    assert (ledger.generations, ledger.closed) == (3, 2)
    assert ledger.experiment["objectives"] == [
        {"maximise": False, "name": "error"},
        {"maximise": False, "name": "cost"},
    ]
    assert list(ledger.evaluations(2)) == [trials[1].id]
    assert list(ledger.evaluations(0)) == [record["id"] for record in ledger.plan(0)]
    assert ledger.result(2) is None
    assert ledger.result(1)["front"] == list(search.results()[1].front)
    assert ledger.find(trials[0].candidate[:10]) == trials[0].candidate
    with pytest.raises(CandidateNotFound):
        ledger.find("g")
    assert ledger.weights_folder(trials[0]) == ledger.weights_folder(ledger.plan(2)[0])
    assert ledger.weights_folder(trials[0]).name == f"{trials[0].candidate}.r0"


def test_weights_are_kept_for_the_front_survivors_and_what_the_open_generation_needs(tmp_path):
    search = evolution(tmp_path / "run", population_size=8)
    for _ in range(5):
        for trial in search.ask(8):
            search.ledger.weights_folder(trial).mkdir(parents=True)
            search.tell(trial.id, {"error": error(trial.genome)})
    asked = search.ask(8)
    search.ledger.weights_folder(asked[0]).mkdir(parents=True)
    prunable = {folder.name.removesuffix(".r0") for folder in search.prunable_weights()}
    needed = {item.id for item in [*search.front(), *search.survivors]} | {asked[0].candidate}
    needed |= {parent for trial in asked for parent in trial.parents}
    everything = {record["candidate"] for g in range(5) for record in search.ledger.plan(g)}
    assert prunable == everything - needed
    assert prunable


def test_a_run_in_memory_keeps_no_weights():
    search = evolution()
    with pytest.raises(LedgerError, match="folder"):
        search.ledger.weights_folder(search.ask(1)[0])
    assert search.prunable_weights() == []


def test_half_written_files_of_the_day_before_are_swept(tmp_path):
    evolution(tmp_path / "run")
    old, fresh = (tmp_path / "run" / "scratch" / "publishing" / name for name in ("old", "fresh"))
    old.write_text("half")
    fresh.write_text("half")
    os.utime(old, (0, 0))
    evolution(tmp_path / "run")
    assert not old.exists()
    assert fresh.exists()
