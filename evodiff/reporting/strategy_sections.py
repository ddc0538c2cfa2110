"""How strategies compare over their runs: figures of median courses, tables of standings and differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evodiff.reporting.figure_style import DASHES, SERIES, Figure, inert, layout
from evodiff.reporting.notation import convergence_text, count, interval_text, number
from evodiff.reporting.page import data_table, section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.reporting.markup import Child, Markup
    from evodiff.reporting.strategies import Band, Contest, Cost, Difference, Standing

HEADINGS: Final[dict[Cost, str]] = {"evaluations": "Evaluations", "compute": "Training compute (FLOPs)"}


def bands_figure(found: Contest | None) -> Figure | None:
    """Return the median course of each strategy, with its interval if it was repeated, as a Plotly figure."""
    return None if found is None else _figure(found.bands, HEADINGS[found.cost], "Hypervolume, median")


def distances_figure(found: Contest) -> Figure:
    """Return the median course of IGD+ of each strategy, in the form of :func:`bands_figure`."""
    return _figure(found.distance_bands, HEADINGS[found.cost], "IGD+, median")


def _figure(bands: Sequence[Band], horizontal: str, vertical: str) -> Figure:
    traces: list[Figure] = []
    for index, band in enumerate(bands):
        colour = SERIES[index % len(SERIES)]
        name = inert(band.strategy.name)
        if len(band.strategy.runs) > 1:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": [*band.spent, *reversed(band.spent)],
                    "y": [*band.high, *reversed(band.low)],
                    "fill": "toself",
                    "fillcolor": colour,
                    "opacity": 0.15,
                    "line": {"width": 0, "color": colour},
                    "hoverinfo": "skip",
                    "showlegend": False,
                    "legendgroup": name,
                }
            )
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{name} ({len(band.strategy.runs)})",
                "x": list(band.spent),
                "y": list(band.median),
                "line": {"color": colour, "dash": DASHES[index % len(DASHES)], "width": 2.2},
                "legendgroup": name,
            }
        )
    return {"data": traces, "layout": layout(horizontal, vertical, height=360)}


def strategies_section(contests: Sequence[Contest]) -> Markup:
    """Return what each strategy reached, at the budget that every run had."""
    head = [
        "Strategy",
        "Runs",
        *(f"Hypervolume at {budget_text(item)}" for item in contests),
        *(f"IGD+ at {budget_text(item)}" for item in contests),
        "Gain a generation lately",
    ]
    rows: list[list[Child]] = [
        [
            standing.strategy.name,
            len(standing.hypervolumes),
            *(standing_text(item.standings[index]) for item in contests),
            *(distance_text(item.standings[index]) for item in contests),
            convergence_text(standing.convergence),
        ]
        for index, standing in enumerate(contests[0].standings)
    ]
    return section(
        "strategies",
        "Strategies",
        "Median over the runs of a strategy, with the 95 % interval that drawing the runs again gives if there are "
        "several, where every run has spent as much. IGD+ is the mean distance of the best front that all runs know "
        "together to what one run has found, in the same box: 0 is all of it. The last column says whether the "
        "hypervolume still grew over the last five generations that the runs have.",
        data_table(head, rows, numeric={*range(1, len(head) - 1)}),
    )


def differences_section(contests: Sequence[Contest]) -> Markup | None:
    """Return which of two strategies is better and how sure that is; ``None`` where no two were repeated."""
    rows: list[list[Child]] = [
        [
            f"{item.first.name} over {item.second.name}",
            budget_text(found),
            interval_text(item.effect),
            p_value_text(item),
        ]
        for found in contests
        for item in found.differences
    ]
    if not rows:
        return None
    return section(
        "differences",
        "Differences",
        "A12 is how likely a run of the first beats one of the second: .5 is a draw; beyond .56, .64 and .71 an effect "
        "is called small, medium and large (Vargha and Delaney 2000). p is the exact Mann-Whitney test, two-sided, "
        "adjusted for the number of pairs (Holm).",
        data_table(["Pair", "At", "A12", "p"], rows, numeric={2, 3}),
    )


def standing_text(standing: Standing) -> str:
    """Return the median with its interval, which one run alone has none of."""
    return interval_text(standing.median) if len(standing.hypervolumes) > 1 else number(standing.median.value)


def distance_text(standing: Standing) -> str:
    """Return the median IGD+ in the form of :func:`standing_text`."""
    median = standing.median_distance
    return interval_text(median) if len(standing.distances) > 1 else number(median.value)


def p_value_text(difference: Difference) -> str:
    """Return the adjusted p-value, ``< 0.001`` below that."""
    return "< 0.001" if difference.p_value < 0.001 else number(difference.p_value, 2)


def budget_text(found: Contest) -> str:
    """Return the common budget with its unit."""
    return f"{found.budget:.0f} evaluations" if found.cost == "evaluations" else f"{count(found.budget)}FLOPs"
