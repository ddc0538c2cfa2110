"""Warm start from genomes and from another run."""

from __future__ import annotations

import json

import pytest
from toy_space import DigitSpace, close, evolution, tree

from evodiff.engine import Evolution, front_of_run
from evodiff.errors import LedgerError, SettingsError


def run_whose_front_is_everything(folder):
    search = evolution(folder, population_size=12)
    for trial in search.ask(12):
        search.tell(trial.id, {"error": -float(sum(trial.genome))})
    assert len(search.front()) == 12
    return search


def test_a_front_is_tried_first_and_its_provenance_is_on_record(tmp_path):
    source = run_whose_front_is_everything(tmp_path / "source")
    starts = front_of_run(DigitSpace(), tmp_path / "source", limit=3)
    target = evolution(tmp_path / "target", warm_start=starts)
    trials = target.ask(6)
    expected = [item.id for item in source.front()[:3]]
    assert [trial.candidate for trial in trials[:3]] == expected
    assert [trial.parents for trial in trials[:3]] == [(f"source/{candidate}",) for candidate in expected]
    stored = json.loads(next((tmp_path / "target" / "inputs").iterdir()).read_text())
    assert [item["source"] for item in stored] == [f"source/{candidate}" for candidate in expected]


def test_a_warm_started_run_needs_its_source_no_more(tmp_path):
    close(evolution(tmp_path / "whole", warm_start=[[1] * 6, [0, 1, 1, 1, 1, 1]]), 4)
    close(evolution(tmp_path / "parts", warm_start=[[1] * 6, [0, 1, 1, 1, 1, 1]]), 2)
    close(evolution(tmp_path / "parts"), 1)
    close(Evolution.open(DigitSpace(), tmp_path / "parts"), 1)
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


def test_a_warm_start_that_was_changed_on_disk_is_an_error(tmp_path):
    evolution(tmp_path / "run", warm_start=[[1] * 6])
    next((tmp_path / "run" / "inputs").iterdir()).write_text("[]")
    with pytest.raises(LedgerError, match="digest"):
        evolution(tmp_path / "run")


def test_genomes_that_this_space_refuses_are_left_out_with_a_warning(tmp_path):
    class Picky(DigitSpace):
        def validate(self, genome):
            super().validate(genome)
            if genome[0] == 1:
                raise ValueError("no leading 1")

    source = run_whose_front_is_everything(tmp_path / "source")
    refused = sum(item.genome[0] == 1 for item in source.front())
    assert 0 < refused < len(source.front())
    with pytest.warns(UserWarning, match="left out") as caught:
        starts = front_of_run(Picky(), tmp_path / "source")
    assert (len(caught), len(starts)) == (refused, len(source.front()) - refused)


def test_a_run_of_another_space_or_without_a_front_is_refused(tmp_path):
    close(evolution(tmp_path / "other", space=DigitSpace(4)), 1)
    evolution(tmp_path / "empty")
    with pytest.warns(UserWarning, match="left out"), pytest.raises(SettingsError, match="over the same space"):
        front_of_run(DigitSpace(), tmp_path / "other")
    with pytest.raises(LedgerError, match="no closed generation"):
        front_of_run(DigitSpace(), tmp_path / "empty")
