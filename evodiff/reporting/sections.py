"""The parts of a run's page. Each returns markup, or ``None`` where the view holds nothing for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.errors import InvalidGenome
from evodiff.reporting.diagram import diagram_svg
from evodiff.reporting.headline import champion_sentence, comparison_sentences
from evodiff.reporting.lineage import lineage_svg
from evodiff.reporting.markup import Child, Markup, element
from evodiff.reporting.notation import (
    count,
    number,
    short,
    title,
    with_error,
    with_unit,
)
from evodiff.reporting.page import chart, section

if TYPE_CHECKING:
    from evodiff.reporting.view import CandidateView, RunView

DIAGRAMS = 12  # the champion and the fittest others of the front; more would only make the file heavy


def headline(view: RunView) -> Markup:
    """The result in words, and the champion's numbers large."""
    champion = view.candidate(view.champion)
    tiles: list[Child] = []
    if champion is not None:
        tiles = [
            _tile(
                title(objective),
                with_error(champion.objectives[objective.name], champion.standard_errors.get(objective.name)),
                objective.unit,
            )
            for objective in view.objectives
            if objective.name in champion.objectives
        ]
        if champion.parameters is not None and not any(item.name == "parameters" for item in view.objectives):
            tiles.append(_tile("Parameters", count(champion.parameters), ""))
    failed = len(view.failed)
    tally = f"{len(view.candidates)} candidates in {len(view.generations)} generations, {len(view.front)} on the front"
    return element(
        "header",
        element("p", "evodiff report", class_="kicker"),
        element("h1", view.name),
        element("p", champion_sentence(view), class_="lead"),
        [element("p", sentence, class_="versus") for sentence in comparison_sentences(view)],
        element("div", tiles, class_="tiles") if tiles else None,
        element("p", tally + (f", {failed} failed." if failed else "."), class_="note"),
        [element("p", element("strong", "Note: "), text, class_="warning") for text in view.warnings],
        id="headline",
    )


def _tile(name: str, value: str, unit: str) -> Markup:
    return element(
        "div",
        element("span", name, class_="tile-name"),
        element("span", value, element("small", f" {unit}") if unit else None, class_="tile-value"),
        class_="tile",
    )


def front(view: RunView) -> Markup | None:
    """Every candidate over two axes to pick."""
    if not any(item.objectives for item in view.candidates):
        return None
    picker = element(
        "div",
        element("label", "Across ", element("select", data_axis="x")),
        element("label", "Up ", element("select", data_axis="y")),
        element(
            "label",
            element("input", type="checkbox", data_focus=True, checked=True),
            " stay near the front",
            hidden=True,
        ),
        class_="pickers",
    )
    failed = view.failed
    note = f" {len(failed)} failed and cannot be drawn; see failures." if failed else ""
    return section(
        "front",
        "Front",
        "Nothing that was tried is better than a member of the front in every objective at once. Bars are one standard "
        f"error. Point at a mark to see where it came from.{note}",
        picker,
        chart("front-figure", 520),
    )


def progress(view: RunView) -> Markup | None:
    """Fitness, diversity and hypervolume over the run."""
    if not view.generations:
        return None
    figures = [
        ("hypervolume-figure", "Hypervolume", "How much of the box of possible trade-offs the front covers."),
        ("fitness-figure", "Fitness", "Share of that box which a survivor covers alone."),
        ("diversity-figure", "Diversity", "0: all survivors are the same; 1: they share nothing."),
    ]
    return section(
        "progress",
        "Fitness by generation",
        _progress_sentence(view),
        element(
            "div",
            [
                element("figure", element("h3", name), chart(identifier, 300), element("figcaption", caption))
                for identifier, name, caption in figures
            ],
            class_="columns",
        ),
    )


def _progress_sentence(view: RunView) -> str:
    last = view.generations[-1]
    text = f"After {last.evaluations} evaluations the front covers {number(last.hypervolume)} of the box"
    if view.random_arm is not None and view.random_arm.generations:
        arm = view.random_arm.generations[-1]
        text += f"; random search covers {number(arm.hypervolume)} after {arm.evaluations}"
    if last.convergence_rate is not None:
        text += f". Gain over the last three generations: {number(100 * last.convergence_rate, 2)}\u00a0%"
    return text + "."


def architecture(view: RunView) -> Markup | None:
    """Diagrams: the champion's, and those of the rest of the front to pick."""
    champion = view.candidate(view.champion)
    chosen = [champion] if champion else []
    chosen += [item for item in view.front if item.id != view.champion]
    chosen = [item for item in chosen if item.genome is not None][:DIAGRAMS]
    if not chosen or view.shape is None:
        return None
    picker = element(
        "label",
        "Architecture ",
        element(
            "select",
            [element("option", _diagram_name(item, view), value=index) for index, item in enumerate(chosen)],
            data_shows="diagram",
        ),
    )
    return section(
        "architecture",
        "Best architecture",
        "Read down the left and up the right; finer resolutions on top. Point at a box for all its settings.",
        element("div", picker, class_="pickers") if len(chosen) > 1 else None,
        [
            element(
                "div", _diagram(item, view.shape), class_="scroll diagram", hidden=index > 0, data_shown_by="diagram"
            )
            for index, item in enumerate(chosen)
        ],
    )


def _diagram_name(candidate: CandidateView, view: RunView) -> str:
    values = ", ".join(
        f"{title(objective)} {with_unit(candidate.objectives[objective.name], objective.unit)}"
        for objective in view.objectives
        if objective.name in candidate.objectives
    )
    return f"{'★ ' if candidate.id == view.champion else ''}{short(candidate.id)}: {values}"


def _diagram(candidate: CandidateView, shape: tuple[int, int, int]) -> Markup:
    try:
        genome = ArchitectureGenome.from_json(candidate.genome)
        return diagram_svg(genome, ImageShape(*shape), title=f"Architecture {short(candidate.id)}")
    except InvalidGenome as error:
        return element("p", f"This genome cannot be drawn. {error}")


def lineage(view: RunView) -> Markup | None:
    """Ancestors of the front."""
    drawing = lineage_svg(view)
    if drawing is None:
        return None
    return section(
        "lineage",
        "Lineage",
        "The front (blue, the champion ★) and everything it descends from; each child names the operator that made it. "
        "Point at one to follow its line.",
        element("div", drawing, class_="scroll"),
    )
