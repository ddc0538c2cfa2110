"""Runs of several rungs: short trainings cost, and only what was trained to the highest rung counts."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_reading import read_page
from report_examples import DIGITS, plain_view, run_search
from rich.console import Console

from evodiff.architecture.cost import training_flops
from evodiff.architecture.genome import ArchitectureGenome
from evodiff.architecture.graph import resolve
from evodiff.engine.candidate import Evaluation
from evodiff.engine.convergence import front_hypervolume
from evodiff.engine.fidelity import added_steps
from evodiff.engine.fitness import FitnessBox
from evodiff.engine.ledger import Ledger
from evodiff.reporting import (
    ObjectiveView,
    RunView,
    TrialView,
    random_arm_from_ledger,
    view_from_ledger,
    write_comparison,
)
from evodiff.reporting.front_distance import best_known_front
from evodiff.reporting.front_figure import front_figure
from evodiff.reporting.highest_rung import bought, expenses
from evodiff.reporting.hypervolume import common_box, courses, final_hypervolumes, hypervolumes_by_generation
from evodiff.reporting.notation import number
from evodiff.reporting.report import report_html
from evodiff.reporting.result import random_arm_table
from evodiff.reporting.statistics import best_random, operator_rows, ranked
from evodiff.reporting.strategies import contest, doubts, strategies
from evodiff.reporting.tables import comparison_tables

ERROR = [ObjectiveView("error")]
GENERATIONS = 5

Row = tuple[dict[str, Any], dict[str, float]]


def rows_of(folder: Path) -> list[Row]:
    """Return the plan's row and the objectives of every trial, in order."""
    ledger = Ledger(folder)
    return [
        (row, dict(ledger.evaluations(generation)[row["id"]].objectives))
        for generation in range(ledger.closed)
        for row in ledger.plan(generation)
    ]


def whole(rows: list[Row]) -> list[dict[str, float]]:
    return [values for row, values in rows if row["rung"] == 1]


def flops_of(row: dict[str, Any]) -> float:
    resolved = resolve(ArchitectureGenome.from_json(row["genome"]), DIGITS)
    return training_flops(resolved, 64) * added_steps(120, row, 2)


def shown(*tables: Any) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*tables)
    return console.export_text()


@pytest.fixture(scope="module", params=[-20.0, 20.0], ids=["short too low", "short too high"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search over two rungs, whose short trainings seem better by far than whole ones, or worse."""
    place = tmp_path_factory.mktemp("rungs") / "search"
    run_search(place, rungs=2, short_by=request.param, generations=GENERATIONS)
    return place


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunView:
    return view_from_ledger(run_search(tmp_path_factory.mktemp("plain") / "plain", generations=GENERATIONS))


def test_short_trainings_were_promoted_and_are_off(folder: Path) -> None:
    rows = rows_of(folder)
    promoted = [row for row, _ in rows if row["rung"] == 1 and row["generation"] > 0]
    assert promoted
    assert {row["candidate"] for row in promoted} <= {row["candidate"] for row, _ in rows if row["rung"] == 0}
    assert all(abs(values["kid"]) > 10 for row, values in rows if row["rung"] == 0)


def test_box_and_hypervolume_are_those_of_whole_trainings(folder: Path, plain: RunView) -> None:
    view, values = view_from_ledger(folder), whole(rows_of(folder))
    box = common_box([view])
    assert box is not None
    assert box.ideal == {name: min(item[name] for item in values) for name in box.ideal}
    assert final_hypervolumes([view]) == [front_hypervolume(values, box)]
    both = common_box([plain, view])
    assert both is not None
    everybody = [*values, *(item.objectives for item in plain.candidates)]
    assert both.ideal == {name: min(item[name] for item in everybody) for name in both.ideal}
    assert final_hypervolumes([plain, view]) == [
        front_hypervolume([item.objectives for item in plain.candidates], both),
        front_hypervolume(values, both),
    ]
    known = best_known_front([view], box)
    expected = np.array([[1 - share for share in box.shares(item)] for item in values]).tolist()
    assert len(known)
    assert all(row in expected for row in known.tolist())


def test_a_value_counts_from_the_trial_on_that_brought_it(folder: Path) -> None:
    view, rows = view_from_ledger(folder), rows_of(folder)
    box = common_box([view])
    assert hypervolumes_by_generation(view, box) == [
        front_hypervolume(whole([item for item in rows if item[0]["generation"] <= generation]), box)
        for generation in range(GENERATIONS)
    ]
    (by_trials,) = courses([view], box, lambda item: 1.0) or []
    assert by_trials.spent == tuple(range(1, len(rows) + 1))
    assert list(by_trials.hypervolume) == [
        front_hypervolume(whole(rows[:done]), box) for done in range(1, len(rows) + 1)
    ]
    (by_compute,) = courses([view], box, lambda item: item.training_flops) or []
    assert by_compute.hypervolume == by_trials.hypervolume
    assert np.diff(by_compute.spent, prepend=0.0) == pytest.approx([flops_of(row) for row, _ in rows])


def test_strategies_are_charged_for_every_trial(folder: Path, plain: RunView) -> None:
    views, rows = [plain, view_from_ledger(folder)], rows_of(folder)
    found = contest(views, strategies(views), "evaluations")
    assert found is not None
    assert found.budget == len(rows) == len(plain.candidates)
    assert found.standings[1].hypervolumes == (final_hypervolumes(views)[1],)
    assert found.bands[1].median[7] == front_hypervolume(whole(rows[:8]), common_box(views))
    by_compute = contest(views, strategies(views), "compute")
    assert by_compute is not None
    assert by_compute.budget == pytest.approx(sum(flops_of(row) for row, _ in rows))
    assert doubts(views, strategies(views)) == []


def test_tables_and_page_show_whole_trainings_and_every_trial(folder: Path, plain: RunView, tmp_path: Path) -> None:
    view, rows = view_from_ledger(folder), rows_of(folder)
    lines = shown(*comparison_tables([plain, view])).splitlines()
    line = next(line for line in lines if line.split()[:1] == ["search"])
    assert line.split()[1] == str(len(rows))
    assert line.split()[3] == number(min(item["kid"] for item in whole(rows)))
    page = read_page(write_comparison([plain, view], tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.data["figures"]["evaluations-figure"]["data"][1]["x"] == list(range(1, len(rows) + 1))
    assert page.data["runs"][1]["hypervolume"] == final_hypervolumes([plain, view])[1]


def test_the_front_is_drawn_through_whole_trainings(folder: Path) -> None:
    figure = front_figure(view_from_ledger(folder))
    (line,) = (trace for trace in figure["data"] if trace.get("name") == "front in these two")
    assert set(line["lines"]["latency_ms kid"]["y"]) <= {item["kid"] for item in whole(rows_of(folder))}


def test_candidates_trained_for_less_are_drawn_apart(folder: Path) -> None:
    view = view_from_ledger(folder)
    drawn = {trace["name"]: trace["points"]["kid"] for trace in front_figure(view)["data"] if "points" in trace}
    values = {rung: [item.objectives["kid"] for item in view.candidates if item.rung == rung] for rung in (0, 1)}
    assert sorted(drawn["trained for less"]) == sorted(values[0])
    assert sorted([*drawn["front"], *drawn["dominated"]]) == sorted(values[1])


def test_the_leaderboard_has_short_trainings_behind_whole_ones(folder: Path) -> None:
    table = ranked(view_from_ledger(folder))
    rungs = [item.rung for item in table]
    assert rungs == sorted(rungs, reverse=True)
    whole_ones = [item.fitness_score or 0.0 for item in table if item.rung == 1 and not item.on_front]
    assert whole_ones == sorted(whole_ones, reverse=True)


def test_children_gain_on_their_parents_where_all_were_trained_to_the_end(folder: Path) -> None:
    view = view_from_ledger(folder)
    box = FitnessBox(**(Ledger(folder).result(GENERATIONS - 1) or {})["box"])
    known = {row["candidate"]: box.score(Evaluation(values)) for row, values in rows_of(folder) if row["rung"] == 1}
    gains: dict[str, list[float]] = {}
    for child in view.candidates:
        if child.parents and {child.id, *child.parents} <= set(known):
            for name in (child.operator or "").split("+"):
                gains.setdefault(name, []).append(known[child.id] - max(known[parent] for parent in child.parents))
    assert 0 < sum(map(len, gains.values())) < sum(item.children for item in operator_rows(view.candidates))
    for row in operator_rows(view.candidates):
        found = gains.get(row.operator, [])
        assert row.compared == len(found)
        assert row.mean_gain == (pytest.approx(float(np.mean(found))) if found else None)
    page = read_page(report_html(view))
    assert "of those that were trained on the highest rung" in page.text


def test_the_front_figure_leaves_short_trainings_out_of_what_it_stretches_to(folder: Path, tmp_path: Path) -> None:
    arm = run_search(tmp_path / "arm", rungs=2, short_by=-20.0, generations=3, strategy="random", seed=1)
    found = view_from_ledger(folder)
    view = replace(found, random_arm=random_arm_from_ledger(arm, beside=folder))
    figure = front_figure(view)
    (drawn,) = (trace for trace in figure["data"] if trace["name"] == "random search")
    values = [item["kid"] for item in whole(rows_of(arm))]
    assert sorted(drawn["points"]["kid"]) == sorted(values)
    low, high = figure["ranges"]["kid"]
    assert -1 < low < min(values)
    assert high < 2


def test_the_random_arm_is_measured_by_its_whole_trainings(folder: Path, tmp_path: Path) -> None:
    short_by = -20.0
    place = run_search(tmp_path / "arm", rungs=2, short_by=short_by, generations=3, strategy="random", seed=1)
    arm, rows = random_arm_from_ledger(place, beside=folder), rows_of(place)
    box = FitnessBox(**(Ledger(folder).result(GENERATIONS - 1) or {})["box"])
    assert [point.hypervolume for point in arm.generations] == [
        front_hypervolume(whole([item for item in rows if item[0]["generation"] <= generation]), box)
        for generation in range(3)
    ]
    view = RunView(
        **{name: getattr(view_from_ledger(folder), name) for name in ("name", "objectives", "candidates")},
        random_arm=arm,
    )
    search, random = shown(random_arm_table(view)).splitlines()[-3:-1]
    for line, told in ((search, rows_of(folder)), (random, rows)):
        assert line.split()[1] == str(len(told))
        assert line.split()[3] == number(min(item["kid"] for item in whole(told)))
    best = best_random(view)
    assert best is not None
    assert best.objectives in whole(rows)


def test_a_run_that_trained_nothing_whole_is_told_apart() -> None:
    short = {"objectives": {"error": 1.0}, "trials": (TrialView(0, 0),)}
    view = plain_view(ERROR, [short], name="short", settings={"rungs": 2})
    assert doubts([view], strategies([view])) == [
        "short has no value of a whole training: its values are those of shorter ones."
    ]
    assert final_hypervolumes([view]) == [1.0]


def test_a_candidate_counts_from_its_first_whole_trial_that_did_not_fail() -> None:
    trials = (TrialView(0, 0), TrialView(2, 1, 1, failed=True), TrialView(3, 2, 1))
    tried = {"objectives": {"error": 1.0}, "rung": 1, "trials": trials}
    fallen = {"failure": "diverged", "rung": 1, "trials": (TrialView(1, 0), TrialView(4, 2, 1, failed=True))}
    view = plain_view(ERROR, [tried, fallen])
    assert [len(bought(expenses(view.candidates)[:done])) for done in range(1, 6)] == [0, 0, 0, 1, 1]


def test_replicates_cost_though_they_bring_no_candidate() -> None:
    twice = (TrialView(0, 0, training_flops=10.0), TrialView(2, 1, training_flops=10.0))
    again = {"objectives": {"error": 1.0}, "training_flops": 20.0, "trials": twice}
    once = {"objectives": {"error": 2.0}, "training_flops": 10.0, "trials": (TrialView(1, 0, training_flops=10.0),)}
    view = plain_view(ERROR, [again, once])
    assert [(item.generation, item.training_flops, item.candidate) for item in expenses(view.candidates)] == [
        (0, 10.0, view.candidates[0]),
        (0, 10.0, view.candidates[1]),
        (1, 10.0, None),
    ]
