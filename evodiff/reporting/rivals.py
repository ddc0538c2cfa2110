"""The champion against the zoo and the stock U-Net, for the page and for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from evodiff.pipeline.rivals import BUDGETS, Budget
from evodiff.reporting.markup import Markup, element
from evodiff.reporting.notation import MISSING, count, number, with_unit
from evodiff.reporting.page import chart, data_table, section
from evodiff.reporting.rivals_figure import figure_height, figure_id
from evodiff.reporting.rivals_words import HEADINGS, cells, sentences, subject

if TYPE_CHECKING:
    from evodiff.reporting.rivals_view import RivalsView, RivalView


def rivals_section(view: RivalsView | None) -> Markup | None:
    """Return the section, or ``None`` where there was no contest."""
    if view is None:
        return None
    return section(
        "rivals",
        "Against the zoo and the stock U-Net",
        f"Every network trained from scratch from the same {view.seeds} seeds, which the search never used: for "
        f"{view.steps:,} steps each, and for the compute that these steps cost {subject(view)} "
        f"({count(view.budget_flops)} FLOPs). KID to test images in the second feature net, {view.samples:,} images a "
        "training; smaller is better. Open dots are seeds, bars one standard error of their mean; orange is "
        f"{subject(view)}, green are stock U-Nets.",
        [element("p", text) for text in sentences(view)],
        element(
            "div",
            [
                element("figure", element("h3", HEADINGS[budget]), chart(figure_id(budget), figure_height(view)))
                for budget in BUDGETS
            ],
            class_="columns two",
        ),
        [[element("h3", HEADINGS[budget]), _budget_markup(view, budget)] for budget in BUDGETS],
        element("h3", "What they cost"),
        _cost_markup(view),
        element("p", _reading_note(view), class_="note"),
    )


def _reading_note(view: RivalsView) -> str:
    return (
        "Range and standard deviation are over seeds; latency is predicted, and measured where this was validated. "
        f"Differences are paired by seed, with 95 % intervals of Student's t over {view.seeds} seeds. Each holds by "
        f"itself: among {len(BUDGETS) * len(view.rivals)} of them some may miss by chance. They speak of this search "
        "and these test images alone. (stock) is a network that diffusers' UNet2DModel can be; ddpm_unet is DDPM's own."
    )


def _budget_markup(view: RivalsView, budget: Budget) -> Markup:
    name = view.champion.name
    return data_table(
        [
            "Network",
            "Steps",
            "KID",
            "Range",
            "Deviation [95\u00a0%]",
            f"{name[:1].upper()}{name[1:]} minus it [95\u00a0%]",
            f"{name[:1].upper()}{name[1:]} is",
        ],
        [[network.label, *cells(view, network, budget)] for network in view.ranked(budget)],
        numeric={1, 2, 3, 4, 5},
    )


def _cost_markup(view: RivalsView) -> Markup:
    return data_table(
        [
            "Network",
            "Parameters",
            "Memory",
            f"Latency for {view.target}",
            "Measured here (quartiles)",
            "FLOPs a step",
        ],
        [
            [
                network.label,
                count(network.parameters),
                with_unit(network.memory_mb, "MB"),
                with_unit(network.predicted_ms, "ms"),
                _measured_text(network),
                count(network.step_flops),
            ]
            for network in view.networks
        ],
        numeric={1, 2, 3, 4, 5},
    )


def _measured_text(network: RivalView) -> str:
    if network.measured_ms is None:
        return MISSING
    return f"{with_unit(network.measured_ms, 'ms')} ({number(network.low_ms)} to {number(network.high_ms)})"


def rivals_tables(view: RivalsView) -> list[Table]:
    """Return for a terminal a table for each budget, and one of costs."""
    return [*(_budget_table(view, budget) for budget in BUDGETS), _cost_table(view)]


def _budget_table(view: RivalsView, budget: Budget) -> Table:
    table = _table(f"{HEADINGS[budget]}: KID to test images over {view.seeds} seeds")
    for head in ("network", "steps", "KID", "sd", f"{view.champion.name} minus it [95 %]"):
        table.add_column(head, justify="left" if head == "network" else "right")
    for network in view.ranked(budget):
        steps, kid, _, _, difference, remark = cells(view, network, budget)
        found = network.showings[budget].spread
        deviation = MISSING if found is None else number(found.deviation.value, 2)
        style = "bold" if network is view.champion else ""
        table.add_row(Text(network.name), steps, kid, deviation, difference if found else Text(remark), style=style)
    return table


def _cost_table(view: RivalsView) -> Table:
    table = _table(f"What they cost; latency is predicted for {view.target}")
    for head in ("network", "parameters", "memory", "latency", "measured here"):
        table.add_column(head, justify="left" if head == "network" else "right")
    for network in view.networks:
        table.add_row(
            Text(network.name),
            count(network.parameters),
            with_unit(network.memory_mb, "MB"),
            with_unit(network.predicted_ms, "ms"),
            with_unit(network.measured_ms, "ms"),
        )
    return table


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
