"""Figures are valid for Plotly, and the front's line is the front."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_reading import without_variables
from report_examples import plain_view

from evodiff.reporting import CandidateView, GenerationView, ObjectiveView, RandomArm, RunView
from evodiff.reporting.comparison_figures import fronts_figure
from evodiff.reporting.front_figure import front_figure
from evodiff.reporting.report import figures
from evodiff.reporting.statistics import line_of_front

OURS = {"points", "errors", "lines"}
NAMED = {"var(--front)": "#0072b2"}

values = st.integers(-5, 5).map(float)


def test_plotly_accepts_every_figure(view: RunView) -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    found = figures(view)
    both = fronts_figure([view, view])
    assert both is not None
    for figure in [*found.values(), both]:
        traces = [{name: item for name, item in trace.items() if name not in OURS} for trace in figure["data"]]
        graph_objects.Figure(without_variables(traces), without_variables(copy.deepcopy(figure["layout"])))


@given(st.lists(st.tuples(values, values), max_size=12), st.booleans(), st.booleans())
def test_the_line_joins_what_nothing_beats_in_both(
    points: list[tuple[float, float]], maximise_x: bool, maximise_y: bool
) -> None:
    line = line_of_front(points, ObjectiveView("x", maximise_x), ObjectiveView("y", maximise_y))

    def beats(first: tuple[float, float], second: tuple[float, float]) -> bool:
        signs = (-1 if maximise_x else 1, -1 if maximise_y else 1)
        return first != second and all(s * a <= s * b for s, a, b in zip(signs, first, second, strict=True))

    expected = sorted({point for point in points if not any(beats(other, point) for other in points)})
    assert line == expected


def test_a_hopeless_candidate_does_not_squash_the_front() -> None:
    rows = [
        {"objectives": {"kid": 0.01 * (index + 1), "latency_ms": 5.0 - index}, "on_front": True} for index in range(4)
    ]
    rows.append({"objectives": {"kid": 900.0, "latency_ms": 6.0}})
    figure = front_figure(plain_view([ObjectiveView("kid"), ObjectiveView("latency_ms", unit="ms")], rows))
    low, high = figure["ranges"]["kid"]
    assert low < 0.01
    assert 0.04 < high < 1.0
    assert "latency_ms" not in figure["ranges"]


def test_the_range_near_the_front_holds_the_front_and_its_bars(view: RunView) -> None:
    figure = front_figure(view)
    for name, (low, high) in figure["ranges"].items():
        for item in view.front:
            value = item.objectives.get(name)
            if value is not None:
                error = item.standard_errors.get(name, 0.0)
                assert low <= value - error <= value + error <= high


@pytest.mark.parametrize("maximise", [False, True])
def test_the_range_near_the_front_never_hides_what_random_search_found_better(maximise: bool) -> None:
    def quality(value: float) -> float:
        return 1 - value if maximise else value

    def candidate(index: int, value: float, **more: Any) -> CandidateView:
        return CandidateView(f"{index:016x}", 0, objectives={"quality": quality(value)}, **more)

    found = [candidate(0, 1.0, on_front=True), *(candidate(index, 1.0 + 0.01 * index) for index in range(1, 8))]
    arm = RandomArm((candidate(8, 0.2), candidate(9, 900.0)))
    view = RunView("run", (ObjectiveView("quality", maximise),), tuple(found), random_arm=arm)
    low, high = front_figure(view)["ranges"]["quality"]
    assert low <= quality(0.2) <= high
    assert not low <= quality(900.0) <= high


@pytest.mark.parametrize("generations", [1, 2, 9, 100])
def test_generations_are_numbered_by_whole_numbers(generations: int) -> None:
    view = RunView("run", (), generations=tuple(GenerationView(index, index + 1) for index in range(generations)))
    for name in ("fitness-figure", "diversity-figure"):
        step = figures(view)[name]["layout"]["xaxis"]["dtick"]
        assert step == int(step) >= 1
        assert generations / step <= 8


def test_every_pair_of_objectives_has_its_line(view: RunView) -> None:
    figure = front_figure(view)
    line = next(trace for trace in figure["data"] if trace["name"] == "front in these two")
    names = [objective.name for objective in view.objectives]
    assert set(line["lines"]) == {f"{x} {y}" for x, y in itertools.permutations(names, 2)}
