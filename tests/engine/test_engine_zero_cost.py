"""Zero-cost scores in the prescreen: of a shortlist only, the same on every replay, out of the way when useless."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from toy_space import DigitSpace, close, error, evolution, tree

from evodiff.engine import Evolution, SurrogateSearch
from evodiff.engine import prescreen as prescreen_module
from evodiff.engine.prescreen import SCORED_UP_TO, SHORTLISTED
from evodiff.engine.strategies import describe_strategy, find_strategy
from evodiff.engine.testing import check_space
from evodiff.engine.zero_cost import WEIGHT, ScoreColumns
from evodiff.errors import SettingsError

POPULATION = 12


class ScoredSpace(DigitSpace):
    """Digits whose features say next to nothing, and a score that tells the error; ``asked`` are those scored."""

    def __init__(self, length=8, *, score=error):
        super().__init__(length)
        self.score = score
        self.asked = []

    def features(self, genome):
        return np.array([genome[0], sum(genome)], dtype=np.float64)

    def scores(self, genome):
        self.asked.append(self.canonical(genome))
        return {"score": self.score(genome)}


def noise(genome):
    """Nothing that has to do with the error."""
    return float(np.random.default_rng(genome).random())


def search(space=None, *, ledger=None, seed=3, scores=True):
    return Evolution(
        space or ScoredSpace(),
        objectives=["error", "cost"],
        population_size=POPULATION,
        seed=seed,
        ledger=ledger,
        strategy=SurrogateSearch(scores=scores),
    )


def test_scores_find_better_fronts_where_features_say_little():
    def found(scores):
        runs = [close(search(ScoredSpace(12), seed=seed, scores=scores), 4) for seed in range(3)]
        return [run.results()[-1].hypervolume for run in runs]

    assert all(ours > theirs for ours, theirs in zip(found(True), found(False), strict=True))


def test_the_shortlist_is_bounded_and_every_evaluated_candidate_scored_once():
    space = ScoredSpace()
    run = close(search(space), 3)
    assert len(run._history.ids) == 3 * POPULATION
    space.asked.clear()
    before = len(run._history._scores)
    run.ask(POPULATION)
    assert before < len(run._history._scores) == 3 * POPULATION
    shortlist = space.asked[3 * POPULATION - before :]
    assert len(shortlist) == SHORTLISTED * POPULATION
    planned = {run.space.canonical(trial.genome) for trial in run.pending()}
    assert planned <= set(shortlist)


def test_nobody_is_scored_unless_it_was_asked_for():
    space = ScoredSpace()
    close(search(space, scores=False), 5)
    assert not space.asked


def test_a_space_without_scores_is_searched_as_before(tmp_path):
    plain, scored = (
        evolution(tmp_path / name, strategy=SurrogateSearch(scores=name == "on")) for name in ("off", "on")
    )
    close(plain, 5), close(scored, 5)
    assert [plain.ledger.plan(k) for k in range(5)] == [scored.ledger.plan(k) for k in range(5)]


def test_scores_that_say_nothing_are_mostly_left_out_of_it(monkeypatch):
    class Described(ScoredSpace):
        def features(self, genome):
            return np.eye(3)[genome].ravel()

    used = []
    decide = SurrogateSearch._scored

    def noted(self, *given):
        scored = decide(self, *given)
        used.append(scored is not None)
        return scored

    monkeypatch.setattr(SurrogateSearch, "_scored", noted)
    for seed in range(3):
        close(search(Described(score=noise), seed=seed), 6)
    useless = used[:]
    used.clear()
    close(search(), 5)
    assert len(useless) == 12
    assert sum(useless) <= 4
    assert used == [True] * 3


def test_without_a_gain_plans_are_those_without_scores(monkeypatch):
    monkeypatch.setattr("evodiff.engine.forecast.Forecaster.ranks_better", lambda self, other: False)
    with_scores, without = close(search(), 4), close(search(scores=False), 4)
    assert [with_scores.ledger.plan(k) for k in range(4)] == [without.ledger.plan(k) for k in range(4)]


def test_of_many_evaluations_none_is_scored(monkeypatch):
    monkeypatch.setattr(prescreen_module, "SCORED_UP_TO", 2 * POPULATION)
    space = ScoredSpace()
    run = close(search(space), 3)
    asked = len(space.asked)
    assert asked > 0
    close(run, 3)
    assert len(space.asked) == asked
    assert SCORED_UP_TO >= 10 * POPULATION


def test_a_run_with_scores_that_was_reopened_is_the_same_bytes(tmp_path):
    close(search(ledger=tmp_path / "whole"), 4)
    for _ in range(4):
        close(
            Evolution.open(ScoredSpace(), tmp_path / "parts")
            if (tmp_path / "parts").exists()
            else search(ledger=tmp_path / "parts")
        )
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


def test_plans_hold_what_the_models_that_decided_predicted():
    run = close(search(), 6)
    taus = [result.surrogate["error"]["rank_correlation"] for result in run.results() if result.surrogate]
    plain = close(search(scores=False), 6)
    before = [result.surrogate["error"]["rank_correlation"] for result in plain.results() if result.surrogate]
    assert np.mean(taus) > np.mean(before)


def test_runs_from_before_there_were_scores_open_and_stay_without(tmp_path):
    strategy = {"pool": 600, "rounds": 3, "memory": 1000, "crossover_rate": 0.5, "mutation_rate": 0.5}
    close(search(ledger=tmp_path / "run", scores=False), 3)
    frozen = tmp_path / "run" / "experiment.json"
    content = json.loads(frozen.read_text())
    assert content["strategy"]["settings"] == strategy, "a run without scores freezes what it froze before"
    reopened = Evolution.open(ScoredSpace(), tmp_path / "run")
    assert reopened.strategy.scores is False
    close(reopened, 1)


def test_whether_scores_count_is_frozen_with_the_run(tmp_path):
    close(search(ledger=tmp_path / "run"), 1)
    assert Evolution.open(ScoredSpace(), tmp_path / "run").strategy.scores is True
    with pytest.raises(SettingsError, match=r"strategy\.settings\.scores"):
        search(ledger=tmp_path / "run", scores=False)


@pytest.mark.parametrize("scores", [True, False])
def test_a_described_strategy_is_found_again(scores):
    strategy = SurrogateSearch(scores=scores, pool=50)
    described = json.loads(json.dumps(describe_strategy(strategy)))
    assert find_strategy(described["name"], described["settings"]) == strategy
    assert find_strategy("surrogate") == SurrogateSearch()


def test_scores_that_are_missing_or_no_numbers_are_those_of_the_middle():
    evaluated = [{"a": 1.0, "b": math.nan}, {"a": 3.0}, {"a": 2.0, "b": math.inf}, {"a": math.nan}]
    columns = ScoreColumns(evaluated, weight=2)
    assert columns(evaluated).tolist() == [[1.0, 1.0], [3.0, 3.0], [2.0, 2.0], [2.0, 2.0]]
    assert columns([{"b": 5.0}]).tolist() == [[2.0, 2.0]]
    assert ScoreColumns([{}])([{}, {"a": 1.0}]).shape == (2, 0)
    assert ScoreColumns(evaluated)([{"a": 4.0}]).tolist() == [[4.0] * WEIGHT]


def test_a_search_survives_scores_that_are_no_numbers():
    def sometimes(genome):
        return math.nan if genome[0] == 2 else error(genome)

    run = close(search(ScoredSpace(score=sometimes)), 5)
    assert any(result.surrogate for result in run.results())


def test_the_conformance_suite_checks_scores():
    check_space(ScoredSpace())

    class Endless(ScoredSpace):
        def scores(self, genome):
            return {"score": math.inf}

    class Moody(ScoredSpace):
        def scores(self, genome):
            return {f"score{genome[0]}": 1.0}

    class Fickle(ScoredSpace):
        def scores(self, genome):
            self.asked.append(0)
            return {"score": float(len(self.asked))}

    for space, rule in ((Endless(), "finite"), (Moody(), "same names"), (Fickle(), "must not change")):
        with pytest.raises(AssertionError, match=rule):
            check_space(space)
