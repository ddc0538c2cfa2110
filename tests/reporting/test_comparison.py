"""Comparing runs: one box for all, the same whichever comes first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from page_reading import LOADING, read_page
from report_examples import plain_view

from evodiff.errors import SettingsError
from evodiff.reporting import ObjectiveView, RunView, write_comparison
from evodiff.reporting.hypervolume import common_box, courses, final_hypervolumes

OBJECTIVES = [ObjectiveView("error"), ObjectiveView("accuracy", maximise=True)]


def run(name: str, *points: tuple[float, float]) -> RunView:
    rows = [{"objectives": {"error": x, "accuracy": y}, "training_flops": 10.0, "on_front": True} for x, y in points]
    return plain_view(OBJECTIVES, rows, name=name)


def test_the_box_spans_all_runs_and_a_tenth_beyond_the_worst() -> None:
    box = common_box([run("a", (0.0, 1.0)), run("b", (10.0, 0.0))])
    assert box is not None
    assert box.ideal == {"error": 0.0, "accuracy": 1.0}
    assert box.reference == pytest.approx({"error": 11.0, "accuracy": -0.1})


def test_hypervolumes_are_closed_forms() -> None:
    first, second = run("a", (0.0, 1.0)), run("b", (10.0, 0.0))
    assert final_hypervolumes([first, second]) == pytest.approx([1.0, (1 / 11) * (0.1 / 1.1)])
    assert final_hypervolumes([second, first]) == pytest.approx([(1 / 11) * (0.1 / 1.1), 1.0])


def test_courses_rise_with_what_was_spent() -> None:
    views = [run("a", (10.0, 0.0), (5.0, 0.5), (0.0, 1.0)), run("b", (7.0, 0.1))]
    found = courses(views, common_box(views), lambda item: item.training_flops)
    assert found is not None
    assert found[0].spent == (10.0, 20.0, 30.0)
    assert list(found[0].hypervolume) == sorted(found[0].hypervolume)
    assert found[0].hypervolume[-1] == pytest.approx(1.0)


def test_a_failed_trial_is_charged_for_its_compute(tmp_path: Path) -> None:
    rows = [
        {"objectives": {"error": 1.0, "accuracy": 0.5}, "training_flops": 10.0, "on_front": True},
        {"failure": "stopped_early", "training_flops": 30.0},
        {"objectives": {"error": 0.5, "accuracy": 0.6}, "training_flops": 10.0, "on_front": True},
    ]
    view = plain_view(OBJECTIVES, rows)
    page = read_page(write_comparison([view, view], tmp_path / "x.html").read_text(encoding="utf-8"))
    assert page.data["figures"]["compute-figure"]["data"][0]["x"] == [10.0, 40.0, 50.0]


def test_an_unknown_cost_leaves_the_course_out() -> None:
    view = run("a", (1.0, 1.0))
    unknown = replace(view, candidates=(replace(view.candidates[0], training_flops=None),))
    assert courses([view, unknown], common_box([view]), lambda item: item.training_flops) is None


def test_long_runs_are_thinned_but_end_at_their_end() -> None:
    view = run("a", *((float(index), float(index)) for index in range(1000)))
    (course,) = courses([view], common_box([view]), lambda item: 1.0) or []
    assert len(course.spent) <= 120
    assert course.spent[-1] == 1000


def test_the_page_holds_both_runs_and_loads_nothing(tmp_path: Path, view: RunView) -> None:
    other = replace(view, name="<b>other</b>")
    page = read_page(write_comparison([view, other], tmp_path / "comparison.html").read_text(encoding="utf-8"))
    assert [item["name"] for item in page.data["runs"]] == [view.name, other.name]
    assert page.data["runs"][0]["hypervolume"] == page.data["runs"][1]["hypervolume"]
    assert set(page.data["figures"]) == {"front-figure", "evaluations-figure", "compute-figure"}
    assert set(page.data["figures"]) <= set(page.ids)
    for _, attributes in page.elements:
        for name in LOADING & attributes.keys():
            assert (attributes[name] or "").startswith(("#", "data:"))
    assert "<b>other</b>" in page.text


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    first = run("a", (1.0, 1.0))
    other = plain_view([ObjectiveView("kid")], [{"objectives": {"kid": 1.0}}], name="b")
    with pytest.raises(SettingsError, match=r"different objectives: expected .*error.* found .*kid.* in b"):
        write_comparison([first, other], tmp_path / "x.html")
    with pytest.raises(SettingsError, match="two or more runs"):
        write_comparison([first], tmp_path / "x.html")


def test_runs_in_which_everything_failed_are_compared_all_the_same(tmp_path: Path) -> None:
    failed = plain_view(OBJECTIVES, [{"failure": "diverged"}], name="failed")
    page = read_page(write_comparison([failed, failed], tmp_path / "x.html").read_text(encoding="utf-8"))
    assert [item["hypervolume"] for item in page.data["runs"]] == [0.0, 0.0]
