"""The figures of a contest: KID of every network, seed by seed, under each budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evodiff.pipeline.rivals import BUDGETS, Budget
from evodiff.reporting.figure_style import CHAMPION, FRONT, ZOO, Figure, inert, layout

if TYPE_CHECKING:
    from evodiff.reporting.rivals_view import RivalsView, RivalView

_ROW_HEIGHT = 30  # pixels of a network


def figure_id(budget: Budget) -> str:
    """Return the id of the place of a budget's figure."""
    return f"rivals-{budget.replace('_', '-')}"


def figure_height(view: RivalsView) -> int:
    """Return the height of a figure in pixels."""
    return 110 + _ROW_HEIGHT * len(view.networks)


def rivals_figures(view: RivalsView) -> dict[str, Figure]:
    """Return the figure of each budget by the id of its place."""
    return {figure_id(budget): _figure(view, budget) for budget in BUDGETS}


def _figure(view: RivalsView, budget: Budget) -> Figure:
    rows = [
        (inert(network.label), _colour(view, network), network.showings[budget].kids, found)
        for network in view.ranked(budget)
        if (found := network.showings[budget].spread) is not None
    ]
    means = _points(
        "mean",
        [found.mean for *_, found in rows],
        [name for name, *_ in rows],
        {"size": 11, "color": [colour for _, colour, *_ in rows]},
    )
    means["error_x"] = {
        "type": "data",
        "array": [found.standard_error if found.count > 1 else 0.0 for *_, found in rows],
        "color": "var(--muted)",
        "thickness": 1.4,
        "width": 4,
    }
    seeds = [(name, colour, kid) for name, colour, kids, _ in rows for kid in kids if kid is not None]
    dots = _points(
        "one seed",
        [kid for *_, kid in seeds],
        [name for name, *_ in seeds],
        {"size": 6, "symbol": "circle-open", "color": [colour for _, colour, _ in seeds]},
    )
    axes = layout("KID to test images", "", height=figure_height(view))
    axes["yaxis"] |= {"autorange": "reversed", "type": "category"}
    if view.floor is not None:
        axes |= _floor(view.floor)
    return {"data": [means, dots], "layout": axes}


def _colour(view: RivalsView, network: RivalView) -> str:
    if network is view.champion:
        return CHAMPION
    return ZOO if network.stock else FRONT


def _points(name: str, x: list[float], y: list[str], marker: dict[str, Any]) -> Figure:
    return {
        "type": "scatter",
        "name": name,
        "mode": "markers",
        "x": x,
        "y": y,
        "marker": marker,
        "hovertemplate": f"%{{y}}<br>%{{x:.4g}}<extra>{name}</extra>",
        "showlegend": False,
    }


def _floor(value: float) -> dict[str, Any]:
    """Return the line of what real training images score."""
    line = {"color": "var(--muted)", "width": 1.2, "dash": "dash"}
    return {
        "shapes": [{"type": "line", "yref": "paper", "x0": value, "x1": value, "y0": 0, "y1": 1, "line": line}],
        "annotations": [
            {
                "x": value,
                "y": 1,
                "yref": "paper",
                "yanchor": "bottom",
                "showarrow": False,
                "text": "real images",
                "font": {"size": 11, "color": "var(--muted)"},
            }
        ],
    }
