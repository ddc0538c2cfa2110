"""Figures that set runs side by side: their courses, and their fronts over each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.reporting.figure_style import DASHES, SERIES, Figure, inert, layout
from evodiff.reporting.front_figure import axes
from evodiff.reporting.notation import short, title, with_unit
from evodiff.reporting.statistics import line_of_front

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.reporting.hypervolume import Course
    from evodiff.reporting.view import RunView

SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")


def course_figure(found: Sequence[Course] | None, horizontal: str) -> Figure | None:
    """Return the hypervolume of each run by what was spent, as a Plotly figure; ``None`` where that is not known."""
    if found is None:
        return None
    curves = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": inert(course.name),
            "x": list(course.spent),
            "y": list(course.hypervolume),
            "line": {
                "color": SERIES[index % len(SERIES)],
                "dash": DASHES[index % len(DASHES)],
                "width": 2.2,
                "shape": "hv",
            },
        }
        for index, course in enumerate(found)
    ]
    look = layout(horizontal, "Hypervolume", height=360)
    look["xaxis"]["exponentformat"] = "SI"  # 50G, as the table writes it, and not 50B
    return {"data": curves, "layout": look}


def fronts_figure(views: Sequence[RunView], colours: Sequence[int] | None = None) -> Figure | None:
    """Return the fronts over each other, in the form of ``figures.front_figure``; ``None`` where no run has one.

    ``colours`` number the looks of the runs; without, each has its own.
    """
    if not any(view.front for view in views):
        return None
    found = axes(views[0])
    traces: list[Figure] = []
    for index, view in zip(colours or range(len(views)), views, strict=True):
        colour = SERIES[index % len(SERIES)]
        name = inert(view.name)
        lines = {}
        for horizontal in found:
            for vertical in found:
                if horizontal is vertical or horizontal.objective is None or vertical.objective is None:
                    continue
                points = [
                    (x, y)
                    for item in view.front
                    if (x := horizontal.value(item)) is not None and (y := vertical.value(item)) is not None
                ]
                line = line_of_front(points, horizontal.objective, vertical.objective)
                lines[f"{horizontal.name} {vertical.name}"] = {
                    "x": [x for x, _ in line],
                    "y": [y for _, y in line],
                    "shape": "vh" if horizontal.objective.maximise else "hv",
                }
        style = {"color": colour, "dash": DASHES[index % len(DASHES)], "width": 1.6}
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "line": style,
                "hoverinfo": "skip",
                "showlegend": False,
                "lines": lines,
            }
        )
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "marker": {"color": colour, "symbol": SYMBOLS[index % len(SYMBOLS)], "size": 10},
                "points": {axis.name: [axis.value(item) for item in view.front] for axis in found},
                "errors": {},
                "customdata": [
                    "<br>".join(
                        [f"<b>{short(item.id)}</b>"]
                        + [
                            f"{title(objective)}: {with_unit(item.objectives.get(objective.name), objective.unit)}"
                            for objective in view.objectives
                        ]
                    )
                    for item in view.front
                ],
                "hovertemplate": "%{customdata}<extra></extra>",
            }
        )
    picked = [found[1], found[0]] if len(views[0].objectives) > 1 else [found[-1], found[0]]
    return {
        "data": traces,
        "layout": layout(picked[0].title, picked[1].title, height=520),
        "axes": [{"name": axis.name, "title": axis.title} for axis in found],
        "picked": [axis.name for axis in picked],
        "ranges": {},
    }
