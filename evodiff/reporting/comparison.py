"""The page that compares runs: hypervolume by what was spent, in one box, and the fronts over each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evodiff.errors import SettingsError
from evodiff.reporting.comparison_figures import course_figure, fronts_figure
from evodiff.reporting.hypervolume import common_box, courses, final_hypervolumes
from evodiff.reporting.markup import Child, Markup, element
from evodiff.reporting.notation import (
    MISSING,
    axis_title,
    count,
    enumeration,
    number,
    short,
    with_error,
)
from evodiff.reporting.page import chart, data_table, page, section, write_page
from evodiff.reporting.strategies import COSTS, Contest, Strategy, contest, doubts, repeated, strategies
from evodiff.reporting.strategy_sections import (
    HEADINGS,
    bands_figure,
    differences_section,
    distances_figure,
    strategies_section,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evodiff.engine.fitness import FitnessBox
    from evodiff.reporting.figure_style import Figure
    from evodiff.reporting.view import RunView


def write_comparison(views: Sequence[RunView], path: Path | str) -> Path:
    """Write the page that compares two or more runs with the same objectives, and return its path.

    Raises:
        SettingsError: fewer than two runs, or different objectives.
    """
    return write_page(comparison_html(views), path)


def comparison_html(views: Sequence[RunView]) -> str:
    """Return the comparison as HTML; raises as :func:`write_comparison` does.

    Where strategies were run more than once (:mod:`evodiff.reporting.strategies`), their medians are compared, and each
    has a colour; otherwise each run is by itself. Compute counts the planned steps of every trial, also of those that
    failed (``CandidateView.training_flops``).
    """
    if len(views) < 2:
        raise SettingsError(f"Expected two or more runs to compare, found {len(views)}.", remedy="Name another run.")
    box = common_box(views)
    hypervolumes = final_hypervolumes(views)
    found = strategies(views)
    contests = [item for cost in COSTS if (item := contest(views, found, cost))] if repeated(found) else []
    named = [strategy.name for strategy in found] if contests else [view.name for view in views]
    figures = {
        name: figure
        for name, figure in {
            "front-figure": fronts_figure(views, _colours(found) if contests else None),
            **(_bands(contests) if contests else _courses(views, box)),
        }.items()
        if figure is not None
    }
    data: dict[str, Any] = {
        "figures": figures,
        "runs": [
            {"name": view.name, "candidates": len(view.candidates), "hypervolume": hypervolume}
            for view, hypervolume in zip(views, hypervolumes, strict=True)
        ],
        "box": None if box is None else {"ideal": dict(box.ideal), "reference": dict(box.reference)},
    }
    return page(
        " against ".join(named),
        _header(named, _lead(contests[0]) if contests else _lead_of_runs(views, hypervolumes), doubts(views, found)),
        [
            _courses_section(figures),
            _distances_section(figures),
            *([strategies_section(contests), differences_section(contests)] if contests else []),
            _fronts_section(),
            _table_section(views, hypervolumes),
        ],
        data,
    )


def _colours(found: Sequence[Strategy]) -> list[int]:
    """Return for each run the number of its strategy."""
    numbers = {run: number for number, strategy in enumerate(found) for run in strategy.runs}
    return [numbers[run] for run in sorted(numbers)]


def _bands(contests: Sequence[Contest]) -> dict[str, Figure | None]:
    return {
        **{f"{item.cost}-figure": bands_figure(item) for item in contests},
        **{f"{item.cost}-distance-figure": distances_figure(item) for item in contests},
    }


def _courses(views: Sequence[RunView], box: FitnessBox | None) -> dict[str, Figure | None]:
    return {
        "evaluations-figure": course_figure(courses(views, box, lambda item: 1.0), HEADINGS["evaluations"]),
        "compute-figure": course_figure(courses(views, box, lambda item: item.training_flops), HEADINGS["compute"]),
    }


def _header(names: Sequence[str], lead: Sequence[str], doubtful: Sequence[str]) -> Markup:
    said, note = lead
    return element(
        "header",
        element("p", "evodiff comparison", class_="kicker"),
        element("h1", " · ".join(names)),
        element("p", said, class_="lead"),
        element("p", " ".join([*doubtful, note]), class_="note"),
    )


def _lead(found: Contest) -> tuple[str, str]:
    best = max(found.standings, key=lambda item: item.median.value)
    others = [f"{item.strategy.name} {number(item.median.value)}" for item in found.standings if item is not best]
    return (
        f"{best.strategy.name} covers most of the common box by the median of its runs at {found.budget:.0f} "
        f"evaluations: {number(best.median.value)}; {enumeration(others)}.",
        "Look at the differences before you believe it.",
    )


def _lead_of_runs(views: Sequence[RunView], hypervolumes: Sequence[float]) -> tuple[str, str]:
    best = max(range(len(views)), key=lambda index: hypervolumes[index])
    others = [
        f"{view.name} {number(hypervolume)}"
        for index, (view, hypervolume) in enumerate(zip(views, hypervolumes, strict=True))
        if index != best
    ]
    return (
        f"{views[best].name} covers most of the common box: {number(hypervolumes[best])}; {enumeration(others)}.",
        "One run each is an anecdote: repeat with other seeds before you call one way of searching better.",
    )


def _courses_section(figures: dict[str, Figure]) -> Markup:
    return section(
        "hypervolume",
        "Hypervolume",
        "Share of the box from the best to just beyond the worst value that any feasible candidate of these runs has. "
        "Where runs train briefly first, only whole trainings count, and short ones are charged too. "
        "Failed trials are charged for all the steps that were planned for them.",
        _columns(figures, ("evaluations-figure", "compute-figure")),
    )


def _distances_section(figures: dict[str, Figure]) -> Markup | None:
    names = ("evaluations-distance-figure", "compute-distance-figure")
    if not any(name in figures for name in names):
        return None
    return section(
        "distance",
        "Distance to the best known front",
        "IGD+: how far the best front that all runs know together is, on average, from what a run has found, in units "
        "of the box. Smaller is better; 0 is all of that front.",
        _columns(figures, names),
    )


def _columns(figures: dict[str, Figure], names: tuple[str, str]) -> Markup:
    titles = zip(names, ("By evaluations", "By training compute"), strict=True)
    return element(
        "div",
        [element("figure", element("h3", title), chart(name, 360)) for name, title in titles if name in figures],
        class_="columns two",
    )


def _fronts_section() -> Markup:
    picker = element(
        "div",
        element("label", "Across ", element("select", data_axis="x")),
        element("label", "Up ", element("select", data_axis="y")),
        element("label", element("input", type="checkbox", data_focus=True), " stay near the front", hidden=True),
        class_="pickers",
    )
    return section(
        "fronts",
        "Fronts",
        "The front of each run; lines join what is best in the two objectives shown.",
        picker,
        chart("front-figure", 520),
    )


def _table_section(views: Sequence[RunView], hypervolumes: Sequence[float]) -> Markup:
    objectives = views[0].objectives
    rows: list[list[Child]] = []
    for view, hypervolume in zip(views, hypervolumes, strict=True):
        champion = view.candidate(view.champion)
        values = [
            with_error(champion.objectives.get(item.name), champion.standard_errors.get(item.name))
            if champion
            else MISSING
            for item in objectives
        ]
        compute = [item.training_flops for item in view.candidates if item.training_flops is not None]
        rows.append(
            [
                view.name,
                len(view.candidates),
                len(view.failed),
                len(view.front),
                count(sum(compute)) if compute else MISSING,
                number(hypervolume, 4),
                element("code", short(champion.id)) if champion else MISSING,
                *values,
            ]
        )
    head = [
        "Run",
        "Candidates",
        "Failed",
        "On front",
        "Training FLOPs",
        "Hypervolume",
        "Champion",
        *map(axis_title, objectives),
    ]
    return section(
        "runs",
        "Runs",
        "The champion's values stand in the last columns.",
        data_table(head, rows, numeric={1, 2, 3, 4, 5, *range(7, 7 + len(objectives))}),
    )
