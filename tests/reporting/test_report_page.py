"""The page of a run: complete, self-contained, right in its numbers, and safe with any names."""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from page_reading import LOADING, Reader, read_page
from report_examples import digit_images, plain_view

from evodiff.reporting import (
    CandidateView,
    Floor,
    GenerationView,
    ImagesView,
    ObjectiveView,
    RunView,
    ValidationMetric,
    write_report,
)
from evodiff.reporting.report import report_html
from evodiff.reporting.view import RungView

KID = ObjectiveView("kid")
LATENCY = ObjectiveView("latency_ms", unit="ms")
MEMORY = ObjectiveView("memory_mb", unit="MB")
SECTIONS = [
    "front",
    "images",
    "architecture",
    "progress",
    "leaderboard",
    "lineage",
    "noise",
    "operators",
    "latency",
    "training",
    "validation",
    "rivals",
    "robustness",
    "memorisation",
    "failures",
    "provenance",
]
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x00\ud800"


@pytest.fixture(scope="module")
def page(view: RunView) -> Reader:
    return read_page(report_html(view))


def test_nothing_on_the_page_is_loaded_from_elsewhere(page: Reader) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in LOADING & attributes.keys():
            assert (attributes[name] or "").startswith(("#", "data:")), (tag, attributes)
    assert not any("src" in attributes for tag, attributes in page.elements if tag == "script")


def test_the_browser_is_told_to_refuse_the_network(page: Reader) -> None:
    policies = [
        attributes["content"]
        for _, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert "default-src 'none'" in str(policies[0])
    assert "http" not in str(policies[0])


def test_plotly_is_there_exactly_once(page: Reader) -> None:
    assert sum("plotly.js v" in script for script in page.scripts) == 1


def test_every_section_is_there_and_linked(page: Reader) -> None:
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert [identifier for identifier in page.ids if identifier in SECTIONS] == SECTIONS
    assert links == [f"#{identifier}" for identifier in SECTIONS]


def test_no_id_is_used_twice(page: Reader) -> None:
    assert len(page.ids) == len(set(page.ids))


def test_every_figure_has_a_place(page: Reader) -> None:
    assert set(page.data["figures"]) <= set(page.ids)


def test_the_embedded_numbers_are_those_of_the_view(page: Reader, view: RunView) -> None:
    run = page.data["run"]
    assert run["champion"] == view.champion
    assert [item["id"] for item in run["candidates"]] == [item.id for item in view.candidates]
    for found, expected in zip(run["candidates"], view.candidates, strict=True):
        assert found["objectives"] == dict(expected.objectives)
        assert found["standard_errors"] == dict(expected.standard_errors)
        assert found["fitness_score"] == expected.fitness_score
        assert found["parameters"] == expected.parameters
    assert [item["hypervolume"] for item in run["generations"]] == [item.hypervolume for item in view.generations]
    assert run["floors"]["kid"]["value"] == 0.0065
    assert run["validation"]["frechet_distance"]["floor"] == 1.1
    assert len(run["random_arm"]) == len(view.random_arm.candidates if view.random_arm else ())


def test_the_headline_names_the_champion_and_its_rivals(page: Reader, view: RunView) -> None:
    assert view.champion is not None
    assert view.champion[:8] in page.text
    assert "hand-designed network" in page.text
    assert "random search of equal budget" in page.text


def test_the_front_figure_draws_each_candidate_once_by_its_kind(page: Reader, view: RunView) -> None:
    traces = {trace["name"]: trace for trace in page.data["figures"]["front-figure"]["data"] if "points" in trace}
    front, dominated = traces["front"], traces["dominated"]
    evaluated = [item for item in view.candidates if item.failure is None]
    assert front["points"]["kid"] == [item.objectives["kid"] for item in view.front]
    assert front["errors"]["kid"] == [item.standard_errors["kid"] for item in view.front]
    assert len(front["points"]["kid"]) + len(dominated["points"]["kid"]) == len(evaluated)
    assert len(traces["champion"]["points"]["kid"]) == 1
    assert set(traces) >= {"random search", "zoo"}


def test_failures_are_listed_with_their_cause(page: Reader, view: RunView) -> None:
    assert view.failed
    assert "non-finite loss: at step 17" in page.text


def test_hovering_tells_id_operator_parents_and_parameters(page: Reader, view: RunView) -> None:
    front = next(trace for trace in page.data["figures"]["front-figure"]["data"] if trace["name"] == "front")
    child, text = next((item, text) for item, text in zip(view.front, front["customdata"], strict=True) if item.parents)
    assert child.id[:8] in text
    assert (child.operator or "").split("+")[0].replace("_", " ") in text
    assert all(parent[:8] in text for parent in child.parents)
    assert "parameters" in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile: dict[str, Any] = {"operator": HOSTILE, "parents": (HOSTILE,)}
    view = plain_view(
        [KID, ObjectiveView(HOSTILE, unit=HOSTILE)],
        [
            {"id": HOSTILE, "objectives": {"kid": 1.0, HOSTILE: 2.0}, "on_front": True, "fitness_score": 0.5},
            {"objectives": {"kid": 2.0, HOSTILE: 1.0}, "on_front": True, **hostile},
            {"failure": HOSTILE, **hostile},
        ],
        name=HOSTILE,
        champion=HOSTILE,
        settings={HOSTILE: {"nested": HOSTILE}},
        digests={HOSTILE: HOSTILE},
        floors={"kid": Floor(0.1, HOSTILE)},
        warnings=(HOSTILE,),
        telemetry={HOSTILE: HOSTILE},
        commands=((HOSTILE, HOSTILE),),
        validation={HOSTILE: ValidationMetric(1.0, explanation=HOSTILE)},
        images=replace(
            digit_images(1), class_names=(HOSTILE,), real_labels=(HOSTILE,) * 10, generated_labels=(HOSTILE,) * 10
        ),
        generations=(GenerationView(0, 3, 0.1, 0.1, 0.1, 0.1, 0.0),),
    )
    page = read_page(write_report(view, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert not any("alert" in script for script in page.scripts)
    assert sum(tag == "script" for tag, _ in page.elements) == 3
    for figure in page.data["figures"].values():
        for trace in figure["data"]:
            assert "<img" not in "".join([*map(str, trace.get("customdata", [])), trace["name"]])


def test_what_is_not_finite_becomes_null() -> None:
    view = plain_view(
        [KID, LATENCY],
        [
            {"objectives": {"kid": math.nan, "latency_ms": math.inf}, "on_front": True, "fitness_score": math.nan},
            {"objectives": {"kid": 0.5, "latency_ms": 1.0}, "on_front": True, "standard_errors": {"kid": math.nan}},
        ],
        champion=f"{0:016x}",
        generations=(GenerationView(0, 2, math.nan, math.nan, 0.0, -math.inf, None),),
    )
    page = read_page(report_html(view))
    assert page.data["run"]["candidates"][0]["objectives"] == {"kid": None, "latency_ms": None}
    assert "nan" not in page.text.lower().split()


@pytest.mark.parametrize(
    "objectives", [[KID], [KID, LATENCY], [KID, LATENCY, MEMORY], [KID, LATENCY, MEMORY, ObjectiveView("x")]]
)
def test_any_number_of_objectives_can_be_shown(objectives: list[ObjectiveView]) -> None:
    rows = [
        {"objectives": {item.name: float(index + k) for k, item in enumerate(objectives)}, "on_front": index == 0}
        for index in range(4)
    ]
    page = read_page(report_html(plain_view(objectives, rows, champion=f"{0:016x}")))
    figure = page.data["figures"]["front-figure"]
    assert figure["picked"][1] == "kid"
    assert figure["picked"][0] == ("latency_ms" if len(objectives) > 1 else "generation")
    for trace in figure["data"]:
        if "points" in trace:
            assert set(trace["points"]) == {axis["name"] for axis in figure["axes"]}


def test_a_run_in_which_everything_failed_says_so() -> None:
    view = plain_view([KID, LATENCY], [{"failure": "non-finite loss"}, {"failure": "out of memory"}])
    page = read_page(report_html(view))
    assert "all 2 candidates failed" in page.text
    assert "front" not in page.ids
    assert {"leaderboard", "failures", "provenance"} <= set(page.ids)
    assert page.data["figures"] == {}


def test_a_run_without_candidates_has_a_page() -> None:
    page = read_page(report_html(RunView("empty", (KID,))))
    assert "nothing has been evaluated" in page.text


def test_infeasible_candidates_are_no_champion_and_are_marked() -> None:
    view = plain_view([KID], [{"objectives": {"kid": 1.0}, "violations": {"size": 3.0}, "fitness_score": 0.0}])
    page = read_page(report_html(view))
    assert "no candidate meets every constraint" in page.text
    assert "infeasible" in page.text
    assert [trace["name"] for trace in page.data["figures"]["front-figure"]["data"] if "points" in trace] == [
        "infeasible"
    ]


def test_a_genome_that_makes_no_network_leaves_the_page_whole() -> None:
    row = {"objectives": {"kid": 1.0}, "on_front": True, "genome": {"layers": []}}
    page = read_page(report_html(plain_view([KID], [row], champion=f"{0:016x}", shape=(1, 8, 10))))
    assert "This genome cannot be drawn" in page.text


def test_images_without_labels_are_shown_as_grids(view: RunView) -> None:
    images = digit_images(2)
    page = read_page(report_html(replace(view, images=ImagesView(images.real, images.generated), memorisation=None)))
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert all(str(picture["src"]).startswith("data:image/png;base64,") for picture in pictures)
    assert [picture["alt"] for picture in pictures] == ["20 real images", "20 generated images"]


def test_classes_stand_in_their_order_with_real_beside_generated(page: Reader) -> None:
    alternatives = [str(attributes["alt"]) for tag, attributes in page.elements if tag == "img"]
    assert [text for text in alternatives if text.startswith("8 ")] == [
        f"8 {kind}, {digit}" for digit in range(10) for kind in ("real", "generated")
    ]


def pictures_in(page: Reader, alternative: str) -> list[bytes]:
    return [
        base64.b64decode(str(attributes["src"]).removeprefix("data:image/png;base64,"))
        for tag, attributes in page.elements
        if tag == "img" and attributes["alt"] == alternative
    ]


def test_likely_copies_stand_beside_their_training_images_with_the_distance(page: Reader, view: RunView) -> None:
    assert view.memorisation is not None
    pairs = view.memorisation.pairs
    assert pictures_in(page, "generated image") == [pair.generated for pair in pairs]
    assert pictures_in(page, "its nearest training image") == [pair.training for pair in pairs]
    captions = [f"distance {pair.distance:.2f}, ratio {pair.relative_distance:.3f}" for pair in pairs]
    places = [page.text.index(caption) for caption in captions]
    assert places == sorted(places)
    assert page.text.count("counts as memorised") == sum(pair.relative_distance < 0.7 for pair in pairs)


@pytest.mark.parametrize(
    ("copies", "verdict"), [(True, "training images were memorised"), (False, "no sign that training images were")]
)
def test_the_share_of_memorised_images_is_told_with_how_it_was_decided(
    view: RunView, copies: bool, verdict: str
) -> None:
    assert view.memorisation is not None
    memorised = replace(view.memorisation, share=0.125, samples=2000, copies=copies)
    page = read_page(report_html(replace(view, memorisation=memorised)))
    assert "12.5 % of 2,000 generated images count as memorised" in page.text
    assert verdict in page.text
    assert "mean distance to its 3 nearest, is below 0.700" in page.text
    assert page.data["run"]["memorisation"]["copies"] is copies


def test_warnings_stand_at_the_top(view: RunView) -> None:
    html = report_html(replace(view, warnings=("Not exactly reproducible: 1 trial was given up.",)))
    assert html.index("Not exactly reproducible") < html.index('id="front"')


def test_a_report_is_replaced_whole(tmp_path: Path, view: RunView) -> None:
    path = tmp_path / "deep" / "report.html"
    write_report(RunView("first", (KID,)), path)
    assert write_report(view, path) == path
    assert view.name in path.read_text(encoding="utf-8")
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]


def test_sorting_keys_of_the_leaderboard_are_full_numbers(page: Reader, view: RunView) -> None:
    keys = [attributes["data-key"] for tag, attributes in page.elements if tag == "td" and "data-key" in attributes]
    best = view.front[0]
    assert str(best.objectives["kid"]) in keys
    assert best.id in keys


def test_hand_designed_networks_are_compared_on_the_highest_rung_that_they_reached(view: RunView) -> None:
    champion = view.candidate(view.champion)
    assert isinstance(champion, CandidateView)
    rungs = (RungView(0, 40, tried=9), RungView(1, 120, tried=3))
    raised = tuple(replace(item, rung=1) for item in view.candidates)
    short, *others = (replace(item, rung=0, fitness_score=0.1) for item in view.references)
    short = replace(short, fitness_score=0.9)
    below = replace(view, candidates=raised, rungs=rungs, references=(short, *others))
    assert (
        f"{short.name}, the best of the hand-designed networks, which was left on a rung of shorter"
        in read_page(report_html(below)).text
    )
    full = replace(others[0], rung=1)
    page = read_page(report_html(replace(below, references=(short, full, *others[1:]))))
    assert f"{full.name}, the best of the hand-designed networks:" in page.text


def test_the_champion_being_a_hand_designed_network_is_admitted(view: RunView) -> None:
    champion = view.candidate(view.champion)
    assert isinstance(champion, CandidateView)
    itself = replace(view.references[0], objectives=dict(champion.objectives), fitness_score=1.0)
    page = read_page(report_html(replace(view, references=(itself,))))
    assert f"It is the hand-designed network {itself.name} itself" in page.text
