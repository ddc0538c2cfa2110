"""Replicates: ties are tried again, luck wears off, exact values are left alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from toy_space import DigitSpace, error, evolution, tree

from evodiff.engine import Evaluation, Evolution, Failure
from evodiff.engine.candidate import combine_replicates
from evodiff.errors import SettingsError

DEVIATION = 0.5


def search(generations: int, *, deviation: float = DEVIATION, stated: bool = True, **settings) -> Evolution:
    """Return a search whose error is seen with noise of a deviation, which is stated or not."""
    settings = {"population_size": 12, "strategy": "nsga2", "seed": 2, "replicate_ties": True, **settings}
    run = evolution(space=DigitSpace(9), **settings)
    for _ in range(generations):
        for trial in run.ask(run.population_size):
            luck = np.random.default_rng(trial.seed).normal() * deviation
            details = {"error_standard_error": deviation} if stated and deviation else {}
            run.tell(trial.id, {"error": error(trial.genome) + luck}, details=details)
    return run


def again(run: Evolution) -> list[dict]:
    """Return the rows of all replicates."""
    plans = [run.ledger.plan(generation) for generation in range(run.generation)]
    return [row for plan in plans for row in plan if row["replicate"]]


def test_ties_of_the_front_are_tried_again_from_another_seed():
    run = search(5)
    rows = again(run)
    assert rows
    for row in rows:
        assert row["candidate"] in run.results()[row["generation"] - 1].front
        assert row["seed"] != run.trial(f"{row['candidate']}.r0.0").seed
    assert max(row["replicate"] for row in rows) <= 3
    for generation in range(5):
        assert sum(row["generation"] == generation for row in rows) <= 3


@pytest.mark.parametrize(("size", "most"), [(1, 0), (2, 1), (3, 1), (4, 1), (8, 2)])
def test_a_quarter_of_a_generation_is_replicates_and_one_at_least_where_a_new_candidate_has_room(size, most):
    rows = again(search(16, population_size=size))
    counts = [sum(row["generation"] == generation for row in rows) for generation in range(16)]
    assert max(counts) == most


def test_promotions_and_replicates_leave_room_for_a_new_candidate():
    run = search(12, population_size=2, rungs=2)
    for generation in range(1, 12):
        rows = run.ledger.plan(generation)
        assert any(row["rung"] == row["replicate"] == 0 for row in rows), rows


def test_a_candidate_is_worth_the_mean_of_its_trials():
    run = search(5)
    row = max(again(run), key=lambda row: row["replicate"])
    values = [run.evaluation(f"{row['candidate']}.r0.{i}") for i in range(row["replicate"] + 1)]
    told = [item.objectives["error"] for item in values if item is not None]
    assert run.candidate(row["candidate"]).evaluation.objectives["error"] == pytest.approx(np.mean(told))


@pytest.mark.parametrize("settings", [{"deviation": 0.0}, {"stated": False}, {"replicate_ties": False}])
def test_exact_values_are_never_asked_again(settings):
    assert not again(search(5, **settings))


def test_the_front_is_less_of_luck():
    def optimism(replicate_ties: bool) -> float:
        """Return by how much the fronts of some searches look better than they are."""
        fronts = [search(8, seed=seed, replicate_ties=replicate_ties).front() for seed in range(8)]
        gaps = [error(item.genome) - item.evaluation.objectives["error"] for front in fronts for item in front]
        return float(np.mean(gaps))

    assert 0 < optimism(True) < 0.7 * optimism(False)


def test_replicates_and_inheritance_exclude_each_other():
    with pytest.raises(SettingsError, match="replicate_ties"):
        search(0, inherit=True)


def test_replicates_are_on_record_and_replayed(tmp_path):
    run = search(4, ledger=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "experiment.json").read_text())["replicate_ties"] is True
    before = tree(tmp_path / "run")
    (tmp_path / "run" / "generations" / "0003" / "plan.jsonl").unlink()
    (tmp_path / "run" / "generations" / "0003" / "result.json").unlink()
    assert Evolution.open(run.space, tmp_path / "run").generation == 4
    assert tree(tmp_path / "run") == before


def test_the_stated_error_of_a_candidate_is_that_of_its_mean():
    run = search(5)
    row = max(again(run), key=lambda row: row["replicate"])
    trials = row["replicate"] + 1
    evaluation = run.candidate(row["candidate"]).evaluation
    assert evaluation.details["error_standard_error"] == pytest.approx(DEVIATION / np.sqrt(trials))


def test_errors_of_replicates_are_combined_and_the_rest_is_the_first_ones():
    told = [
        Evaluation({"a": 1.0, "b": 2.0}, details={"a_standard_error": 0.3, "note": "first"}),
        Evaluation(failure=Failure("diverged")),
        Evaluation({"a": 2.0, "b": 2.0}, details={"a_standard_error": 0.4, "note": "second"}),
    ]
    combined = combine_replicates(told)
    assert dict(combined.details) == {"a_standard_error": pytest.approx(0.25), "note": "first"}
    assert combine_replicates(told[:2]).details == told[0].details
