"""Rungs: who is promoted, how many, and what the front is."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import kendalltau
from toy_space import DigitSpace, error, evolution, tree

from evodiff.engine import NSGA2, Evolution, Objective, Proposal, RegularisedEvolution, SurrogateSearch
from evodiff.engine.extrapolation import FEWEST_PAIRS, as_on_highest, comparable_values
from evodiff.engine.fidelity import ANCHORS, added_steps, check_rung_steps, rung_steps
from evodiff.engine.forecast import Forecaster
from evodiff.engine.prescreen import FEWEST, _parents, remembered
from evodiff.engine.selection import elitist_survivors
from evodiff.errors import SettingsError


def noise(genome: list[int]) -> float:
    """Different for most genomes, the same for each: what a short training is wrong by."""
    return float(np.random.default_rng(genome).normal())


def run(generations: int, low=lambda genome: error(genome) + 0.2 * noise(genome), **settings) -> Evolution:
    """Return a search whose low rungs see ``low`` and whose highest sees the error."""
    search = evolution(
        **{"rungs": 2, "population_size": 12, "strategy": "nsga2", "space": DigitSpace(9), "seed": 5, **settings}
    )
    for _ in range(generations):
        for trial in search.ask(search.population_size):
            full = trial.rung == search.rungs - 1
            search.tell(trial.id, {"error": error(trial.genome) if full else low(trial.genome) + 1})
    return search


def plans(search: Evolution) -> list[list[dict]]:
    return [search.ledger.plan(generation) for generation in range(search.generation)]


def test_steps_grow_threefold_and_a_promotion_adds_what_is_missing():
    assert [rung_steps(120, rung, 3) for rung in range(3)] == [13, 40, 120]
    assert rung_steps(2, 0, 5) == 1
    row = {"rung": 2, "replicate": 0, "protocol": "search", "generation": 1}
    assert added_steps(120, row, 3) == 80
    assert added_steps(120, {**row, "generation": 0}, 3) == 120
    assert added_steps(120, {**row, "replicate": 1}, 3) == 120
    assert added_steps(120, {**row, "protocol": "scratch"}, 3) == 120
    assert added_steps(120, {**row, "rung": 0}, 1) == 120


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 12, 14, 40, 41, 120])
def test_so_few_steps_allow_as_many_rungs_as_the_error_says(steps):
    allowed = [
        rungs for rungs in range(1, 6) if len({rung_steps(steps, rung, rungs) for rung in range(rungs)}) == rungs
    ]
    for rungs in allowed:
        check_rung_steps(steps, rungs)
    said = "one rung" if allowed[-1] == 1 else f"{allowed[-1]} rungs at most"
    for rungs in range(allowed[-1] + 1, 6):
        with pytest.raises(SettingsError, match=f"found {rungs} rungs of 1, 1.*Give {steps} steps {said}"):
            check_rung_steps(steps, rungs)


@pytest.mark.parametrize("strategy", ["nsga2", "surrogate"])
@pytest.mark.parametrize("low", [error, lambda genome: -error(genome)])
def test_in_generations_of_one_some_are_promoted_and_others_are_new(low, strategy):
    search = run(24, low=low, population_size=1, strategy=strategy)
    rows = [row for plan in plans(search)[1:] for row in plan]
    assert len(rows) == 23
    promoted = sum(row["rung"] for row in rows)
    assert len(rows) // 4 <= promoted <= len(rows) - promoted


def test_the_first_candidates_of_all_begin_on_the_highest_rung():
    for rungs in (2, 3):
        first, *others = plans(run(3, rungs=rungs))
        assert [row["rung"] for row in first] == [rungs - 1] * ANCHORS + [0] * (12 - ANCHORS)
        assert any(row["rung"] == 0 for plan in others for row in plan)
    low = run(1, low=lambda genome: error(genome) - 100)
    assert min(low.results()[0].box.ideal["error"], low.results()[0].box.reference["error"]) >= 0


def test_new_candidates_are_on_the_lowest_rung_and_a_third_of_them_goes_on():
    search = run(6, low=error)
    begin, *later = plans(search)
    first = {row["candidate"] for row in begin if row["rung"] == 0}
    for plan in later:
        rungs = [row["rung"] for row in plan]
        assert rungs == sorted(rungs, reverse=True)
        assert sum(rungs) <= 6
        assert all((row["rung"] == 1) == (row["candidate"] in first) for row in plan)
        first |= {row["candidate"] for row in plan}
    promoted = sum(row["rung"] for plan in later for row in plan)
    tried = sum(row["rung"] == 0 for plan in plans(search)[:-1] for row in plan)
    assert promoted == int(tried / 3)
    assert search.results()[-1].fidelity["0"]["share"] == pytest.approx(1 / 3)


def test_nobody_is_promoted_before_one_that_dominates_it():
    search = run(2, low=error, population_size=20)
    chosen = {row["candidate"] for row in plans(search)[1] if row["rung"] == 1}
    first = {row["candidate"]: search.evaluation(row["id"]) for row in plans(search)[0] if row["rung"] == 0}
    values = {name: np.array([item.objectives["error"], item.objectives["cost"]]) for name, item in first.items()}
    assert len(chosen) == 4
    for name in chosen:
        better = {other for other in values if (values[other] <= values[name]).all() and other != name}
        assert better <= chosen


def test_the_front_is_never_that_of_a_low_rung_once_a_higher_one_is_reached():
    search = run(5, low=lambda genome: error(genome) - 100)
    assert search.results()[0].rung == 1
    assert search.results()[0].box is not None
    assert all(item.evaluation.objectives["error"] >= 0 for item in search.front())


def test_the_less_a_rung_tells_the_more_of_it_is_promoted():
    shares = [
        run(6, low=low).results()[-1].fidelity["0"]["share"]
        for low in (error, lambda genome: error(genome) + 4 * noise(genome), lambda genome: -error(genome))
    ]
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.9


def test_the_agreement_on_record_is_that_of_the_pairs():
    search = run(6)
    found = search.results()[-1].fidelity["0"]
    both = [row["candidate"] for plan in plans(search)[1:] for row in plan if row["rung"] == 1]
    low, high = ([search.evaluation(f"{item}.r{rung}.0").objectives["error"] for item in both] for rung in (0, 1))
    assert found["pairs"] == len(both)
    assert found["rank_correlation"] == {"error": pytest.approx(kendalltau(low, high).statistic)}


def test_a_failed_trial_is_not_promoted_and_uses_up_no_place():
    search = evolution(rungs=2, population_size=20, strategy="nsga2", space=DigitSpace(9))
    failed = set()
    for index, trial in enumerate(search.ask(20)):
        if index >= 16:
            search.tell_failure(trial.id, "non-finite loss")
            failed.add(trial.candidate)
        else:
            search.tell(trial.id, {"error": error(trial.genome)})
    promoted = {trial.candidate for trial in search.ask(20) if trial.rung == 1}
    assert len(promoted) == 4
    assert not promoted & failed


def test_three_rungs_are_climbed_one_by_one():
    search = run(7, rungs=3)
    rungs: dict[str, list[int]] = {}
    begin, *later = plans(search)
    for plan in [[row for row in begin if row["rung"] == 0], *later]:
        for row in plan:
            rungs.setdefault(row["candidate"], []).append(row["rung"])
    assert all(seen == list(range(len(seen))) for seen in rungs.values())
    assert max(len(seen) for seen in rungs.values()) == 3


@pytest.mark.parametrize("strategy", ["nsga2", "surrogate"])
def test_a_run_of_several_rungs_is_replayed(tmp_path, strategy):
    whole = run(5, ledger=tmp_path / "whole", strategy=strategy)
    for generation in range(2, 5):
        (tmp_path / "whole" / "generations" / f"{generation:04}" / "result.json").unlink()
    before = tree(tmp_path / "whole")
    again = run(0, ledger=tmp_path / "whole", strategy=strategy)
    assert again.generation == 5
    assert [item.to_json() for item in again.results()] == [item.to_json() for item in whole.results()]
    other = tree(run(5, ledger=tmp_path / "other", strategy=strategy).ledger.path)
    assert {name: other[name] for name in before} == before


class Skipping(NSGA2):
    """Begins on the highest rung."""

    promotes = False

    def propose(self, history, space, rng, generation, n):
        for _ in range(n):
            yield Proposal(space.sample(rng), rung=1)


def test_candidates_that_begin_higher_say_nothing_of_the_rung_below():
    search = run(3, strategy=Skipping())
    assert {row["rung"] for row in plans(search)[1]} == {1}
    assert search.results()[-1].fidelity["0"]["pairs"] == 0


@pytest.mark.parametrize("strategy", ["nsga2", "surrogate"])
def test_promotable_candidates_are_those_below_the_top_in_the_order_of_promotion(strategy):
    search = run(3, strategy=strategy)
    waiting = search.promotable(100)
    promoted = {row["candidate"] for plan in plans(search) for row in plan if row["rung"] == 1}  # and the first ones
    assert waiting
    assert not promoted & set(waiting)
    nexts = [trial.candidate for trial in search.ask(12) if trial.rung == 1]
    assert waiting[: len(nexts)] == nexts


def test_the_surrogate_predicts_the_highest_rung_and_is_not_misled_by_the_level_of_the_lowest():
    search = run(8, low=lambda genome: error(genome) + 50, strategy="surrogate", population_size=10)
    predicted = [row["predicted"]["error"] for plan in plans(search)[3:] for row in plan if "predicted" in row]
    assert predicted
    assert np.median(predicted) < 25


@pytest.mark.parametrize("rungs", [2, 3])
def test_models_learn_from_at_most_as_many_rows_as_are_remembered(rungs):
    search = run(9, rungs=rungs, low=error)
    history = search._history
    kept = remembered(history, 40)
    tried = [rung for candidate in kept for rung in history.rungs(candidate)]
    assert 40 - rungs < len(tried) <= 40
    assert len(Forecaster(history, history.space, kept)._values) == len(tried)
    assert len(set(tried)) == rungs
    assert kept == [name for name in history.ids if name in set(kept)], "in the order asked"
    assert set(history.front[:4]) <= set(kept)
    assert set(history.ids[-5:]) <= set(kept)
    everything = sum(len(history.rungs(candidate)) for candidate in history.ids)
    assert remembered(history, everything) == history.ids


def test_a_small_memory_of_candidates_that_climb_is_learnt_from():
    search = run(9, rungs=3, low=error, strategy=SurrogateSearch(memory=16, pool=60))
    history = search._history
    assert len(remembered(history, 16)) < FEWEST
    assert search.results()[-1].surrogate is not None


def test_nobody_is_tried_on_a_rung_below_one_that_is_reached():
    search = run(5, rungs=3, population_size=20, space=DigitSpace(4), strategy="nsga2")
    highest: dict[str, int] = {}
    for plan in plans(search):
        for row in plan:
            assert row["rung"] >= highest.get(row["candidate"], 0)
            highest[row["candidate"]] = max(row["rung"], highest.get(row["candidate"], 0))


def test_values_of_a_low_rung_are_shifted_and_stretched_as_those_on_both_rungs_say():
    both = [f"{index}" for index in range(FEWEST_PAIRS)]
    high = np.array([0.1, 0.2, 0.5, 0.3])
    names = [*both, *both, "alone", "failed"]
    rungs = np.array([1.0] * 4 + [0.0] * 6)
    values = np.concatenate([high, 2 * high + 7, [2 * 0.4 + 7, np.nan]])
    scaled = as_on_highest(names, rungs, values, feasible=~np.isnan(values))
    assert scaled[:9] == pytest.approx([*high, *high, 0.4])
    assert np.isnan(scaled[9])


@pytest.mark.parametrize("strategy", ["nsga2", "surrogate"])
@pytest.mark.parametrize("shift", [-100, 100])
def test_survivors_are_the_best_by_what_whole_trainings_would_say(strategy, shift):
    """Short trainings seem better than all whole ones, or worse, and have three times the differences."""
    search = run(8, low=lambda genome: 3 * error(genome) + shift, strategy=strategy)
    history = search._history
    pool = list(dict.fromkeys([*search.results()[-2].survivors, *history.candidates_of(7)]))
    assert {history.rung(candidate) for candidate in pool} == {0, 1}
    genomes = [history.genome(candidate) for candidate in pool]
    whole = [[float(f"{error(genome):.12g}"), history.space.costs(genome)["cost"]] for genome in genomes]
    best = elitist_survivors(np.array(whole), np.zeros(len(pool)), 12)
    assert list(history.survivors) == [pool[index] for index in best]


@pytest.mark.parametrize("sign", [1, -1])
def test_values_are_comparable_over_three_rungs_whatever_failed_or_broke_a_constraint(sign):
    """Who failed or is infeasible has values that would spoil the scale of all others."""
    search = evolution(
        objectives=[Objective("score", maximise=sign < 0)], rungs=3, population_size=12, space=DigitSpace(9), seed=5
    )
    for _ in range(12):
        for trial in search.ask(12):
            value = error(trial.genome)
            told = sign * {0: 9 * value - 70, 1: 3 * value + 40, 2: value}[trial.rung]
            if trial.generation and trial.rung and trial.genome[0] == 0:
                search.tell_failure(trial.id, "diverged")
            elif trial.genome[0] == 1:
                search.tell(trial.id, {"score": 1e6}, violations={"memory": 1.0})
            else:
                search.tell(trial.id, {"score": told})
    history = search._history
    assert {history.rung(candidate) for candidate in history.ids} == {0, 1, 2}
    values = dict(zip(history.ids, comparable_values(history, history.ids)[:, 0], strict=True))
    failed = [candidate for candidate in history.ids if history.standing(candidate).failure]
    assert failed
    assert np.isnan([values[candidate] for candidate in failed]).all()
    feasible = [candidate for candidate in history.ids if history.standing(candidate).feasible]
    assert len(feasible) < len(history.ids) - len(failed)
    errors = [error(history.genome(candidate)) for candidate in feasible]
    assert [values[candidate] for candidate in feasible] == pytest.approx(errors)


@pytest.mark.parametrize("shift", [-100, 100])
def test_memory_and_parents_are_the_best_by_what_whole_trainings_would_say(shift):
    history = run(10, low=lambda genome: 3 * error(genome) + shift)._history
    errors = {candidate: error(history.genome(candidate)) for candidate in history.ids}
    costs = {candidate: history.space.costs(history.genome(candidate))["cost"] for candidate in history.ids}
    best = [
        candidate
        for candidate in history.ids
        if not any(
            errors[other] <= errors[candidate]
            and costs[other] <= costs[candidate]
            and (errors[other], costs[other]) != (errors[candidate], costs[candidate])
            for other in history.ids
        )
    ]
    assert set(best) <= set(remembered(history, 40))
    select = _parents(history, Forecaster(history, history.space, history.ids), history.ids, np.random.default_rng(0))
    drawn = Counter(select() for _ in range(2000))
    favourite = min(errors, key=errors.__getitem__)
    assert errors[drawn.most_common(1)[0][0]] == errors[favourite]


@pytest.mark.parametrize(("shift", "rung"), [(-100, 1), (100, 0)])
def test_tournaments_are_held_over_what_whole_trainings_would_say(shift, rung):
    """The winner is on the rung whose values seem worse, in one of some generations at least."""
    search = run(1, low=lambda genome: 3 * error(genome) + shift, strategy=RegularisedEvolution(tournament_size=200))
    history, winners = search._history, []
    for _ in range(11):
        alive = history.survivors
        best = min(alive, key=lambda candidate: error(history.genome(candidate)))
        trials = search.ask(12)
        if history.generations > 3 and {history.rung(candidate) for candidate in alive} == {0, 1}:
            parents = {parent for trial in trials if trial.rung == 0 for parent in trial.parents}
            assert {error(history.genome(parent)) for parent in parents} <= {error(history.genome(best))}
            winners.append(history.rung(best))
        for trial in trials:
            whole = error(trial.genome)
            search.tell(trial.id, {"error": whole if trial.rung else 3 * whole + shift})
    assert rung in winners


def test_rungs_are_led_over_one_by_one():
    third = np.array([0.1, 0.2, 0.5, 0.3])
    names = [*"abcd", *"abcd", *"efgh", *"efgh"]
    rungs = np.repeat([2.0, 1.0, 1.0, 0.0], 4)
    others = np.array([0.7, 0.6, 0.2, 0.9])
    values = np.concatenate([third, 2 * third + 1, 2 * others + 1, 3 * (2 * others + 1) - 1])
    scaled = as_on_highest(names, rungs, values, feasible=np.ones(16) > 0)
    assert scaled == pytest.approx([*third, *third, *others, *others])


def test_what_is_the_same_on_both_rungs_stays_and_few_that_are_almost_equal_stretch_nothing_without_end():
    names = [*"abc", *"abcdefg"]
    rungs = np.array([1.0] * 3 + [0.0] * 7)
    sizes = np.array([1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 5.0, 6.0, 7.0, 8.0])
    assert as_on_highest(names, rungs, sizes, feasible=np.ones(10) > 0) == pytest.approx(sizes)
    names = [*"abcd", *"abcde"]
    rungs = np.array([1.0] * 4 + [0.0] * 5)
    values = np.array([0.3, 0.4, 0.5, 0.6, 1.0, 1.0, 1.0, 1.0 + 1e-9, 1.4])
    assert abs(as_on_highest(names, rungs, values, feasible=np.ones(9) > 0)[-1]) < 5


def test_where_few_were_tried_on_both_rungs_all_of_each_say_how_they_relate():
    high, low = np.array([1.0, 2.0, 3.0]), np.array([10.0, 14.0, 18.0, 22.0, 26.0])
    names = [*"abc", *"cdefg"]
    scaled = as_on_highest(names, np.array([1.0] * 3 + [0.0] * 5), np.concatenate([high, low]), feasible=np.ones(8) > 0)
    assert scaled[:3] == pytest.approx(high)
    assert np.median(scaled[3:]) == pytest.approx(2)
    assert np.abs(scaled[3:] - 2).mean() == pytest.approx(np.abs(high - 2).mean())
    alike = as_on_highest(
        names, np.array([1.0] * 3 + [0.0] * 5), np.array([*high, *[5.0] * 5]), feasible=np.ones(8) > 0
    )
    assert alike[3:] == pytest.approx(2)


def test_nothing_that_errors_cannot_be_is_expected_of_the_best():
    """A third of the training leaves five times the error: differences are stretched as well."""
    search = run(8, low=lambda genome: 5 * error(genome), strategy="surrogate", population_size=10)
    predicted = [row["predicted"]["error"] for plan in plans(search)[3:] for row in plan if "predicted" in row]
    assert predicted
    assert np.mean([value < -0.5 for value in predicted]) < 0.1


def test_models_promote_better_candidates_than_a_noisy_rung_by_itself():
    """Of whom a short training says little; the models know others that are alike."""

    class ByTheRung(SurrogateSearch):
        def order_promotions(self, history, candidates, count):
            return None

    def promoted(strategy, seed):
        noisy = run(
            6, low=lambda genome: error(genome) + 3 * noise(genome), strategy=strategy, seed=seed, population_size=20
        )
        rows = [row for plan in plans(noisy)[2:] for row in plan if row["rung"] == 1]
        return np.mean([noisy.evaluation(row["id"]).objectives["error"] for row in rows])

    gains = [promoted(ByTheRung(), seed) - promoted(SurrogateSearch(), seed) for seed in range(5)]
    assert np.mean(gains) > 0.1
