"""Problems in closed form have the fronts that theory says, and the engine finds them."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from rich.console import Console

from evodiff.engine.problems import LEVELS, PROBLEMS
from evodiff.engine.testing import check_space
from evodiff.engine.validation import Compared, Yardstick, differences, run_problems
from evodiff.reporting.engine_validation import engine_tables

BY_NAME = {problem.name: problem for problem in PROBLEMS}


@pytest.mark.parametrize("name", BY_NAME)
def test_problems_are_search_spaces(name):
    check_space(BY_NAME[name])


@pytest.mark.parametrize("name", BY_NAME)
def test_nothing_that_is_sampled_dominates_the_true_front(name):
    problem, rng = BY_NAME[name], np.random.default_rng(0)
    front = problem.front()
    near = [tuple(problem.mutate(problem.sample(rng), rng)) for _ in range(400)]
    middle = round(problem.rest * (LEVELS - 1))
    near += [genome[: problem.objectives - 1] + (middle,) * (problem.genes - problem.objectives + 1) for genome in near]
    for genome in near:
        point = np.array(list(problem.values(genome).values()))
        assert not ((point <= front + 1e-9).all(axis=1) & (point < front - 1e-9).any(axis=1)).any()


def test_fronts_are_those_of_the_papers():
    zdt1, zdt2, dtlz2 = (BY_NAME[name].front() for name in ("ZDT1", "ZDT2", "DTLZ2"))
    assert len(zdt1) == LEVELS
    assert np.allclose(zdt1[:, 1], 1 - np.sqrt(zdt1[:, 0]))
    assert np.allclose(zdt2[:, 1], 1 - zdt2[:, 0] ** 2)
    assert np.allclose((dtlz2**2).sum(axis=1), 1)
    assert np.allclose(BY_NAME["DTLZ1"].front().sum(axis=1), 0.5)
    zdt3 = BY_NAME["ZDT3"].front()
    shape = 1 - np.sqrt(zdt3[:, 0]) - zdt3[:, 0] * np.sin(10 * math.pi * zdt3[:, 0])
    assert np.allclose(zdt3[:, 1], shape)
    assert len(zdt3) < LEVELS, "its front has gaps"


def test_the_whole_front_has_the_whole_hypervolume_and_no_distance():
    problem = BY_NAME["ZDT2"]
    yardstick = Yardstick(problem)
    assert yardstick.judge(problem.front()) == pytest.approx((1.0, 0.0))
    share, distance = yardstick.judge(problem.front() + 0.5)
    assert 0 < share < 1
    assert 0 < distance <= 0.5 * math.sqrt(2)
    assert yardstick.judge(np.array([[9.0, 9.0]]))[0] == 0.0


def test_the_default_strategy_is_nearer_to_the_front_than_random_search():
    told = []
    compared = run_problems(
        [BY_NAME["ZDT1"], BY_NAME["DTLZ2"]],
        ["surrogate", "random"],
        seeds=5,
        generations=4,
        progress=lambda *done: told.append(done),
    )
    assert told == [(runs, 20) for runs in range(1, 21)]
    for ours, theirs in zip(compared[::2], compared[1::2], strict=True):
        assert ours.hypervolume.shape == (5, 4)
        assert (np.diff(ours.hypervolume) >= 0).all()
        assert (np.diff(ours.igd_plus) <= 1e-12).all()
        assert ours.last()[0][0] > theirs.last()[0][0]
    found = differences(compared)
    assert [(item.problem, item.strategy) for item in found] == [("ZDT1", "surrogate"), ("DTLZ2", "surrogate")]
    assert found[0].effect == 1.0
    assert found[0].p_value < 0.05
    assert compared[0].convergence().verdict == "too short"  # four generations
    medians, _ = compared[0].medians()
    assert medians[0].tolist() == np.median(compared[0].hypervolume, axis=0).tolist()


def test_what_a_terminal_shows_has_ends_courses_and_convergence():
    shares = np.linspace(0.2, 0.9, 6) + np.array([[0.0], [0.01], [0.02]])
    compared = [
        Compared("ZDT1", "surrogate", shares, 1 - shares, population=4),
        Compared("ZDT1", "random", shares / 2, 2 - shares, population=4),
    ]
    console = Console(width=120, record=True, file=io.StringIO())
    tables = engine_tables(compared)
    for table in tables:
        assert all(any(cell for cell in column.cells) for column in table.columns), "no column is empty"
    assert str(tables[0].title).startswith("After 24 evaluations in generations of 4, 3 seeds")
    console.print(*tables)
    text = console.export_text()
    for shown in ("IGD+", "A12 over random", "0.910 [0.900, 0.920]", "0.210", "still improving: 15 %"):
        assert shown in text
