"""What a strategy of one's own can ask: rungs, replicates, protocols, inheritance."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from toy_space import DigitSpace, close, error, evolution, plan_of

from evodiff.engine import NSGA2, Evolution, Proposal, RegularisedEvolution
from evodiff.errors import SettingsError


@dataclass(frozen=True)
class Promoting:
    """Trains the survivors on, on the next rung, beside one replicate of the first and new samples."""

    name = "promoting"
    promotions: int = 2

    def propose(self, history, space, rng, generation, n):
        for candidate in history.survivors[: self.promotions]:
            rung = history.rung(candidate) + 1
            yield Proposal(
                history.genome(candidate)[:], (candidate,), "promotion", rung, 0, "search", (f"{candidate}.r0.0",)
            )
        yield Proposal(history.genome(history.survivors[0]), rung=0, replicate=1)

    def survivors(self, history, size):
        return NSGA2().survivors(history, size)


def tell_all(search, value):
    for trial in search.ask(search.population_size):
        search.tell(trial.id, {"error": value(trial), "cost": 1.0})


def test_a_plan_may_mix_rungs_and_replicates_and_fills_up_with_samples():
    search = evolution(strategy=Promoting(), rungs=2)
    close(search)
    trials = search.ask(6)
    first, second = (item.id for item in search.survivors[:2])
    assert [trial.id for trial in trials[:3]] == [f"{first}.r1.0", f"{second}.r1.0", f"{first}.r0.1"]
    assert [trial.operator for trial in trials] == ["promotion"] * 2 + [None] + ["sample"] * 3
    assert trials[0].inherits_from == (f"{first}.r0.0",)
    assert trials[0].generation == 1
    assert search.ledger.plan(1)[0]["rung"] == 1


def test_a_trial_that_goes_on_keeps_its_seed_and_a_replicate_has_another():
    search = close(evolution(strategy=Promoting(), rungs=2))
    before = {record["candidate"]: record["seed"] for record in search.ledger.plan(0)}
    promoted, _, replicate, *_ = search.ask(6)
    assert promoted.seed == before[promoted.candidate]
    assert replicate.seed != before[replicate.candidate]
    assert 0 <= promoted.seed < 2**53


def test_the_front_is_that_of_the_highest_rung():
    search = evolution(strategy=Promoting(), rungs=2)
    tell_all(search, lambda trial: 1.0 + error(trial.genome))
    promoted = [item.id for item in search.survivors[:2]]
    tell_all(search, lambda trial: 7.0 + promoted.index(trial.candidate) if trial.rung == 1 else 0.0)
    assert [item.id for item in search.front()] == promoted[:1]
    assert search.front()[0].evaluation.objectives["error"] == 7.0
    assert search.results()[-1].rung == 1


def test_a_higher_rung_on_which_everything_failed_does_not_empty_the_front():
    search = evolution(strategy=Promoting(), rungs=2, objectives=["error"])
    for index, trial in enumerate(search.ask(6)):
        search.tell(trial.id, {"error": float(index)})
    third = search.survivors[2].id
    for trial in search.ask(6):
        if trial.rung == 1:
            search.tell_failure(trial.id, "non-finite loss")
        else:
            search.tell(trial.id, {"error": 9.0})
    assert [item.id for item in search.front()] == [third]
    assert search.results()[-1].rung == 0


def test_values_of_replicates_on_one_rung_are_averaged():
    class Repeating(Promoting):
        name = "repeating"

        def propose(self, history, space, rng, generation, n):
            yield Proposal(history.genome(history.survivors[0]), replicate=generation)

    search = evolution(strategy=Repeating(), objectives=["error"])
    for index, trial in enumerate(search.ask(6)):
        search.tell(trial.id, {"error": float(index)})
    best = search.survivors[0].id
    second = search.survivors[1].id
    for trial in search.ask(6):
        search.tell(trial.id, {"error": 6.0 if trial.replicate == 1 else 9.0})
    assert search.candidate(best).evaluation.objectives == {"error": 3.0}
    # a front member fell back, so that one that it had dominated is in front
    assert [item.id for item in search.front()] == [second]
    for trial in search.ask(6)[:1]:
        assert (trial.candidate, trial.replicate) == (second, 2)


def test_a_failed_replicate_does_not_spoil_one_that_succeeded():
    class Repeating(Promoting):
        name = "repeating"

        def propose(self, history, space, rng, generation, n):
            yield Proposal(history.genome(history.survivors[0]), replicate=generation)

    search = evolution(strategy=Repeating(), objectives=["error"])
    for index, trial in enumerate(search.ask(6)):
        search.tell(trial.id, {"error": float(index)})
    best = search.survivors[0].id
    for trial in search.ask(6):
        if trial.replicate:
            search.tell_failure(trial.id, "non-finite loss")
        else:
            search.tell(trial.id, {"error": 9.0})
    assert search.candidate(best).evaluation.objectives == {"error": 0.0}


def test_the_first_genome_seen_with_an_id_is_the_genome_of_that_id():
    class Neutral(DigitSpace):
        """A trailing 2 is neutral here, as a trailing 0 is."""

        def canonical(self, genome):
            return "".join(map(str, genome)).rstrip("02")

    class Reappearing(Promoting):
        name = "reappearing"

        def propose(self, history, space, rng, generation, n):
            yield Proposal([1, 1, 1, 1, 1, 2], rung=1)

    search = evolution(space=Neutral(), warm_start=[[1, 1, 1, 1, 1, 0]], strategy=Reappearing(), rungs=2)
    close(search)
    assert search.ask(1)[0].genome == [1, 1, 1, 1, 1, 0]


def test_a_rung_that_the_run_does_not_have_is_an_error():
    search = close(evolution(strategy=Promoting(), rungs=1))
    with pytest.raises(SettingsError, match="rungs=2"):
        search.ask(1)


def test_a_scratch_trial_is_another_trial_of_its_candidate():
    class FromScratch(Promoting):
        name = "scratch"

        def propose(self, history, space, rng, generation, n):
            yield Proposal(history.genome(history.survivors[0]), protocol="scratch")

    search = close(evolution(strategy=FromScratch()))
    trial = search.ask(1)[0]
    assert trial.id == f"{search.survivors[0].id}.r0.0.scratch"
    assert trial.protocol == "scratch"


def test_a_strategy_of_ones_own_is_frozen_with_its_settings_and_given_on_reopening(tmp_path):
    close(evolution(tmp_path / "run", strategy=Promoting(1), rungs=2))
    with pytest.raises(SettingsError, match=r"strategy\.settings\.promotions"):
        evolution(tmp_path / "run", strategy=Promoting(2), rungs=2)
    with pytest.raises(SettingsError, match="Strategy object"):
        Evolution.open(DigitSpace(), tmp_path / "run")
    assert Evolution.open(DigitSpace(), tmp_path / "run", strategy=Promoting(1)).generation == 1


def test_regularised_evolution_keeps_the_youngest_and_random_search_has_no_parents():
    aging = close(evolution(strategy=RegularisedEvolution(population=9, tournament_size=3)), 4)
    youngest = [trial.partition(".")[0] for generation in (2, 3) for trial in plan_of(aging, generation)]
    assert [item.id for item in aging.survivors] == youngest[-9:]
    sampling = close(evolution(strategy="random"), 3)
    assert {record["operator"] for g in range(3) for record in sampling.ledger.plan(g)} == {"sample"}


def test_regularised_evolution_ages_at_any_size_of_a_generation():
    aging = close(evolution(strategy="regularised"), 4)
    youngest = [trial.partition(".")[0] for generation in (2, 3) for trial in plan_of(aging, generation)]
    assert [item.id for item in aging.survivors] == youngest
    parents = {parent for record in aging.ledger.plan(3) for parent in record["parents"]}
    alive = {trial.partition(".")[0] for generation in (1, 2) for trial in plan_of(aging, generation)}
    assert parents <= alive


def test_a_run_that_froze_numbers_of_its_own_keeps_them_on_reopening(tmp_path):
    close(evolution(tmp_path / "run", strategy=RegularisedEvolution(population=100, tournament_size=25)), 4)
    again = close(Evolution.open(DigitSpace(), tmp_path / "run"))
    assert again.strategy == RegularisedEvolution(population=100, tournament_size=25)
    assert len(again.survivors) == 30
