"""The run folder: what it refuses, what it sets aside, and what stays intact."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from toy_space import DigitSpace, close, error, evolution, tree

from evodiff.engine import Ledger
from evodiff.errors import CandidateNotFound, LedgerError, SettingsError


def rewrite(path: Path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(LedgerError, match="is not a run"):
        _ = Ledger(tmp_path).experiment


def test_another_format_is_refused_with_the_version_that_wrote_it(tmp_path):
    close(evolution(tmp_path / "run"))
    rewrite(tmp_path / "run" / "experiment.json", format="evodiff-ledger-99", evodiff="7.0")
    before = tree(tmp_path / "run")
    with pytest.raises(LedgerError, match=r"evodiff-ledger-99.*7\.0"):
        evolution(tmp_path / "run")
    assert tree(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 4}, "seed .* expected 3, found 4"),
        ({"population_size": 7}, "population_size .* expected 6, found 7"),
        ({"objectives": ["error"]}, "objectives"),
        ({"strategy": "random"}, "strategy"),
        ({"rungs": 2}, "rungs"),
        ({"settings": {"training": {"steps": 200, "rate": 0.1}}}, r"settings\.training\.steps .* 100, found 200"),
        ({"space": DigitSpace(7)}, None),
        ({"warm_start": [[1] * 6]}, "warm_start"),
    ],
)
def test_other_frozen_settings_are_refused_by_name_and_nothing_changes(tmp_path, changed, named):
    frozen = {"settings": {"training": {"steps": 100, "rate": 0.1}}}
    close(evolution(tmp_path / "run", **frozen))
    before = tree(tmp_path / "run")
    if named is None:
        changed["space"].describe = lambda: {"length": 7}
        named = r"space\.description\.length .* expected nothing, found 7"
    with pytest.raises(SettingsError, match=named):
        evolution(tmp_path / "run", **{**frozen, **changed})
    assert tree(tmp_path / "run") == before


def test_equal_settings_and_settings_left_out_are_accepted(tmp_path):
    close(evolution(tmp_path / "run", settings={"steps": (1, 2)}))
    assert evolution(tmp_path / "run", settings={"steps": [1, 2]}).generation == 1
    assert evolution(tmp_path / "run").experiment["settings"] == {"steps": [1, 2]}


def test_nothing_frozen_counts_generations(tmp_path):
    search = evolution(tmp_path / "run")
    before = (tmp_path / "run" / "experiment.json").read_bytes()
    close(search, 3)
    assert (tmp_path / "run" / "experiment.json").read_bytes() == before


def test_another_code_version_warns_and_is_recorded(tmp_path):
    close(evolution(tmp_path / "run"))
    rewrite(tmp_path / "run" / "experiment.json", evodiff="0.0.1")
    with pytest.warns(UserWarning, match=r"started by evodiff 0\.0\.1"):
        search = evolution(tmp_path / "run")
    assert search.generation == 1
    event = json.loads((tmp_path / "run" / "telemetry" / "events.jsonl").read_text())
    assert (event["event"], event["frozen"]) == ("version", "0.0.1")


def test_generations_without_an_experiment_are_refused(tmp_path):
    close(evolution(tmp_path / "run"))
    (tmp_path / "run" / "experiment.json").unlink()
    with pytest.raises(LedgerError, match=r"experiment\.json"):
        evolution(tmp_path / "run")
    assert not (tmp_path / "run" / "experiment.json").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"generation": 0}', b"null"])
@pytest.mark.parametrize("name", ["experiment.json", "generations/0000/plan.jsonl", "generations/0000/result.json"])
def test_a_damaged_file_is_named_with_what_to_do_and_left_alone(tmp_path, name, content):
    close(evolution(tmp_path / "run"), 2)
    (tmp_path / "run" / name).write_bytes(content)
    before = tree(tmp_path / "run")
    with pytest.raises(LedgerError) as caught:
        evolution(tmp_path / "run")
    assert caught.value.remedy
    assert str(tmp_path) in caught.value.headline
    assert tree(tmp_path / "run") == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"trial": "other"}', b"\xff", b"null"])
def test_a_damaged_evaluation_is_set_aside_and_done_again(tmp_path, content):
    search = evolution(tmp_path / "run")
    trials = search.ask(6)
    for trial in trials[:3]:
        search.tell(trial.id, {"error": error(trial.genome)})
    damaged = tmp_path / "run" / "generations" / "0000" / "evaluations" / f"{trials[1].id}.json"
    intact = damaged.read_bytes()
    damaged.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged"):
        again = evolution(tmp_path / "run")
    assert again.pending() == [trials[1], *trials[3:]]
    assert [path.read_bytes() for path in (tmp_path / "run" / "telemetry" / "damaged").iterdir()] == [content]
    again.tell(trials[1].id, {"error": error(trials[1].genome)})
    assert damaged.read_bytes() == intact


@pytest.mark.parametrize("content", [b"", b"{", b"null\n", b"{}\n"])
def test_damaged_evaluations_of_a_closed_generation_are_restored_from_those_of_its_trials(tmp_path, content):
    close(evolution(tmp_path / "run"), 3)
    before = tree(tmp_path / "run")
    (tmp_path / "run" / "generations" / "0002" / "evaluations.jsonl").write_bytes(content)
    with pytest.warns(UserWarning, match="damaged"):
        assert evolution(tmp_path / "run").front()
    evolution(tmp_path / "run")
    assert tree(tmp_path / "run") == before


def cut_plan(run: Path, generation: int) -> None:
    """Take the last line of a plan away."""
    plan = run / "generations" / f"{generation:04d}" / "plan.jsonl"
    plan.write_bytes(b"".join(plan.read_bytes().splitlines(keepends=True)[:-1]))


def test_an_emptied_plan_of_an_open_generation_is_damaged_and_no_plan_of_its_own(tmp_path):
    search = close(evolution(tmp_path / "run"), 1)
    told = search.ask(6)[0]
    search.tell(told.id, {"error": 1.0})
    (tmp_path / "run" / "generations" / "0001" / "plan.jsonl").write_bytes(b"")
    before = tree(tmp_path / "run")
    for use in (lambda: evolution(tmp_path / "run"), lambda: Ledger(tmp_path / "run").evaluations(1)):
        with pytest.raises(LedgerError, match=r"plan\.jsonl .* damaged"):
            use()
    assert tree(tmp_path / "run") == before
    (tmp_path / "run" / "generations" / "0001" / "plan.jsonl").unlink()  # as the remedy says
    assert [trial.id for trial in evolution(tmp_path / "run").pending()] == [
        record["id"] for record in search.ledger.plan(1) if record["id"] != told.id
    ]


@pytest.mark.parametrize("told", ["none", "some", "closed"])
def test_a_plan_that_lost_a_trial_is_damaged_whether_or_not_it_was_told(tmp_path, told):
    search = close(evolution(tmp_path / "run"), 2 if told == "closed" else 1)
    if told != "closed":
        for trial in search.ask(6)[:: -1 if told == "some" else 1][: 0 if told == "none" else 2]:
            search.tell(trial.id, {"error": 1.0})
    cut_plan(tmp_path / "run", 1)
    before = tree(tmp_path / "run")
    with pytest.raises(LedgerError, match=r"0001/plan\.jsonl .* damaged"):
        evolution(tmp_path / "run")
    if told != "none":
        with pytest.raises(LedgerError, match=r"0001/plan\.jsonl .* damaged"):
            Ledger(tmp_path / "run").evaluations(1)
    assert tree(tmp_path / "run") == before


def test_the_short_plan_of_an_exhausted_space_is_none_that_was_cut(tmp_path):
    settings = {"space": DigitSpace(2), "population_size": 7}  # nine genomes, eight of them different
    search = close(evolution(tmp_path / "run", **settings))
    asked = search.ask(7)
    assert 0 < len(asked) < 7
    assert evolution(tmp_path / "run", **settings).pending() == asked
    close(evolution(tmp_path / "run", **settings))
    again = evolution(tmp_path / "run", **settings)
    assert (again.generation, again.ask(7), again.exhausted) == (2, [], True)
    assert not (tmp_path / "run" / "generations" / "0002").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"genome": None},
        {"genome": []},
        {"seed": None},
        {"rung": 1},
        {"parents": 3},
        {"parents": [3]},
        {"generation": 7},
        {"operator": []},
    ],
)
def test_a_plan_with_a_trial_that_is_none_is_damaged(tmp_path, change):
    close(evolution(tmp_path / "run"), 1)
    plan = tmp_path / "run" / "generations" / "0000" / "plan.jsonl"
    first, *rest = plan.read_text().splitlines(keepends=True)
    plan.write_text("".join([json.dumps({**json.loads(first), **change}) + "\n", *rest]))
    with pytest.raises(LedgerError, match=r"plan\.jsonl .* damaged"):
        evolution(tmp_path / "run")
    plan.write_text("".join([first, *rest, first]))
    with pytest.raises(LedgerError, match=r"plan\.jsonl .* damaged.* twice"):
        evolution(tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [
        {"objectives": {}},
        {"objectives": {"error": 1.0}},
        {"weights": 3},
        {"failure": {"cause": "", "detail": "", "kind": ""}},
    ],
)
def test_evaluations_that_hold_too_little_are_restored_from_those_of_the_trials(tmp_path, change):
    close(evolution(tmp_path / "run"), 2)
    before = tree(tmp_path / "run")
    evaluations = tmp_path / "run" / "generations" / "0000" / "evaluations.jsonl"
    first, *rest = evaluations.read_text().splitlines(keepends=True)
    evaluations.write_text("".join([json.dumps({**json.loads(first), **change}) + "\n", *rest]))
    with pytest.warns(UserWarning, match="the files of its trials are read instead"):
        assert evolution(tmp_path / "run").generation == 2
    assert tree(tmp_path / "run") == before


@pytest.mark.parametrize(
    "change",
    [
        {"front": ["0" * 16]},
        {"survivors": ["0" * 16]},
        {"survivors": "0" * 16},
        {"front": [3]},
        {"metrics": {}},
        {"metrics": {"generation": "x"}},
        {"hypervolume": None},
        {"credit": []},
        {"credit": {"change": 3}},
        {"box": {"ideal": {}, "reference": {}}},
        {"box": {"ideal": {"error": 1.0, "cost": 1.0}, "reference": {}}},
        {"generation": 5},
    ],
)
def test_a_result_that_cannot_be_one_is_damaged_and_left_alone(tmp_path, change):
    close(evolution(tmp_path / "run"), 2)
    rewrite(tmp_path / "run" / "generations" / "0000" / "result.json", **change)
    before = tree(tmp_path / "run")
    with pytest.raises(LedgerError, match=r"0000/result\.json .* damaged"):
        evolution(tmp_path / "run")
    assert tree(tmp_path / "run") == before


def test_what_is_said_of_evaluations_that_are_damaged_twice_is_true(tmp_path):
    search = evolution(tmp_path / "run")
    trials = search.ask(6)
    close(evolution(tmp_path / "run"))
    folder = tmp_path / "run" / "generations" / "0000"
    (folder / "evaluations.jsonl").write_bytes(b"{")
    (folder / "evaluations" / f"{trials[2].id}.json").write_bytes(b"{")
    with pytest.warns(UserWarning, match="damaged") as said, pytest.raises(LedgerError, match=trials[2].id) as caught:
        evolution(tmp_path / "run")
    whole, single = (str(warning.message) for warning in said)
    assert "the files of its trials are read instead" in whole
    assert "restore it from a copy" in single
    assert "Restore its evaluations from a copy" in caught.value.remedy
    for text in (whole, single):
        assert "again" not in text


def test_a_closed_generation_whose_evaluations_are_lost_is_an_error(tmp_path):
    close(evolution(tmp_path / "run"), 2)
    folder = tmp_path / "run" / "generations" / "0001"
    (folder / "evaluations.jsonl").unlink()
    next((folder / "evaluations").iterdir()).unlink()
    with pytest.raises(LedgerError, match=r"generations/0001.* closed"):
        evolution(tmp_path / "run")


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
