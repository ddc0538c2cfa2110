"""How the champion bears other sampling than it is scored with: sentences, figures, tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from evodiff.reporting.figure_style import CHAMPION, FRONT, Figure, inert, layout
from evodiff.reporting.markup import Child, Markup, element
from evodiff.reporting.notation import MISSING, enumeration, number, with_error
from evodiff.reporting.page import chart, data_table, section
from evodiff.reporting.robustness_view import ASPECTS
from evodiff.reporting.verdicts import Verdict, grouped, interval_text, verdict

if TYPE_CHECKING:
    from evodiff.reporting.robustness_view import RobustnessView, VariantView

# KID is smaller where images are better.
_PHRASES: Final[dict[Verdict, str]] = {
    "better": "better with",
    "worse": "worse with",
    "same": "the same with",
    "open": "not told apart with",
}
_REMARKS: Final[dict[Verdict, str]] = {"better": "better", "worse": "worse", "same": "same", "open": "unclear"}
_SPACINGS: Final = (
    "Spacing: log_snr is even in log-SNR, karras that of Karras et al. (2022) with ρ = 7; linear, scaled_linear and "
    "cosine visit the noise levels of even timesteps of the noise schedule of that name."
)


def sentences(view: RobustnessView) -> list[str]:
    """Say for every aspect which variants change KID for better or worse."""
    margin = view.margin
    return [text for aspect, variants in view.aspects.items() if (text := _sentence(aspect, variants, margin))]


def _sentence(aspect: str, variants: list[VariantView], margin: float) -> str:
    default = next((variant.name for variant in variants if variant.default), "")
    others = [variant for variant in variants if not variant.default]
    parts = [grouped([(variant.name, variant.difference) for variant in others], _PHRASES, margin=margin)]
    changed = [
        f"{variant.name} by {_percent(variant.output_difference, 2)}"
        for variant in others
        if variant.output_difference is not None
    ]
    if changed:
        parts.append(f"the network's output changes in {enumeration(changed)}")
    parts += [f"{variant.name} has no KID: {variant.problem}" for variant in others if variant.problem]
    text = "; ".join(part for part in parts if part)
    return f"{ASPECTS[aspect]}, against {default}: {text}." if text else ""


def robustness_section(view: RobustnessView | None) -> Markup | None:
    """Return the section, or ``None`` where no other sampling was tried."""
    if view is None:
        return None
    return section(
        "robustness",
        "Robustness to sampling",
        f"The champion's weights after {view.steps:,} training steps, sampled in other ways than scores are: one thing "
        f"changed at a time, {view.samples:,} images each from the same noise. KID to test images in the second "
        "feature net with one standard error; the star is the default.",
        [element("p", text) for text in sentences(view)],
        element(
            "div",
            [
                element("figure", element("h3", ASPECTS[aspect]), chart(figure_id(aspect), 280))
                for aspect in view.aspects
            ],
            class_="columns two",
        ),
        data_table(
            ["", "With", "KID", "Minus the default's [95\u00a0%]", "", "Right class", "Change of pixels", "Of output"],
            [
                [ASPECTS[aspect] if index == 0 else "", *_cells(variant, view.margin)]
                for aspect, variants in view.aspects.items()
                for index, variant in enumerate(variants)
            ],
            numeric={2, 3, 5, 6, 7},
        ),
        element(
            "p",
            "Differences are paired image by image, so they can be told from zero where the bars overlap. The same is "
            "what lies, with its whole interval, within the standard error of the default's KID. Change of pixels, and "
            "of the network's output on noised test images: root mean square, of pixels in [−1, 1], and "
            f"relative to the output. {_SPACINGS}",
            class_="note",
        ),
    )


def _cells(variant: VariantView, margin: float) -> list[Child]:
    return [
        f"{variant.name} (default)" if variant.default else variant.name,
        with_error(variant.kid, variant.standard_error),
        *_difference_cells(variant, margin),
        _percent(variant.label_accuracy, 3),
        number(variant.image_difference, 2),
        _percent(variant.output_difference, 2),
    ]


def _difference_cells(variant: VariantView, margin: float) -> list[str]:
    """Return the difference to the default, and what it comes to or why there is none."""
    if variant.default:
        return [MISSING, ""]
    if variant.difference is None:
        return [MISSING, variant.problem]
    return [interval_text(variant.difference), _REMARKS[verdict(variant.difference, margin)]]


def _percent(share: float | None, digits: int) -> str:
    return MISSING if share is None else f"{number(100 * share, digits)}\u00a0%"


def figure_id(aspect: str) -> str:
    """Return the id of the place of an aspect's figure."""
    return f"robustness-{aspect}"


def robustness_figures(view: RobustnessView) -> dict[str, Figure]:
    """Return for each aspect the KID of its variants, by the id of its place."""
    return {figure_id(aspect): _figure(aspect, variants) for aspect, variants in view.aspects.items()}


def _figure(aspect: str, variants: list[VariantView]) -> Figure:
    known = [variant for variant in variants if variant.kid is not None]
    ordered = aspect in ("guidance", "steps")
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers" if ordered else "markers",
        "x": [inert(variant.name) for variant in known],
        "y": [variant.kid for variant in known],
        "error_y": {
            "type": "data",
            "array": [variant.standard_error for variant in known],
            "color": FRONT,
            "thickness": 1.3,
            "width": 4,
        },
        "line": {"color": FRONT, "width": 1.6},
        "marker": {
            "color": [CHAMPION if variant.default else FRONT for variant in known],
            "symbol": ["star" if variant.default else "circle" for variant in known],
            "size": [15 if variant.default else 9 for variant in known],
        },
        "hovertemplate": "%{x}<br>KID %{y:.4g}<extra></extra>",
        "showlegend": False,
    }
    found = layout(ASPECTS[aspect], "KID", height=280)
    found["xaxis"]["type"] = "category"
    return {"data": [trace], "layout": found}


def robustness_table(view: RobustnessView) -> Table:
    """Return the variants as a table for a terminal."""
    table = Table(
        title=f"Other ways to sample, {view.samples} images each",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for head in ("", "with", "KID", "change of KID [95 %]"):
        table.add_column(head, justify="right" if "KID" in head else "left", no_wrap=True)
    table.add_column("", min_width=8)
    for aspect, variants in view.aspects.items():
        for index, variant in enumerate(variants):
            difference, remark = _difference_cells(variant, view.margin)
            table.add_row(
                "" if index else aspect,
                Text(variant.name),
                with_error(variant.kid, variant.standard_error),
                difference,
                Text("default" if variant.default else remark),
                end_section=index == len(variants) - 1,
            )
    return table
