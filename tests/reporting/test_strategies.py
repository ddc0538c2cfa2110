"""Strategies over seeds: grouped by how they searched, compared at one budget, by closed forms."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_reading import read_page, without_variables
from report_examples import plain_view, run_search
from rich.console import Console

from evodiff.reporting import ObjectiveView, RunView, view_from_ledger, write_comparison
from evodiff.reporting.front_distance import best_known_front, igd_plus
from evodiff.reporting.hypervolume import common_box
from evodiff.reporting.strategies import contest, doubts, repeated, strategies
from evodiff.reporting.strategy_sections import bands_figure, standing_text
from evodiff.reporting.tables import comparison_tables

ERROR = [ObjectiveView("error")]


def run(name: str, strategy: str, seed: int, *errors: float, flops: float = 10.0, **settings: Any) -> RunView:
    rows = [{"objectives": {"error": error}, "training_flops": flops, "on_front": True} for error in errors]
    known = {"strategy": {"name": strategy, "settings": {}}, "seed": seed, **settings}
    return plain_view(ERROR, rows, name=name, settings=known)


def of_seeds(strategy: str, count: int, **settings: Any) -> list[RunView]:
    return [run(f"{strategy}{seed}", strategy, seed, 11.0, float(seed), **settings) for seed in range(count)]


def six(*, flops: float = 10.0) -> list[RunView]:
    """Return three runs of ``new``, each better than each of three runs of ``old``; errors go from 11 to 0."""
    new = [run(f"n{seed}", "new", seed, 11.0, float(seed)) for seed in range(3)]
    return [*new, *(run(f"o{seed}", "old", seed, 10.0, 5.0 + seed, flops=flops) for seed in range(3))]


def test_runs_are_grouped_by_strategy_and_not_by_seed() -> None:
    found = strategies(six())
    assert [(strategy.name, strategy.runs) for strategy in found] == [("new", (0, 1, 2)), ("old", (3, 4, 5))]
    assert repeated(found)
    assert not repeated(strategies(six()[:3]))  # one strategy alone
    assert not repeated(strategies(six()[2:4]))  # one run each


def test_a_size_that_differs_within_a_strategy_parts_it() -> None:
    small, large = (run("a", "new", seed, 1.0, population_size=size) for seed, size in ((0, 8), (1, 16)))
    other = run("b", "old", 0, 1.0, population_size=4)
    names = [strategy.name for strategy in strategies([small, large, other])]
    assert names == ["new, population_size 8", "new, population_size 16", "old"]


def test_runs_that_started_from_another_front_are_no_repetitions_of_those_that_did_not() -> None:
    cold, warm = of_seeds("new", 2, warm_start=None), of_seeds("new", 2, warm_start="0123456789abcdef" * 4)
    found = strategies([*cold, *warm])
    assert [(strategy.name, strategy.runs) for strategy in found] == [
        ("new, warm_start no", (0, 1)),
        ("new, warm_start yes", (2, 3)),
    ]
    assert [strategy.name for strategy in strategies([*warm, *of_seeds("old", 2)])] == ["new", "old"]


@pytest.mark.parametrize("switch", ["inherit", "replicate_ties"])
def test_what_is_on_or_off_parts_a_strategy_and_is_named_where_it_is_on(switch: str) -> None:
    off, on, before = of_seeds("new", 2, **{switch: False}), of_seeds("new", 2, **{switch: True}), of_seeds("new", 2)
    found = strategies([*off, *on, *before])
    assert [(strategy.name, strategy.runs) for strategy in found] == [("new", (0, 1, 4, 5)), (f"new, {switch}", (2, 3))]
    assert [strategy.name for strategy in strategies([*on, *of_seeds("old", 2)])] == [f"new, {switch}", "old"]


def test_the_ledger_tells_what_a_run_had_on(tmp_path: Path) -> None:
    folders = [run_search(tmp_path / "plain"), run_search(tmp_path / "again", replicate_ties=True)]
    folders.append(run_search(tmp_path / "heirs", inherit=True))
    names = [strategy.name for strategy in strategies([view_from_ledger(folder) for folder in folders])]
    assert names == ["nsga2", "nsga2, replicate_ties", "nsga2, inherit"]


def test_runs_that_tell_no_strategy_stand_by_themselves() -> None:
    views = [plain_view(ERROR, [{"objectives": {"error": 1.0}}], name=name) for name in ("a", "b")]
    assert [strategy.name for strategy in strategies(views)] == ["a", "b"]


def test_standings_and_differences_are_closed_forms() -> None:
    views = six()
    found = contest(views, strategies(views), "evaluations")
    assert found is not None
    assert found.budget == 2
    # The box goes from error 0 to a tenth beyond 11.
    expected = [[1 - error / 12.1 for error in errors] for errors in ((0, 1, 2), (5, 6, 7))]
    assert [list(standing.hypervolumes) for standing in found.standings] == [pytest.approx(row) for row in expected]
    assert [standing.median.value for standing in found.standings] == pytest.approx([row[1] for row in expected])
    (difference,) = found.differences
    assert (difference.effect.value, difference.effect.low) == (1.0, 1.0)
    assert difference.p_value == pytest.approx(2 / comb(6, 3))


def points(name: str, strategy: str, seed: int, *rows: tuple[float, float]) -> RunView:
    known = {"strategy": {"name": strategy, "settings": {}}, "seed": seed}
    both = [ObjectiveView("error"), ObjectiveView("accuracy", maximise=True)]
    kept = [{"objectives": {"error": error, "accuracy": accuracy}, "training_flops": 1.0} for error, accuracy in rows]
    return plain_view(both, kept, name=name, settings=known)


def test_distances_are_those_of_the_definition_to_what_all_runs_know() -> None:
    views = [
        points("a0", "a", 0, (8.0, 0.0), (0.0, 5.0)),
        points("a1", "a", 1, (10.0, 0.0), (4.0, 9.0)),
        points("b0", "b", 0, (2.0, 10.0), (8.0, 4.0)),
    ]
    box = common_box(views)
    front = best_known_front(views, box)
    # errors from 0 to 11, accuracies from 10 down to -1; nobody dominates (0, 5) and (2, 10)
    assert sorted(front.tolist()) == [pytest.approx([0.0, 5 / 11]), pytest.approx([2 / 11, 0.0])]

    def distance(rows: list[tuple[float, float]]) -> float:
        scaled = [np.array([error / 11, (10 - accuracy) / 11]) for error, accuracy in rows]
        return float(np.mean([min(np.linalg.norm(np.maximum(row - target, 0)) for row in scaled) for target in front]))

    found = contest(views, strategies(views), "evaluations")
    assert found is not None
    first, second = found.standings
    assert first.distances == pytest.approx((distance([(8, 0), (0, 5)]), distance([(10, 0), (4, 9)])))
    assert second.distances == pytest.approx((distance([(2, 10), (8, 4)]),))
    assert first.median_distance.value == pytest.approx(np.mean(first.distances))
    for band in found.distance_bands:
        assert list(band.median) == sorted(band.median, reverse=True)
    assert igd_plus((), box, front) == pytest.approx(np.mean([np.linalg.norm(1 - target) for target in front]))
    assert igd_plus(views[0].candidates, box, front[:0]) == 0


def test_runs_without_anything_feasible_have_no_distance() -> None:
    failed = [plain_view(ERROR, [{"failure": "non-finite loss"}], name=name) for name in ("a", "b")]
    box = common_box(failed)
    assert igd_plus(failed[0].candidates, box, best_known_front(failed, box)) == 0


def test_whether_runs_still_improve_is_read_from_their_generations() -> None:
    def of_generations(name: str, strategy: str, seed: int, *errors: float) -> RunView:
        rows = [{"objectives": {"error": error}, "generation": index} for index, error in enumerate(errors)]
        known = {"strategy": {"name": strategy, "settings": {}}, "seed": seed}
        return plain_view(ERROR, rows, name=name, settings=known)

    views = [
        *(of_generations(f"m{seed}", "moving", seed, *np.linspace(9, 1, 6).tolist()) for seed in range(2)),
        *(of_generations(f"s{seed}", "still", seed, 10.0, 2.0, 2.0, 2.0, 2.0, 2.0) for seed in range(2)),
    ]
    found = contest(views, strategies(views), "evaluations")
    assert found is not None
    assert [standing.convergence.verdict for standing in found.standings] == ["still improving", "converged"]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*comparison_tables(views))
    text = console.export_text()
    assert "still improving" in text
    assert "converged" in text


def test_the_budget_is_what_every_run_has_spent() -> None:
    longer = run("long", "new", 3, 11.0, 3.0, 0.0, 0.0)
    views = [*six(flops=30.0), longer]
    by_evaluations = contest(views, strategies(views), "evaluations")
    assert by_evaluations is not None
    assert by_evaluations.budget == 2
    assert by_evaluations.standings[0].hypervolumes[-1] == pytest.approx(1 - 3 / 12.1)  # not what came later
    by_compute = contest(views, strategies(views), "compute")
    assert by_compute is not None
    assert by_compute.budget == 20.0
    assert by_compute.standings[1].hypervolumes == (0.0, 0.0, 0.0)  # 20 FLOPs pay for none of its trials


def test_bands_hold_their_median_and_end_at_the_standing() -> None:
    views = six()
    found = contest(views, strategies(views), "compute")
    assert found is not None
    for band, standing in zip(found.bands, found.standings, strict=True):
        assert all(low <= middle <= high for low, middle, high in zip(band.low, band.median, band.high, strict=True))
        assert list(band.median) == sorted(band.median)
        assert (band.median[-1], band.spent[-1]) == (standing.median.value, found.budget)


def test_a_strategy_run_once_has_a_standing_but_no_interval_and_no_difference() -> None:
    views = six()[:4]
    found = contest(views, strategies(views), "evaluations")
    assert found is not None
    assert [len(standing.hypervolumes) for standing in found.standings] == [3, 1]
    assert found.differences == ()
    assert ["[" in standing_text(standing) for standing in found.standings] == [True, False]
    figure = bands_figure(found)
    assert figure is not None
    assert [trace.get("name") for trace in figure["data"]] == [None, "new (3)", "old (1)"]


def test_an_unknown_cost_leaves_the_contest_out() -> None:
    views = six()
    unknown = replace(views[0], candidates=(replace(views[0].candidates[0], training_flops=None),))
    assert contest([unknown, *views[1:]], strategies(views), "compute") is None


def test_what_speaks_against_a_comparison_is_said() -> None:
    views = [*of_seeds("new", 5), *of_seeds("old", 5)]
    assert doubts(views, strategies(views)) == []
    twin = replace(views[1], settings=views[0].settings, digests={"dataset": "1"})
    said = doubts([views[0], twin, *views[2:]], strategies(views))
    assert said == [
        "The runs differ in their dataset: their values do not mean the same.",
        "Runs of new share a seed: they are not independent.",
    ]


@pytest.mark.parametrize(("runs", "held"), [(2, "50%"), (3, "75%"), (4, "88%")])
def test_what_few_runs_cannot_show_is_said_by_closed_forms(runs: int, held: str) -> None:
    views = [*of_seeds("new", runs), *of_seeds("old", 9)]
    assert [text for text in doubts(views, strategies(views)) if "true median" in text] == [
        f"new has {runs} runs: what is called its 95 % interval holds the true median in {held} of cases at most."
    ]
    alone = views[: runs + 1]  # beside a strategy that was run once
    assert [text for text in doubts(alone, strategies(alone)) if text.startswith("old")] == []


@pytest.mark.parametrize(("first", "second", "least"), [(2, 2, "0.33"), (3, 3, "0.1"), (3, 4, "0.057")])
def test_a_test_that_cannot_find_anything_is_said_to_be_one(first: int, second: int, least: str) -> None:
    views = [*of_seeds("new", first), *of_seeds("old", second)]
    (said,) = [text for text in doubts(views, strategies(views)) if "against" in text]
    assert f"p cannot be less than {least} with {first} against {second} runs" in said
    enough = [*of_seeds("new", 4), *of_seeds("old", 4)]
    assert [text for text in doubts(enough, strategies(enough)) if "against" in text] == []


def test_the_page_of_searches_over_seeds_shows_bands_standings_and_differences(tmp_path: Path) -> None:
    views = [
        view_from_ledger(run_search(tmp_path / f"{name}{seed}", strategy=name, seed=seed, generations=2))
        for name in ("nsga2", "random")
        for seed in range(3)
    ]
    path = write_comparison(views, tmp_path / "comparison.html")
    page = read_page(path.read_text(encoding="utf-8"))
    assert {"strategies", "differences", "hypervolume", "distance", "fronts", "runs"} <= set(page.ids)
    assert "nsga2 over random" in page.text
    assert "nsga2 has 3 runs" in page.text
    graph_objects = pytest.importorskip("plotly.graph_objects")
    for name in (f"{cost}-{kind}" for cost in ("evaluations", "compute") for kind in ("figure", "distance-figure")):
        figure = page.data["figures"][name]
        assert [trace.get("name") for trace in figure["data"]] == [None, "nsga2 (3)", None, "random (3)"]
        graph_objects.Figure(without_variables(figure["data"]), without_variables(copy.deepcopy(figure["layout"])))
    colours = {trace["line"]["color"] for trace in page.data["figures"]["front-figure"]["data"] if "line" in trace}
    assert len(colours) == 2
    assert path.read_bytes() == write_comparison(views, tmp_path / "again.html").read_bytes()
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*comparison_tables(views))
    assert "nsga2 over random" in console.export_text()
