"""Ask and tell."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from toy_space import DigitSpace, close, error, evolution, plan_of

from evodiff.engine import Candidate, Evolution, Objective
from evodiff.errors import CandidateNotFound, SettingsError


def test_small_asks_fill_a_generation_in_the_order_of_its_plan():
    search = evolution()
    asked = [trial.id for size in (1, 2, 2, 5) for trial in search.ask(size)]
    assert asked == plan_of(search, 0)
    assert len(asked) == 6


def test_the_plan_is_written_whole_at_the_first_ask():
    search = evolution()
    assert search.ledger.plan(0) == []
    search.ask(1)
    assert len(plan_of(search, 0)) == 6


def test_nothing_is_asked_while_the_last_trials_of_a_generation_are_pending():
    search = evolution()
    trials = search.ask(6)
    for trial in trials[:-1]:
        search.tell(trial.id, {"error": error(trial.genome)})
    assert search.ask(6) == []
    assert search.pending() == trials[-1:]
    assert search.close_generation() is None
    search.tell(trials[-1].id, {"error": 1.0})
    assert search.pending() == []
    assert search.generation == 1
    assert len(search.ask(6)) == 6


def test_the_plan_depends_on_closed_generations_and_not_on_the_order_of_telling():
    together, one_by_one = evolution(), evolution()
    close(together, 3)
    for _ in range(3):
        trials = [trial for _ in range(6) for trial in one_by_one.ask(1)]
        for trial in reversed(trials):
            one_by_one.tell(trial.id, {"error": error(trial.genome)})
    together.ask(1), one_by_one.ask(6)
    assert [plan_of(together, g) for g in range(4)] == [plan_of(one_by_one, g) for g in range(4)]


def test_another_seed_plans_other_trials():
    first, second = evolution(seed=1), evolution(seed=2)
    first.ask(1), second.ask(1)
    assert plan_of(first, 0) != plan_of(second, 0)


def test_a_folder_and_memory_decide_the_same(tmp_path):
    in_memory, in_folder = close(evolution(), 4), close(evolution(tmp_path / "run"), 4)
    assert in_memory.results() == in_folder.results()


def test_telling_twice_changes_nothing_and_the_first_of_two_values_wins(tmp_path):
    search = evolution(tmp_path / "run")
    trial = search.ask(6)[0]
    search.tell(trial.id, {"error": 1.0})
    search.tell(trial.id, {"error": 1.0})
    assert not (tmp_path / "run" / "telemetry").exists()
    with pytest.warns(UserWarning, match="told before"):
        search.tell(trial.id, {"error": 2.0})
    assert search.evaluation(trial.id).objectives["error"] == 1.0
    event = json.loads((tmp_path / "run" / "telemetry" / "events.jsonl").read_text())
    assert event["event"] == "second_value"
    assert event["told"]["objectives"]["error"] == 2.0


def test_the_first_value_wins_after_the_generation_closed_too():
    search = evolution()
    trials = search.ask(6)
    for trial in trials:
        search.tell(trial.id, {"error": 1.0})
    assert search.generation == 1
    search.tell(trials[0].id, {"error": 1.0})
    with pytest.warns(UserWarning, match="told before"):
        search.tell(trials[0].id, {"error": 0.5})
    assert search.evaluation(trials[0].id).objectives["error"] == 1.0


def test_what_is_known_without_training_need_not_be_told_and_what_is_told_comes_first():
    search = evolution()
    first, second = search.ask(2)
    search.tell(first.id, {"error": 1.0})
    search.tell(second.id, {"error": 1.0, "cost": 99.0})
    assert search.evaluation(first.id).objectives == {"error": 1.0, "cost": float(sum(first.genome))}
    assert search.evaluation(second.id).objectives["cost"] == 99.0


def test_a_value_that_is_neither_told_nor_known_is_an_error_that_names_it():
    search = evolution()
    trial = search.ask(1)[0]
    with pytest.raises(SettingsError, match="'error' is neither told nor"):
        search.tell(trial.id, {"eror": 1.0})
    assert search.pending() == [trial]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1", None])
def test_a_value_that_is_no_finite_number_is_an_error_that_says_how_to_tell_a_failure(value):
    search = evolution()
    trial = search.ask(1)[0]
    with pytest.raises(SettingsError, match="tell_failure"):
        search.tell(trial.id, {"error": value})
    assert search.pending() == [trial]


def test_numpy_scalars_are_numbers():
    search = evolution()
    trial = search.ask(1)[0]
    search.tell(trial.id, {"error": np.float32(0.5)}, details={"curve": [1.0, 0.5]})
    assert search.evaluation(trial.id).objectives["error"] == 0.5
    assert search.evaluation(trial.id).details == {"curve": [1.0, 0.5]}


def test_details_that_are_no_plain_json_are_refused():
    search = evolution()
    trial = search.ask(1)[0]
    with pytest.raises(SettingsError, match="details"):
        search.tell(trial.id, {"error": 1.0}, details={"curve": np.ones(2)})


def test_a_trial_that_was_never_planned_is_not_found():
    search = evolution()
    search.ask(1)
    for tell in (lambda: search.tell("0" * 16 + ".r0.0", {"error": 1.0}), lambda: search.tell_failure("x", "crash")):
        with pytest.raises(CandidateNotFound, match="ask"):
            tell()


def test_own_failures_are_final_and_infeasible_with_their_cause_on_record():
    search = evolution()
    trials = search.ask(6)
    search.tell_failure(trials[0].id, "non-finite loss", detail="step 7")
    for trial in trials[1:]:
        search.tell(trial.id, {"error": 50.0})
    evaluation = search.evaluation(trials[0].id)
    assert (evaluation.failure.cause, evaluation.failure.detail) == ("non-finite loss", "step 7")
    assert not evaluation.feasible
    assert trials[0].candidate not in {item.id for item in [*search.front(), *search.survivors]}
    assert search.candidate(trials[0].candidate).fitness_score == 0.0
    assert search.results()[0].environment_failures == ()


def test_a_failure_of_another_kind_and_weights_that_are_no_digest_are_refused():
    search = evolution()
    trial = search.ask(1)[0]
    with pytest.raises(SettingsError, match="own or environment"):
        search.tell_failure(trial.id, "crash", kind="cosmic")
    with pytest.raises(SettingsError, match="digest"):
        search.tell(trial.id, {"error": 1.0}, weights=b"weights")
    assert search.pending() == [trial]


def test_a_generation_in_which_everything_failed_closes_and_the_next_is_sampled():
    search = evolution()
    for trial in search.ask(6):
        search.tell_failure(trial.id, "non-finite loss")
    assert search.results()[0].survivors == search.results()[0].front == ()
    assert search.results()[0].box is None
    close(search, 2)
    assert search.results()[1].box is not None
    assert search.front()


def test_environment_failures_leave_a_trial_pending_twice_and_are_final_the_third_time():
    search = evolution()
    trials = search.ask(6)
    for trial in trials[1:]:
        search.tell(trial.id, {"error": 1.0})
    for _ in range(2):
        search.tell_failure(trials[0].id, "crash", detail="signal 9", kind="environment")
        assert search.pending() == [trials[0]]
    search.tell_failure(trials[0].id, "crash", detail="signal 9", kind="environment")
    assert search.generation == 1
    assert search.evaluation(trials[0].id).failure.kind == "environment"
    assert search.results()[0].environment_failures == (trials[0].id,)


def test_attempts_are_counted_across_processes(tmp_path):
    trial = evolution(tmp_path / "run").ask(1)[0]
    for _ in range(3):
        assert evolution(tmp_path / "run").evaluation(trial.id) is None
        evolution(tmp_path / "run").tell_failure(trial.id, "out of memory", kind="environment")
    assert evolution(tmp_path / "run").evaluation(trial.id).failure.cause == "out of memory"


def test_an_attempt_that_twins_tell_of_counts_once(tmp_path):
    trial = evolution(tmp_path / "run").ask(1)[0]
    for number in (1, 2, 3):
        first, twin = evolution(tmp_path / "run"), evolution(tmp_path / "run")
        began = first.attempt(trial.id), twin.attempt(trial.id)
        assert began == (number, number)
        assert first.evaluation(trial.id) is None
        first.tell_failure(trial.id, "time-out", kind="environment", attempt=began[0])
        twin.tell_failure(trial.id, "time-out", detail="later", kind="environment", attempt=began[1])
    assert first.evaluation(trial.id).failure.detail == ""


def test_a_driver_that_died_between_counting_and_storing_leaves_one_more_attempt(tmp_path):
    trial = evolution(tmp_path / "run").ask(1)[0]
    for attempt in (1, 2, 3):
        evolution(tmp_path / "run").ledger.count_attempt(trial.id, attempt, {})
    search = evolution(tmp_path / "run")
    assert search.evaluation(trial.id) is None
    search.tell_failure(trial.id, "crash", kind="environment", attempt=search.attempt(trial.id))
    assert search.evaluation(trial.id).failure.cause == "crash"


def test_a_retry_that_succeeds_gives_nothing_up():
    search = evolution()
    trial = search.ask(6)[0]
    search.tell_failure(trial.id, "time-out", kind="environment")
    search.tell(trial.id, {"error": 1.0})
    search.tell_failure(trial.id, "lost worker", kind="environment")
    assert search.evaluation(trial.id).failure is None
    close(search)
    assert search.results()[0].environment_failures == ()


def test_no_candidate_is_asked_twice_in_a_run():
    search = close(evolution(), 20)
    asked = [record["candidate"] for g in range(20) for record in search.ledger.plan(g)]
    assert len(asked) == 120
    assert len(set(asked)) == len(asked)


def test_a_generation_is_shorter_when_the_space_is_exhausted_and_then_ask_returns_none():
    search = evolution(space=DigitSpace(length=2), population_size=6)  # 9 genomes, 7 candidates: 10 is 1, 20 is 2
    sizes = []
    while trials := search.ask(6):
        sizes.append(len(trials))
        for trial in trials:
            search.tell(trial.id, {"error": 1.0})
    assert sizes == [6, 3]
    assert search.exhausted
    assert search.ask(6) == []
    assert search.generation == 2


def test_generation_0_starts_with_the_warm_start_then_initial_genomes_then_samples():
    class Started(DigitSpace):
        def initial(self, rng):
            return [[1] * 6, [2] * 6]

    search = evolution(space=Started(), warm_start=[[0, 1, 2, 0, 1, 2], [1] * 6])
    trials = search.ask(6)
    assert [trial.genome for trial in trials[:3]] == [[0, 1, 2, 0, 1, 2], [1] * 6, [2] * 6]
    assert [trial.operator for trial in trials] == ["warm_start"] * 2 + ["initial"] + ["sample"] * 3


def test_a_generation_keeps_to_the_space_within_it():
    class Growing(DigitSpace):
        def within(self, generation):
            return Capped(generation)

    class Capped(DigitSpace):
        def __init__(self, generation):
            super().__init__()
            self.cap = 4 + generation

        def sample(self, rng):
            return self.trim(super().sample(rng))

        def mutate(self, genome, rng, operator=None):
            return self.trim(super().mutate(genome, rng, operator))

        def crossover(self, first, second, rng):
            return tuple(self.trim(child) for child in super().crossover(first, second, rng))

        def trim(self, genome):
            kept = list(genome)
            while sum(kept) > self.cap:
                kept[kept.index(max(kept))] -= 1
            return kept

    search = close(evolution(space=Growing()), 4)
    for generation in range(4):
        sums = [sum(record["genome"]["digits"]) for record in search.ledger.plan(generation)]
        assert max(sums) <= 4 + generation


def test_feasibility_goes_first():
    search = evolution(objectives=["error"])
    trials = search.ask(6)
    for index, trial in enumerate(trials):
        search.tell(trial.id, {"error": float(index)}, violations={"memory": 3.0 - index, "time": -1.0})
    ids = [trial.candidate for trial in trials]
    assert [item.id for item in search.front()] == [ids[3]]
    # the feasible by error, then the infeasible by how much they violate
    assert [item.id for item in search.survivors] == [ids[i] for i in (3, 4, 5, 2, 1, 0)]
    assert [item.fitness_score for item in search.survivors[3:]] == [0.0] * 3


def test_objectives_may_be_maximised():
    search = evolution(objectives=[Objective("accuracy", maximise=True), "cost"])
    trials = search.ask(6)
    for index, trial in enumerate(trials):
        search.tell(trial.id, {"accuracy": index / 10, "cost": 1.0})
    assert [item.id for item in search.front()] == [trials[-1].candidate]
    assert search.survivors[0].id == trials[-1].candidate
    scores = [search.candidate(trial.candidate).fitness_score for trial in trials]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0]


def test_the_front_before_a_generation_closes_is_that_of_the_values_told_so_far():
    search = evolution()
    assert search.front() == []
    trials = search.ask(6)
    search.tell(trials[0].id, {"error": 1.0, "cost": 1.0})
    search.tell(trials[1].id, {"error": 2.0, "cost": 2.0})
    assert [item.id for item in search.front()] == [trials[0].candidate]


def test_parents_of_nsga2_are_candidates_that_survived_before():
    search = close(evolution(strategy="nsga2"), 5)
    for generation in range(1, 5):
        survivors = set(search.results()[generation - 1].survivors)
        for record in search.ledger.plan(generation):
            assert record["inherits_from"] is None
            assert set(record["parents"]) <= survivors
            assert record["parents"] or record["operator"] == "sample"


def test_credit_counts_what_each_operator_made():
    search = close(evolution(), 4)
    for generation, result in enumerate(search.results()):
        operators = [name for row in search.ledger.plan(generation) for name in row["operator"].split("+")]
        assert {name: counts["tried"] for name, counts in result.credit.items()} == {
            name: operators.count(name) for name in operators
        }
        assert all(counts["front"] <= counts["survivors"] <= counts["tried"] for counts in result.credit.values())
        assert set(result.credit) <= {"sample", "crossover", *DigitSpace.operators}


def test_a_candidate_is_found_by_a_unique_prefix():
    search = close(evolution())
    trial = search.ask(1)[0]
    assert isinstance(search.candidate(trial.candidate[:12]), Candidate)
    assert search.candidate(trial.candidate).evaluation is None
    assert search.candidate(search.survivors[0].id[:12]) == search.survivors[0]
    with pytest.raises(CandidateNotFound, match="more digits"):
        search.candidate("")
    with pytest.raises(CandidateNotFound, match="found none"):
        search.candidate("zz")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"objectives": []}, "objectives"),
        ({"objectives": ["error", "error"]}, "different names"),
        ({"objectives": "error"}, "objectives"),
        ({"population_size": 0}, "population_size"),
        ({"seed": -1}, "seed"),
        ({"rungs": 1.5}, "rungs"),
        ({"strategy": "magic"}, "nsga2"),
        ({"settings": {"rate": math.nan}}, "plain JSON"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(wrong, said):
    with pytest.raises(SettingsError, match=said):
        evolution(**wrong)


def test_a_warm_start_that_the_space_refuses_is_an_error():
    with pytest.raises(ValueError, match="6 digits"):
        evolution(warm_start=[[9]])


@pytest.mark.parametrize("strategy", ["surrogate", "nsga2", "random", "regularised"])
def test_every_strategy_improves_on_generation_0(strategy):
    search = Evolution(DigitSpace(8), objectives=["error", "cost"], population_size=10, strategy=strategy)
    close(search, 8)
    first, last = search.results()[0], search.results()[-1]
    assert last.hypervolume > first.hypervolume
    assert last.box == first.box


def test_nsga2_finds_more_than_random_search_at_equal_budget():
    def found(strategy):
        searches = [
            close(Evolution(DigitSpace(10), objectives=["error", "cost"], seed=seed, strategy=strategy), 8)
            for seed in range(3)
        ]
        return sum(search.results()[-1].hypervolume for search in searches)

    assert found("nsga2") > found("random")
