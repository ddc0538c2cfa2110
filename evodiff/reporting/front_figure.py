"""The figure of all candidates over any two axes, the front among them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from evodiff.reporting.figure_style import CHAMPION, FRONT, MUTED, RANDOM, ZOO, Figure, inert, layout
from evodiff.reporting.highest_rung import highest_rung, on_highest_rung
from evodiff.reporting.notation import axis_title, count, number, operator_title, short, title, with_error
from evodiff.reporting.statistics import line_of_front
from evodiff.reporting.view import CandidateView, ObjectiveView, ReferenceView, RunView

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WORTH_HIDING: Final = 1.5  # the front is shown alone where the rest would stretch an axis by more than this factor


@dataclass(frozen=True)
class Axis:
    """Something candidates can be plotted by. ``objective`` is ``None`` where neither direction is better."""

    name: str
    title: str
    value: Callable[[CandidateView | ReferenceView], float | None]
    objective: ObjectiveView | None = None


def axes(view: RunView) -> list[Axis]:
    """Return the objectives, then parameters and generation."""
    found = [_objective_axis(objective) for objective in view.objectives]
    names = {axis.name for axis in found}
    if "parameters" not in names and any(item.parameters for item in view.candidates):
        found.append(Axis("parameters", "Parameters", lambda item: item.parameters))
    found.append(Axis("generation", "Generation", lambda item: getattr(item, "generation", None)))
    return found


def _objective_axis(objective: ObjectiveView) -> Axis:
    return Axis(objective.name, axis_title(objective), lambda item: item.objectives.get(objective.name), objective)


def front_figure(view: RunView) -> Figure:
    """Return the scatter of all candidates over any two axes.

    Beside ``data`` and ``layout`` it has ``axes`` and the pair ``picked`` at first, and each trace has ``points`` and
    ``errors`` by axis or, for a line, ``lines`` by pair of axes; the page's script puts in the pair that is picked.
    ``ranges`` holds for each axis the stretch around the front, where a few hopeless candidates would squash the rest;
    ``floors`` the noise floor of each objective that has one.
    """
    found = axes(view)
    evaluated = [item for item in view.candidates if item.objectives and item.failure is None]
    infeasible = [item for item in evaluated if not item.feasible]
    whole = on_highest_rung(evaluated)
    dominated = [item for item in whole if not item.on_front]
    highest = highest_rung(evaluated)
    shorter = [item for item in evaluated if item.feasible and not item.on_front and item.rung < highest]
    champion = [item for item in evaluated if item.id == view.champion]
    random_arm = on_highest_rung(view.random_arm.candidates) if view.random_arm else []
    traces = [
        _points(
            "random search",
            random_arm,
            found,
            view,
            {"color": RANDOM, "symbol": "diamond-open", "size": 6, "opacity": 0.55},
        ),
        _line("random search's front", random_arm, found, RANDOM, "dot"),
        _points("infeasible", infeasible, found, view, {"color": MUTED, "symbol": "x-thin-open", "size": 8}),
        _points(
            "trained for less",
            shorter,
            found,
            view,
            {"color": MUTED, "symbol": "circle-open", "size": 6, "opacity": 0.8},
        ),
        _points("dominated", dominated, found, view, {"color": MUTED, "symbol": "circle", "size": 7, "opacity": 0.8}),
        _line("front in these two", whole, found, FRONT, "solid"),
        _points("front", view.front, found, view, {"color": FRONT, "symbol": "circle", "size": 10}, errors=True),
        _points("zoo", view.references, found, view, {"color": ZOO, "symbol": "square", "size": 10}, labels=True),
        _points("champion", champion, found, view, {"color": CHAMPION, "symbol": "star", "size": 18}),
    ]
    default = [found[1], found[0]] if len(view.objectives) > 1 else [found[-1], found[0]]
    return {
        "data": [trace for trace in traces if trace is not None],
        "layout": layout(default[0].title, default[1].title, height=520),
        "axes": [{"name": axis.name, "title": axis.title} for axis in found],
        "picked": [axis.name for axis in default],
        "ranges": {axis.name: stretch for axis in found if (stretch := _stretch(axis, view)) is not None},
        "floors": {name: floor.value for name, floor in view.floors.items()},
    }


def _points(
    name: str,
    items: Sequence[CandidateView] | Sequence[ReferenceView],
    found: Sequence[Axis],
    view: RunView,
    marker: dict[str, Any],
    *,
    errors: bool = False,
    labels: bool = False,
) -> Figure | None:
    if not items:
        return None
    trace: Figure = {
        "type": "scatter",
        "name": name,
        "mode": "markers+text" if labels else "markers",
        "marker": {**marker, "line": {"width": 1.5 if "open" in marker["symbol"] else 1, "color": "var(--card)"}},
        "hovertemplate": "%{customdata}<extra></extra>",
        "customdata": [_hover(item, view) for item in items],
        "points": {axis.name: [axis.value(item) for item in items] for axis in found},
        "errors": {},
    }
    if "open" in marker["symbol"]:
        del trace["marker"]["line"]["color"]
    if labels:
        trace["text"] = [inert(getattr(item, "name", "")) for item in items]
        trace["textposition"] = [("top center", "bottom center")[index % 2] for index in range(len(items))]
        trace["textfont"] = {"size": 11, "color": ZOO}
    if errors:
        trace["errors"] = {
            axis.name: [item.standard_errors.get(axis.name) for item in items]
            for axis in found
            if any(item.standard_errors.get(axis.name) for item in items)
        }
    return trace


def _line(name: str, items: Sequence[CandidateView], found: Sequence[Axis], colour: str, dash: str) -> Figure | None:
    lines: dict[str, Any] = {}
    for horizontal in found:
        for vertical in found:
            if horizontal.objective is None or vertical.objective is None or horizontal is vertical:
                continue
            points = [
                (x, y)
                for item in items
                if (x := horizontal.value(item)) is not None and (y := vertical.value(item)) is not None
            ]
            line = line_of_front(points, horizontal.objective, vertical.objective)
            lines[f"{horizontal.name} {vertical.name}"] = {
                "x": [x for x, _ in line],
                "y": [y for _, y in line],
                # Between two members the better attainable value is that of the worse x.
                "shape": "vh" if horizontal.objective.maximise else "hv",
            }
    if not lines or not items:
        return None
    return {
        "type": "scatter",
        "name": name,
        "mode": "lines",
        "line": {"color": colour, "width": 1.6, "dash": dash},
        "hoverinfo": "skip",
        "showlegend": False,
        "lines": lines,
    }


def _stretch(axis: Axis, view: RunView) -> list[float] | None:
    """Return the range that shows the front, the references and three quarters of the rest; ``None`` if all fits.

    Of an objective it shows also whatever is better than these. The rest are those on the highest rung: short trainings
    may lie anywhere.
    """
    arm = on_highest_rung(view.random_arm.candidates) if view.random_arm else []
    highest = highest_rung(view.candidates)
    evaluated = [item for item in view.candidates if item.failure is None]
    kept = _values(axis, [*view.front, *view.references])
    everyone = _values(axis, [*(item for item in evaluated if item.rung == highest), *arm])
    if not kept or not everyone:
        return None
    everyone = sorted([*everyone, *kept])
    drawn = [*everyone, *_values(axis, evaluated)]
    error = max((item.standard_errors.get(axis.name, 0.0) for item in view.front), default=0.0)
    low = min(min(kept) - error, everyone[len(everyone) // 4])
    high = max(max(kept) + error, everyone[(3 * len(everyone)) // 4])
    if axis.objective is not None:
        low, high = (low, max(high, everyone[-1])) if axis.objective.maximise else (min(low, everyone[0]), high)
    room = 0.08 * (high - low or abs(high) or 1.0)
    if max(drawn) - min(drawn) < WORTH_HIDING * (high - low + 2 * room):
        return None
    return [low - room, high + room]


def _values(axis: Axis, items: Sequence[CandidateView | ReferenceView]) -> list[float]:
    return [value for item in items if (value := axis.value(item)) is not None and math.isfinite(value)]


def _hover(item: CandidateView | ReferenceView, view: RunView) -> str:
    lines = [
        f"{title(objective)}: {with_error(item.objectives[objective.name], item.standard_errors.get(objective.name))}"
        f" {objective.unit}".rstrip()
        for objective in view.objectives
        if objective.name in item.objectives
    ]
    if isinstance(item, ReferenceView):
        head = [f"<b>{inert(item.name)}</b> (zoo)"]
    else:
        parents = f" of {inert(', '.join(map(short, item.parents)))}" if item.parents else ""
        head = [
            f"<b>{inert(short(item.id))}</b>, generation {item.generation}",
            f"{inert(operator_title(item.operator))}{parents}",
        ]
    tail = [f"rung {item.rung}"] if view.rungs else []
    tail += [f"{count(item.parameters)} parameters"] if item.parameters else []
    if item.fitness_score is not None:
        tail.append(f"fitness {number(item.fitness_score)}")
    return "<br>".join([*head, *map(inert, lines), *tail])
