"""What a run freezes: what is refused on going on with it, and what is not."""

from __future__ import annotations

import json

import pytest
from toy_space import DigitSpace, close, evolution, rewrite, tree

from evodiff.engine import Ledger
from evodiff.errors import LedgerError, SettingsError


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
