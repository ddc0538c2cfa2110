"""The fitness that is shown of a generation is that of whole trainings; what is stored and replayed stays."""

from __future__ import annotations

import pytest
from toy_space import DigitSpace, close, error, evolution

from evodiff.engine import Evolution
from evodiff.engine.fitness_course import GenerationFitness, fitness_course, with_fitness_shown


def close_generation(search: Evolution, short_by: float) -> None:
    """Close a generation in which short trainings are off."""
    for trial in search.ask(search.population_size):
        search.tell(trial.id, {"error": error(trial.genome) + (short_by if trial.rung == 0 else 0.0)})


@pytest.mark.parametrize("short_by", [-20.0, 20.0])
@pytest.mark.parametrize("strategy", ["nsga2", "surrogate"])
def test_of_several_rungs_the_best_is_the_fittest_of_the_front(short_by, strategy):
    search = evolution(space=DigitSpace(9), rungs=2, population_size=16, strategy=strategy)
    whole = []
    for generation in range(5):
        close_generation(search, short_by)
        whole.append(max(item.fitness_score for item in search.front()))
        (*_, found) = fitness_course(search.ledger)
        assert found.best == whole[-1]
        assert 0 <= found.average <= found.best
        result = search.results()[generation].to_json()
        shown = with_fitness_shown(search.ledger, result)
        assert (shown["metrics"]["best_fitness"], shown["metrics"]["average_fitness"]) == (found.best, found.average)
        assert {**shown, "metrics": 0} == {**result, "metrics": 0}
    assert [item.best for item in fitness_course(search.ledger)] == whole
    if short_by < 0:  # short trainings alone fill the box
        assert max(item.best_fitness for item in search.history()) > max(whole)


def test_of_one_rung_it_is_what_the_results_say():
    search = close(evolution(), 3)
    expected = [GenerationFitness(item.best_fitness, item.average_fitness) for item in search.history()]
    assert fitness_course(search.ledger) == expected
    result = search.results()[1].to_json()
    assert with_fitness_shown(search.ledger, result) == result


def test_before_anything_was_trained_whole_nothing_is_fit():
    search = evolution(rungs=2, population_size=12)
    for trial in search.ask(12):
        if trial.rung:
            search.tell_failure(trial.id, "non-finite loss")
        else:
            search.tell(trial.id, {"error": error(trial.genome)})
    assert fitness_course(search.ledger) == [GenerationFitness(0.0, 0.0)]
