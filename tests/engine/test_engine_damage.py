"""Damaged files of a run: what is named, what is set aside, and what stays as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_space import DigitSpace, close, error, evolution, rewrite, tree

from evodiff.engine import Ledger
from evodiff.errors import LedgerError


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
