"""The report's smaller figures: progress of the search, latency by table and clock, the champion's training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from evodiff.reporting.figure_style import CHAMPION, FRONT, RANDOM, SERIES, ZOO, Figure, inert, layout
from evodiff.reporting.notation import short, title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.reporting.view import GenerationView, RunView

GENERATION_TICKS = 8  # at most so many generations are numbered on an axis


def _curve(
    name: str, x: Sequence[float], y: Sequence[float | None], colour: str, dash: str = "solid", **more: Any
) -> Figure:
    return {
        "type": "scatter",
        "name": inert(name),
        "mode": "lines+markers",
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "width": 2.2, "dash": dash},
        "marker": {"color": colour, "size": 6},
        **more,
    }


def fitness_figure(view: RunView) -> Figure:
    """Return best and average fitness of the survivors by generation."""
    x = [item.generation for item in view.generations]
    return {
        "data": [
            _curve("best", x, [item.best_fitness for item in view.generations], FRONT),
            _curve("average", x, [item.average_fitness for item in view.generations], ZOO, "dash"),
        ],
        "layout": _by_generation(view, "Fitness"),
    }


def diversity_figure(view: RunView) -> Figure:
    """Return the mean distance between survivors by generation."""
    x = [item.generation for item in view.generations]
    curve = _curve("diversity", x, [item.diversity_score for item in view.generations], SERIES[4], showlegend=False)
    return {"data": [curve], "layout": _by_generation(view, "Diversity")}


def hypervolume_figure(view: RunView) -> Figure:
    """Return the hypervolume by evaluations, the random arm's beside it."""
    curves = [_hypervolume(view.name if view.random_arm is None else "evolution", view.generations, FRONT, "solid")]
    if view.random_arm is not None and view.random_arm.generations:
        curves.append(_hypervolume("random search", view.random_arm.generations, RANDOM, "dash"))
    return {"data": curves, "layout": layout("Evaluations", "Hypervolume", height=300)}


def _hypervolume(name: str, generations: Sequence[GenerationView], colour: str, dash: str) -> Figure:
    return _curve(
        name, [item.evaluations for item in generations], [item.hypervolume for item in generations], colour, dash
    )


def _by_generation(view: RunView, vertical: str) -> dict[str, Any]:
    found = layout("Generation", vertical, height=300)
    found["xaxis"] |= {"tick0": 0, "dtick": math.ceil(len(view.generations) / GENERATION_TICKS)}
    found["yaxis"]["rangemode"] = "tozero"
    return found


def latency_figure(view: RunView) -> Figure:
    """Return measured against predicted latency, with the diagonal on which they agree."""
    checks = view.latency_checks
    top = max(max(check.predicted_ms, check.high_ms) for check in checks) * 1.08
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": [check.predicted_ms for check in checks],
        "y": [check.measured_ms for check in checks],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [check.high_ms - check.measured_ms for check in checks],
            "arrayminus": [check.measured_ms - check.low_ms for check in checks],
            "color": FRONT,
            "thickness": 1.2,
        },
        "marker": {
            "size": [15 if check.candidate == view.champion else 9 for check in checks],
            "symbol": ["star" if check.candidate == view.champion else "circle" for check in checks],
            "color": [CHAMPION if check.candidate == view.champion else FRONT for check in checks],
        },
        "customdata": [inert(short(check.candidate)) for check in checks],
        "hovertemplate": "<b>%{customdata}</b><br>table %{x:.3g} ms<br>clock %{y:.3g} ms<extra></extra>",
        "showlegend": False,
    }
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, top],
        "y": [0, top],
        "line": {"color": "var(--muted)", "dash": "dot", "width": 1.2},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    return {"data": [diagonal, points], "layout": layout("Predicted (ms)", "Measured (ms)", height=360)}


def progress_figures(view: RunView) -> dict[str, Figure]:
    """Return, for each value of the champion's final training, its course by step."""
    names = list(dict.fromkeys(name for point in view.champion_progress for name in point.values))
    figures = {}
    for index, name in enumerate(names):
        points = [point for point in view.champion_progress if name in point.values]
        curve = _curve(
            title(name),
            [point.step for point in points],
            [point.values[name] for point in points],
            SERIES[index % len(SERIES)],
            showlegend=False,
        )
        if len(points) > 40:
            curve["mode"] = "lines"
        figures[name] = {"data": [curve], "layout": layout("Training steps", title(name), height=300)}
    return figures
