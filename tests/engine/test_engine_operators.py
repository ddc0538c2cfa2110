"""Which mutation is tried, what it knows, and what keeps a population apart: options of the strategies."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from toy_space import DigitSpace, close, error, evolution, rewrite, tree

from evodiff.engine import NSGA2, Evolution, RegularisedEvolution, SurrogateSearch
from evodiff.engine.credit import DECAY, PRIOR_TRIALS, operator_gains, operator_shares
from evodiff.engine.diversity import diversity_score, refreshment
from evodiff.engine.options import VariationOptions, frozen_options, option, options_before
from evodiff.engine.strategies import STRATEGIES, describe_strategy, find_strategy
from evodiff.engine.variation import Mutator
from evodiff.errors import SettingsError

RNG = np.random.default_rng


def closed(**credit):
    """Return a closed generation in which each operator had (tried, survivors, front)."""
    names = ("tried", "survivors", "front")
    return SimpleNamespace(credit={name: dict(zip(names, counts, strict=True)) for name, counts in credit.items()})


def test_an_operator_gains_what_its_children_became_the_latest_most_and_drawn_to_the_mean():
    results = [closed(change=(4, 2, 2), swap=(4, 0, 0)), closed(change=(2, 2, 0), sample=(9, 9, 9))]
    gains = operator_gains(results, ["change", "swap", "reverse"])
    # half a point for a survivor, another half on the front
    change, swap = (1 + DECAY * 2, 2 + DECAY * 4), (0.0, DECAY * 4)
    mean = (change[0] + swap[0]) / (change[1] + swap[1])
    assert gains == pytest.approx(
        {
            name: (gained + PRIOR_TRIALS * mean) / (tried + PRIOR_TRIALS)
            for name, (gained, tried) in {"change": change, "swap": swap, "reverse": (0.0, 0.0)}.items()
        }
    )


def test_shares_add_up_keep_their_floor_and_follow_the_gains():
    results = [closed(change=(20, 20, 20), swap=(20, 0, 0), reverse=(20, 10, 0))]
    shares = operator_shares(results, ["change", "swap", "reverse"], 0.3)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= 0.1
    assert shares["change"] > shares["reverse"] > shares["swap"]
    gains = operator_gains(results, list(shares))
    greedy = operator_shares(results, list(shares), 0.0)
    assert greedy["change"] / greedy["swap"] == pytest.approx(gains["change"] / gains["swap"])


@pytest.mark.parametrize(("results", "floor"), [([], 0.3), ([closed(change=(5, 0, 0))], 0.3), ([], 1.0)])
def test_before_anything_was_gained_and_at_the_highest_floor_all_are_alike(results, floor):
    assert operator_shares(results, ["change", "swap"], floor) is None
    assert operator_shares([closed(change=(5, 5, 5))], ["change", "swap"], 1.0) is None


def test_mutations_are_drawn_by_their_shares():
    history = SimpleNamespace(results=[closed(change=(20, 20, 20), swap=(20, 0, 0), reverse=(20, 10, 0))])

    class Marking(DigitSpace):
        def mutate(self, genome, rng, operator=None):
            return [*genome, operator]

    mutant = Mutator(history, Marking(), RNG(0), VariationOptions(operator_floor=0.2))
    drawn = Counter(mutant([1], ())[1] for _ in range(6000))
    expected = operator_shares(history.results, DigitSpace.operators, 0.2)
    assert {name: count / 6000 for name, count in drawn.items()} == pytest.approx(expected, abs=0.02)


def test_an_operator_that_changes_nothing_makes_room_for_the_others():
    history = SimpleNamespace(results=[closed(change=(20, 20, 20), swap=(20, 0, 0), reverse=(20, 0, 0))])

    class Stuck(DigitSpace):
        def mutate(self, genome, rng, operator=None):
            return [2, *genome[1:]] if operator == "swap" else genome

    mutant = Mutator(history, Stuck(), RNG(0), VariationOptions(operator_floor=0.1))
    assert {mutant([1, 1], ())[1] for _ in range(50)} == {"swap"}
    assert mutant([2, 1], ()) == ([2, 1], None)


class Telling(DigitSpace):
    """Its informed mutations say what they were told, and change the digit that the details name."""

    def __init__(self, length=6):
        super().__init__(length)
        self.told = []

    def mutate_informed(self, genome, rng, operator, details):
        self.told.append((tuple(genome), details.get("place")))
        child = list(genome)
        child[details["place"]] = int((child[details["place"]] + rng.integers(1, 3)) % 3)
        return child


def tell_places(search, generations):
    for _ in range(generations):
        for trial in search.ask(search.population_size):
            search.tell(trial.id, {"error": error(trial.genome)}, details={"place": sum(trial.genome) % 6})
    return search


def test_informed_mutations_are_told_what_the_evaluation_of_the_parent_found():
    space = Telling()
    search = tell_places(evolution(space=space, strategy=RegularisedEvolution(informed=1.0)), 4)
    assert space.told
    assert all(place == sum(genome) % 6 for genome, place in space.told)
    # a child is its parent but for the digit that the parent's details named
    for record in search.ledger.plan(3):
        (parent,) = record["parents"]
        before, after = search.candidate(parent).genome, record["genome"]["digits"]
        assert [place for place in range(6) if before[place] != after[place]] == [sum(before) % 6]


def test_informed_mutations_are_as_often_as_the_option_says_and_no_others_know_anything():
    space = Telling()
    search = tell_places(evolution(space=space), 1)
    mutant = Mutator(search._history, space, RNG(1), VariationOptions(informed=0.5))
    parent = search.survivors[0]
    space.told.clear()
    for _ in range(1000):
        mutant(parent.genome, (parent.id,))
    assert len(space.told) == pytest.approx(500, abs=60)
    space.told.clear()
    mutant(parent.genome, ()), mutant(parent.genome, ("another/0123456789abcdef",))
    never = Mutator(search._history, space, RNG(1), VariationOptions())
    never(parent.genome, (parent.id,))
    assert space.told == []


def test_a_space_without_informed_mutations_has_the_plain_ones():
    plans = [close(evolution(strategy=NSGA2(informed=informed)), 3).ledger.plan(2) for informed in (0.0, 1.0)]
    assert plans[0] == plans[1]


def alike(history, factor):
    """Return a history whose last survivors have ``factor`` times the diversity of the first."""
    first = history.results[0]
    metrics = replace(first.metrics, diversity_score=factor * first.metrics.diversity_score)
    history.results.append(replace(first, generation=1, metrics=metrics))
    return history


@pytest.mark.parametrize(("factor", "floor", "count"), [(0.4, 0.5, 2), (0.5, 0.5, 0), (0.1, 0.0, 0), (0.9, 1.0, 2)])
def test_a_quarter_is_sampled_where_the_survivors_are_less_apart_than_the_floor(factor, floor, count):
    history = alike(close(evolution())._history, factor)
    assert len(refreshment(history, history.space, RNG(0), 8, floor=floor)) == count


def test_what_is_sampled_is_far_from_the_survivors_and_from_each_other():
    history = alike(close(evolution(population_size=4))._history, 0.1)
    found = refreshment(history, history.space, RNG(0), 8, floor=0.5)
    survivors = [history.genome(name) for name in history.survivors]
    nearest = [min(history.space.distance(item.genome, other) for other in survivors) for item in found]
    rng = RNG(0)
    drawn = [history.space.sample(rng) for _ in range(10)]
    distances = [min(history.space.distance(genome, other) for other in survivors) for genome in drawn]
    assert nearest[0] == max(distances)
    assert found[0].genome != found[1].genome
    assert {item.operator for item in found} == {"sample"}


@pytest.mark.parametrize("kind", [NSGA2, SurrogateSearch])
def test_a_population_under_the_floor_is_refreshed(kind):
    search = close(evolution(strategy=kind(diversity_floor=1.0), population_size=8, space=DigitSpace(8)), 6)
    assert search.results()[-1].metrics.diversity_score < search.results()[0].metrics.diversity_score
    assert [trial.operator for trial in search.ask(8)[:2]] == ["sample", "sample"]


def test_diversity_is_the_mean_distance_of_pairs():
    assert diversity_score([0, 1, 3], lambda a, b: abs(a - b) / 3) == pytest.approx((1 + 3 + 2) / 9)
    assert diversity_score([7], lambda a, b: 1.0) == 0


@pytest.mark.parametrize(("growing", "largest"), [(True, 5), (False, 12)])
def test_the_cap_on_early_generations_can_be_lifted(growing, largest):
    class Capped(DigitSpace):
        def within(self, generation):
            limited = Capped(self.length)
            limited.sample = lambda rng: [*(min(digit, 1) for digit in self.sample(rng)[:5]), 0]
            return limited

    search = evolution(space=Capped(), strategy=NSGA2(growing=growing), population_size=40)
    sums = [sum(trial.genome) for trial in search.ask(40)]
    assert (max(sums) > 5) is not growing
    assert max(sums) <= largest


@pytest.mark.parametrize(
    "wrong",
    [{"operator_floor": -0.1}, {"operator_floor": "low"}, {"informed": 2}, {"informed": True}, {"growing": 1}],
)
def test_options_that_make_no_sense_are_refused(wrong):
    for kind in (NSGA2, SurrogateSearch, RegularisedEvolution):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            kind(**wrong)
    with pytest.raises(SettingsError, match="diversity_floor"):
        NSGA2(diversity_floor=7)


@pytest.mark.parametrize(
    ("kind", "wrong", "expected"),
    [
        *[(SurrogateSearch, {"pool": value}, "an integer of at least 1") for value in (0, -5, 3.5, None, True)],
        (SurrogateSearch, {"rounds": 0}, "an integer of at least 1"),
        *[(SurrogateSearch, {"memory": value}, "an integer of at least 16") for value in (0, 8, 15, None)],
        (SurrogateSearch, {"scores": 3}, "true or false"),
        *[
            (kind, {name: value}, "a number from 0 to 1")
            for kind in (SurrogateSearch, NSGA2)
            for name in ("crossover_rate", "mutation_rate")
            for value in (7, -1, None, float("nan"))
        ],
        *[
            (RegularisedEvolution, {name: value}, "an integer of at least 1")
            for name in ("population", "tournament_size")
            for value in (0, -3, 2.5)
        ],
    ],
)
def test_an_option_out_of_its_range_is_refused_before_anything_is_trained(kind, wrong, expected):
    ((name, value),) = wrong.items()
    with pytest.raises(SettingsError, match=f"^{name}: expected {expected}, found {value}"):
        kind(**wrong)


def test_options_at_the_ends_of_their_ranges_are_taken():
    SurrogateSearch(pool=1, rounds=1, memory=16, crossover_rate=0, mutation_rate=1)
    NSGA2(crossover_rate=1, mutation_rate=0.0)
    RegularisedEvolution(population=1, tournament_size=1)
    RegularisedEvolution(population=None, tournament_size=None)


ALL_ON = {"operator_floor": 0.3, "informed": 0.5, "growing": False}


@pytest.mark.parametrize(
    "strategy",
    [
        NSGA2(**ALL_ON, diversity_floor=0.9),
        SurrogateSearch(**ALL_ON, diversity_floor=0.9, pool=100),
        RegularisedEvolution(**ALL_ON),
    ],
    ids=lambda strategy: strategy.name,
)
def test_a_run_with_every_option_goes_on_the_same(strategy, tmp_path):
    settings = {"strategy": strategy, "population_size": 10}
    tell_places(evolution(tmp_path / "whole", space=Telling(), **settings), 5)
    for _ in range(5):
        tell_places(evolution(tmp_path / "parts", space=Telling(), **settings), 1)
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")
    by_name = Evolution.open(Telling(), tmp_path / "parts")
    assert by_name.strategy == strategy


def test_a_run_froze_the_same_before_there_were_options():
    frozen = {"crossover_rate": 0.9, "mutation_rate": 0.5}
    assert describe_strategy(NSGA2(operator_floor=1.0)) == {"name": "nsga2", "settings": frozen}
    assert describe_strategy(NSGA2(operator_floor=0.3)) == {
        "name": "nsga2",
        "settings": {**frozen, "operator_floor": 0.3},
    }


@dataclass(frozen=True)
class Later(NSGA2):
    """A strategy whose option is on for new runs."""

    name = "later"
    bold: bool = option(True, before=False)


def test_a_run_that_froze_no_option_has_what_was_before_it(tmp_path, monkeypatch):
    monkeypatch.setitem(STRATEGIES, "later", Later)
    assert frozen_options(Later())["bold"] is True
    assert "bold" not in frozen_options(Later(bold=False))
    assert options_before(Later)["bold"] is False
    assert find_strategy("later") == Later()
    close(evolution(tmp_path / "old", strategy=Later(bold=False)))
    for search in (Evolution.open(DigitSpace(), tmp_path / "old"), evolution(tmp_path / "old", strategy="later")):
        assert search.strategy == Later(bold=False)
    close(evolution(tmp_path / "new", strategy="later"))
    assert Evolution.open(DigitSpace(), tmp_path / "new").strategy == Later()


def test_the_name_of_a_strategy_means_the_settings_on_record(tmp_path):
    close(evolution(tmp_path / "run", strategy=NSGA2(crossover_rate=0.2)))
    assert evolution(tmp_path / "run", strategy="nsga2").strategy == NSGA2(crossover_rate=0.2)
    with pytest.raises(SettingsError, match=r"strategy\.settings\.crossover_rate"):
        evolution(tmp_path / "run", strategy=NSGA2())


def test_a_setting_that_no_strategy_has_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="boldness"):
        find_strategy("nsga2", {"boldness": 1})
    close(evolution(tmp_path / "run", strategy="nsga2"))
    frozen = json.loads((tmp_path / "run" / "experiment.json").read_text())["strategy"]
    rewrite(tmp_path / "run" / "experiment.json", strategy={**frozen, "settings": {"boldness": 1}})
    with pytest.raises(SettingsError, match="version of evodiff that wrote it"):
        Evolution.open(DigitSpace(), tmp_path / "run")
