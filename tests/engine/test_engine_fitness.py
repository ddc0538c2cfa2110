"""Fitness in the frozen box, metrics, and when a search has stopped moving."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_space import close, evolution

from evodiff.engine import Evaluation, EvolutionMetrics, Failure, FitnessBox, Objective, diversity_score, plateaued
from evodiff.engine.convergence import convergence_rate, front_hypervolume
from evodiff.engine.fitness import freeze_box

BOX = FitnessBox(ideal={"error": 0.0, "cost": 1.0}, reference={"error": 2.0, "cost": 5.0})
VALUE = st.floats(-10, 10)


def score(box=BOX, **values):
    return box.score(Evaluation(values))


def test_fitness_is_the_share_of_the_box_that_the_candidate_dominates():
    assert score(error=0.0, cost=1.0) == 1.0
    assert score(error=1.0, cost=3.0) == 0.25
    assert score(error=0.5, cost=2.0) == 0.75 * 0.75
    assert score(error=2.0, cost=1.0) == 0.0
    assert score(error=-9.0, cost=3.0) == 0.5


@given(VALUE, VALUE, st.floats(0, 5), st.floats(0, 5))
def test_fitness_lies_in_0_to_1_and_never_falls_as_values_improve(error, cost, better, cheaper):
    before, after = score(error=error, cost=cost), score(error=error - better, cost=cost - cheaper)
    assert 0.0 <= before <= after <= 1.0


def test_infeasible_and_failed_candidates_have_fitness_0_and_untried_ones_none():
    good = {"error": 0.0, "cost": 1.0}
    assert BOX.score(Evaluation(good, violations={"memory": 1e-9})) == 0.0
    assert BOX.score(Evaluation(good, violations={"memory": 0.0})) == 1.0
    assert BOX.score(Evaluation(failure=Failure("crash"))) == 0.0
    assert BOX.score(None) is None


def test_the_box_reflects_the_best_about_the_median_and_leaves_room_to_improve():
    values = np.array([[1.0, 8.0], [2.0, 4.0], [3.0, 2.0], [4.0, 3.0], [99.0, 5.0]])
    box = freeze_box(values, [Objective("error"), Objective("cost")])
    assert box.reference == {"error": 5.0, "cost": 6.0}
    assert box.ideal == {"error": 0.0, "cost": 0.0}  # -3 and -2, but these were never negative


def test_objectives_that_go_below_0_have_an_ideal_below_0():
    box = freeze_box(np.array([[-0.1], [0.1], [0.5]]), [Objective("kid")])
    assert box.reference["kid"] == pytest.approx(0.3)
    assert box.ideal["kid"] == pytest.approx(-0.5)


def test_a_maximised_objective_keeps_its_own_direction():
    box = freeze_box(np.array([[-0.9], [-0.8], [-0.5]]), [Objective("accuracy", maximise=True)])
    assert box.reference["accuracy"] == pytest.approx(0.7)
    assert box.ideal["accuracy"] == pytest.approx(1.1)
    assert box.score(Evaluation({"accuracy": 0.9})) == pytest.approx(0.5)


@given(st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=8))
def test_any_first_generation_makes_a_box_with_a_candidate_inside(points):
    objectives = [Objective("error"), Objective("cost")]
    box = freeze_box(np.array(points), objectives)
    assert all(box.ideal[name] < box.reference[name] for name in ("error", "cost"))
    assert max(score(box, error=error, cost=cost) for error, cost in points) > 0


def test_the_box_is_frozen_after_generation_0():
    results = close(evolution(), 4).results()
    assert {id(result.box) is not None and str(result.box) for result in results} == {str(results[0].box)}


def test_metrics_are_over_the_survivors():
    search = close(evolution(), 3)
    scores = [item.fitness_score for item in search.survivors]
    genomes = [item.genome for item in search.survivors]
    metrics = search.history()[-1]
    assert metrics.generation == 2
    assert metrics.best_fitness == max(scores)
    assert metrics.average_fitness == pytest.approx(np.mean(scores))
    assert metrics.diversity_score == pytest.approx(diversity_score(genomes, search.space.distance))


def test_the_hypervolume_of_a_staircase_in_units_of_the_box():
    front = [{"error": 0.0, "cost": 4.0}, {"error": 1.0, "cost": 3.0}, {"error": 1.5, "cost": 1.0}]
    # of the 2 x 4 box: 2 x 1, then 1 x 1 more, then 0.5 x 2 more
    assert front_hypervolume(front, BOX) == pytest.approx((2 + 1 + 1) / 8)
    assert front_hypervolume([], BOX) == 0.0
    assert front_hypervolume(front, None) == 0.0


def test_diversity_is_the_mean_distance_over_pairs():
    assert diversity_score([0.0, 0.5, 1.0], lambda a, b: abs(a - b)) == pytest.approx(2 / 3)
    assert diversity_score([0.0], lambda a, b: abs(a - b)) == 0.0
    assert diversity_score([], lambda a, b: abs(a - b)) == 0.0


@pytest.mark.parametrize(
    ("hypervolumes", "rate"),
    [
        ([0.5], 0.0),
        ([0.5, 0.75], 0.5),
        ([0.1, 0.4, 0.5, 0.6, 0.8], 1.0),
        ([0.0, 0.0], 0.0),
        ([0.0, 0.3], 1.0),
        ([0.3] * 5, 0.0),
    ],
)
def test_the_convergence_rate_is_the_relative_gain_over_three_generations(hypervolumes, rate):
    assert convergence_rate(hypervolumes) == pytest.approx(rate)


def test_a_plateau_takes_three_generations_without_gain():
    def history(*rates):
        return [EvolutionMetrics(g, 0.5, 0.5, 0.5, rate) for g, rate in enumerate(rates)]

    assert not plateaued(history(0, 0, 0))
    assert plateaued(history(0, 0.5, 0.2, 0.0005))
    assert not plateaued(history(0, 0.5, 0.2, 0.01))
    assert plateaued(history(0, 0.5, 0.2, -0.01)), "the mean of replicates may fall"
    assert plateaued(history(0, 0.5, 0.2, 0.01), tolerance=0.02)
    assert not plateaued(history(0, 0.5, 0.2, 0.01, 0.0), patience=2)
    assert plateaued(history(0, 0.5, 0.2, 0.0, 0.0), patience=2)
