"""Who inherits weights from whom is planned from closed generations, and such weights are kept."""

from __future__ import annotations

import json
import shutil

import pytest
from toy_space import DigitSpace, error, evolution, tree

from evodiff.engine import Evolution
from evodiff.engine.baselines import NSGA2
from evodiff.engine.candidate import Trial, read_inheritance
from evodiff.engine.ledger import Ledger
from evodiff.engine.variation import Proposal
from evodiff.errors import LedgerError, SettingsError


def close(search, generations=1, *, weights=True):
    """Close generations, leaving weights on the disk where there is one and pruning those that nothing needs."""
    for _ in range(generations):
        for trial in search.pending() + search.ask(search.population_size):
            if search.ledger.path is not None:
                search.ledger.weights_folder(trial).mkdir(parents=True, exist_ok=True)
            search.tell(trial.id, {"error": error(trial.genome)}, weights="0" * 64 if weights else None)
        for folder in search.prunable_weights():
            shutil.rmtree(folder)
    return search


def heirs(search):
    """Every planned row that names trials to inherit from."""
    plans = [search.ledger.plan(generation) for generation in range(search.ledger.generations)]
    return [record for plan in plans for record in plan if record["inherits_from"]]


@pytest.mark.parametrize("strategy", ["surrogate", "nsga2", "regularised"])
def test_children_inherit_from_those_of_their_parents_that_were_kept_ever_since(strategy):
    search = evolution(inherit=True, strategy=strategy, population_size=12)
    close(search, 6)
    kept = [{*result.survivors, *result.front} for result in search.results()]
    born = {record["id"]: g for g in range(6) for record in search.ledger.plan(g)}
    for generation in range(6):
        for record in search.ledger.plan(generation):
            expected = [
                f"{parent}.r0.0"
                for parent in record["parents"]
                if all(parent in kept[g] for g in range(born[f"{parent}.r0.0"], generation))
            ]
            assert record["inherits_from"] == (expected or None)
    assert heirs(search)


def test_weights_that_a_pending_trial_inherits_are_there_whenever_it_is_planned(tmp_path):
    search = evolution(tmp_path / "run", inherit=True, population_size=12)
    for _ in range(6):
        asked = search.ask(12)
        for folder in search.prunable_weights():
            shutil.rmtree(folder)
        for trial in asked:
            assert all(search.ledger.weights_folder(search.trial(name)).exists() for name in trial.inherits_from)
        close(search)
    assert heirs(search)


def test_a_parent_that_was_not_kept_is_not_inherited_from():
    search = evolution(inherit=True, strategy="surrogate", population_size=12)
    close(search, 8)
    plans = [record for generation in range(8) for record in search.ledger.plan(generation)]
    assert any(len(record["inherits_from"] or ()) < len(record["parents"]) for record in plans)


def test_what_lies_on_the_disk_decides_nothing(tmp_path):
    one = close(evolution(tmp_path / "one", inherit=True), 4)
    other = evolution(tmp_path / "other", inherit=True)
    for _ in range(4):
        for trial in other.ask(other.population_size):
            other.tell(trial.id, {"error": error(trial.genome)}, weights="0" * 64)
    assert [one.ledger.plan(g) for g in range(4)] == [other.ledger.plan(g) for g in range(4)]


class Returning(NSGA2):
    """Name the best survivor its own parent, on the rung above and as a replicate, beside children of it."""

    promotes = False

    def propose(self, history, space, rng, generation, n):
        best = history.survivors[0]
        yield Proposal(history.genome(best), (best,), "promotion", rung=1)
        yield Proposal(history.genome(best), (best,), "again", replicate=1)
        yield Proposal(space.mutate(history.genome(best), rng), (best,), "scratch", protocol="scratch")
        yield from super().propose(history, space, rng, generation, n)


def test_promotions_replicates_and_trials_from_scratch_inherit_nothing():
    search = close(evolution(inherit=True, strategy=Returning(), rungs=2, population_size=12))
    rows = {trial.operator: trial for trial in search.ask(12)}
    assert all(rows[name].inherits_from == () for name in ("promotion", "again", "scratch"))
    assert heirs(search)


def test_trials_that_told_no_weights_leave_nothing_to_inherit():
    search = evolution(inherit=True)
    close(search, 4, weights=False)
    assert not heirs(search)


def test_a_run_without_inheritance_freezes_and_plans_what_it_did_before_there_was_any(tmp_path):
    search = close(evolution(tmp_path / "run"), 3)
    assert "inherit" not in search.experiment
    assert all(record["inherits_from"] is None for g in range(3) for record in search.ledger.plan(g))
    with pytest.raises(SettingsError, match=r"inherit of .* is frozen: expected false, found true"):
        evolution(tmp_path / "run", inherit=True)


def test_whether_children_inherit_is_frozen_and_reopened_by_what_is_on_record(tmp_path):
    close(evolution(tmp_path / "whole", inherit=True), 6)
    close(evolution(tmp_path / "parts", inherit=True), 3)
    assert heirs(close(Evolution.open(DigitSpace(), tmp_path / "parts"), 3))
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")
    with pytest.raises(SettingsError, match=r"inherit of .* is frozen: expected true, found false"):
        evolution(tmp_path / "whole")


def test_inheritance_is_null_a_list_or_the_one_trial_of_older_plans():
    trial = Trial("a" * 16, {}, 0, inherits_from=("b", "c"))
    data = trial.to_json({})
    assert data["inherits_from"] == ["b", "c"]
    assert Trial.from_json(data, {}) == trial
    assert Trial("a" * 16, {}, 0).to_json({})["inherits_from"] is None
    assert read_inheritance(None) == ()
    assert read_inheritance("b") == ("b",)
    for wrong in (3, [3], {"b": 1}):
        with pytest.raises(ValueError, match="inherit"):
            read_inheritance(wrong)


def test_a_plan_that_inherits_from_no_trial_is_damaged(tmp_path):
    search = evolution(tmp_path / "run", inherit=True)
    search.ask(1)
    plan = tmp_path / "run" / "generations" / "0000" / "plan.jsonl"
    rows = [{**json.loads(line), "inherits_from": 3} for line in plan.read_text().splitlines()]
    plan.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(LedgerError, match="damaged"):
        Ledger(tmp_path / "run").plan(0)
