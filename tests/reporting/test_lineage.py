"""The lineage of a front: only its ancestors, in columns by generation, no box on another."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_examples import plain_view

from evodiff.reporting import CandidateView, ObjectiveView, RunView
from evodiff.reporting.lineage import NODE_HEIGHT, NODE_WIDTH, ancestors, lay_out, lineage_svg

SVG = "{http://www.w3.org/2000/svg}"


@st.composite
def families(draw: st.DrawFn) -> list[CandidateView]:
    """Draw candidates whose parents come from earlier generations, some of them unknown."""
    family: list[CandidateView] = []
    for generation in range(draw(st.integers(1, 6))):
        known = [item.id for item in family] or ["elsewhere"]
        for _ in range(draw(st.integers(1, 6))):
            parents = (
                draw(st.lists(st.sampled_from([*known, "run/other"]), max_size=2, unique=True)) if generation else []
            )
            family.append(
                CandidateView(f"{len(family):016x}", generation, "add_layer" if parents else None, tuple(parents))
            )
    return family


@given(families(), st.data())
def test_ancestors_are_closed_and_minimal(family: list[CandidateView], data: st.DataObject) -> None:
    members = data.draw(st.lists(st.sampled_from([item.id for item in family]), min_size=1, max_size=3, unique=True))
    found = {item.id: item for item in ancestors(family, members)}
    known = {item.id for item in family}
    assert set(members) <= set(found)
    for item in found.values():
        assert {parent for parent in item.parents if parent in known} <= set(found)
    wanted = set(members) | {parent for item in found.values() for parent in item.parents}
    assert set(found) <= wanted


@settings(deadline=None)
@given(families())
def test_no_box_lies_on_another_and_every_edge_is_drawn(family: list[CandidateView]) -> None:
    places = lay_out(family)
    assert {node.id for node in places.nodes} == {item.id for item in family}
    for first, second in itertools.combinations(places.nodes, 2):
        assert abs(first.x - second.x) >= NODE_WIDTH or abs(first.y - second.y) >= NODE_HEIGHT
    known = {item.id for item in family}
    assert set(places.edges) == {(parent, item.id) for item in family for parent in item.parents if parent in known}
    for node in places.nodes:
        assert node.x >= 0
        assert node.x + NODE_WIDTH <= places.width
        assert node.y + NODE_HEIGHT <= places.height


@settings(deadline=None)
@given(families())
def test_edges_pass_between_boxes(family: list[CandidateView]) -> None:
    places = lay_out(family)
    for (parent, child), points in places.edges.items():
        for x, y in points:
            for node in places.nodes:
                inside = node.x < x < node.x + NODE_WIDTH and node.y < y < node.y + NODE_HEIGHT
                assert not inside, (parent, child, node)


def test_columns_follow_the_generations() -> None:
    family = [CandidateView("a", 0), CandidateView("b", 2, "norm", ("a",)), CandidateView("c", 5, "norm", ("b",))]
    places = lay_out(family)
    assert [generation for generation, _ in places.columns] == [0, 2, 5]
    x = {node.id: node.x for node in places.nodes}
    assert x["a"] < x["b"] < x["c"]


def test_the_drawing_shows_ancestors_and_marks_front_and_champion(view: RunView) -> None:
    drawing = ElementTree.fromstring(str(lineage_svg(view)))
    marks = {item.get("data-id"): (item.get("class") or "").split() for item in drawing.iter(f"{SVG}g")}
    assert {identifier for identifier, classes in marks.items() if "front" in classes} == {
        item.id for item in view.front
    }
    assert [identifier for identifier, classes in marks.items() if "champion" in classes] == [view.champion]
    assert len(marks) < len(view.candidates)


def test_without_a_front_there_is_no_drawing() -> None:
    assert lineage_svg(plain_view([ObjectiveView("kid")], [{"failure": "diverged"}])) is None


@pytest.mark.parametrize("count", [200])
def test_a_long_run_keeps_a_height_that_can_be_read(count: int) -> None:
    family = [
        CandidateView(f"{index:016x}", index // 20, "norm", (f"{index - 20 + index % 7:016x}",) if index >= 40 else ())
        for index in range(count)
    ]
    places = lay_out(family)
    assert places.height < 20 * 46 + 40 * 14 + 60
