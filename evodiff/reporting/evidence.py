"""The parts of a page that say how far its numbers can be trusted: noise, credit, latency, training, validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.reporting.markup import Markup, element
from evodiff.reporting.notation import MISSING, axis_title, number, operator_title, short, title, with_error, with_unit
from evodiff.reporting.page import chart, data_table, section
from evodiff.reporting.statistics import noise_rows, operator_rows

if TYPE_CHECKING:
    from evodiff.reporting.view import RunView


def noise(view: RunView) -> Markup | None:
    """What differences mean something."""
    rows = noise_rows(view)
    body = []
    for row in rows:
        exact = row.smallest_difference is None
        body.append(
            [
                axis_title(row.objective),
                element("span", number(row.floor), title=row.explanation) if row.floor is not None else MISSING,
                "exact" if exact else number(row.standard_error, 2),
                number(row.spread),
                "any" if exact else number(row.smallest_difference, 2),
                _noise_verdict(row.spread, row.smallest_difference),
            ]
        )
    explanations = [f"Floor of {title(row.objective)}: {row.explanation}" for row in rows if row.explanation]
    return section(
        "noise",
        "Noise floor",
        "Differences smaller than this mean nothing: two candidates closer than the smallest difference cannot be told "
        "apart (two standard errors of a difference).",
        data_table(
            ["Objective", "Floor", "Standard error", "Spread on front", "Smallest difference", "So"],
            body,
            numeric={1, 2, 3, 4},
        ),
        [element("p", text, class_="note") for text in explanations],
    )


def _noise_verdict(spread: float | None, smallest: float | None) -> str:
    if smallest is None:
        return "calculated, not sampled"
    if spread is None:
        return MISSING
    if spread <= smallest:
        return "the front cannot be told apart here"
    return f"the front spans {number(spread / smallest, 2)} times that"


def surrogate(view: RunView) -> Markup | None:
    """How well the models that picked candidates ranked them."""
    rows = [item for item in view.generations if item.rank_correlations]
    if not rows:
        return None
    names = sorted({name for item in rows for name in item.rank_correlations})
    return section(
        "surrogate",
        "Predictions that picked candidates",
        "Rank correlation (Kendall's tau) between what the surrogate expected of each generation and what training "
        "brought: 1 is the right order, 0 is chance. Only candidates that it picked were trained, which makes it look "
        "worse than it is.",
        data_table(
            ["Generation", *names],
            [[item.generation, *(number(item.rank_correlations.get(name), 2) for name in names)] for item in rows],
            numeric=set(range(1 + len(names))),
        ),
    )


def rungs(view: RunView) -> Markup | None:
    """How far short trainings foretell long ones."""
    if not view.rungs:
        return None
    names = sorted({name for item in view.rungs for name in item.rank_correlations})
    return section(
        "rungs",
        "Short and long trainings",
        "New candidates are trained on the first rung, and those that promise most go on to the next. The rank "
        "correlation (Kendall's tau) says how well a rung foretells the next, over those that were trained on both: "
        "they are the best of it, which are hardest to tell apart. The less it tells, the larger the share that goes "
        "on. The front and the champion are picked on the highest rung alone.",
        data_table(
            ["Rung", "Steps", "Tried", "Promoted", "Share to promote", *(f"tau of {name}" for name in names)],
            [
                [
                    item.rung,
                    item.steps if item.steps is not None else MISSING,
                    item.tried,
                    item.promoted if item.share is not None else "",
                    number(item.share, 2) if item.share is not None else "",
                    *(number(item.rank_correlations.get(name), 2) if item.share is not None else "" for name in names),
                ]
                for item in view.rungs
            ],
            numeric=set(range(5 + len(names))),
        ),
    )


def operators(view: RunView) -> Markup | None:
    """What each operator's children came to."""
    rows = operator_rows(view.candidates)
    if not rows:
        return None
    return section(
        "operators",
        "Operator credit",
        "What became of each operator's children. Improved: fitter than every parent"
        + (", of those that were trained on the highest rung, as all of their parents were." if view.rungs else "."),
        data_table(
            ["Operator", "Children", "Failed", "Survived", "On front", "Compared", "Improved", "Mean gain in fitness"],
            [
                [
                    operator_title(row.operator),
                    row.children,
                    row.failed,
                    row.survived,
                    row.on_front,
                    row.compared,
                    MISSING if row.improved is None else f"{100 * row.improved:.0f}\u00a0%",
                    number(row.mean_gain, 2),
                ]
                for row in rows
            ],
            numeric={1, 2, 3, 4, 5, 6, 7},
        ),
    )


def latency(view: RunView) -> Markup | None:
    """Latency by the table against latency by the clock."""
    if not view.latency_checks:
        return None
    errors = sorted(
        abs(check.predicted_ms / check.measured_ms - 1) for check in view.latency_checks if check.measured_ms
    )
    middle = f"Median error of the table: {100 * errors[len(errors) // 2]:.0f}\u00a0%. " if errors else ""
    return section(
        "latency",
        "Latency: predicted and measured",
        f"{middle}The search used the calibrated table, so that it can be replayed; the front was measured afterwards "
        "on the device itself.",
        element(
            "div",
            chart("latency-figure", 360),
            data_table(
                ["Candidate", "Predicted", "Measured", "Low", "High", "Error"],
                [
                    [
                        element("code", short(check.candidate)),
                        with_unit(check.predicted_ms, "ms"),
                        with_unit(check.measured_ms, "ms"),
                        with_unit(check.low_ms, "ms"),
                        with_unit(check.high_ms, "ms"),
                        f"{100 * (check.predicted_ms / check.measured_ms - 1):+.0f}\u00a0%".replace("-", "−")
                        if check.measured_ms
                        else MISSING,
                    ]
                    for check in view.latency_checks
                ],
                numeric={1, 2, 3, 4, 5},
            ),
            class_="columns two",
        ),
    )


def training(view: RunView) -> Markup | None:
    """The course of the champion's final training."""
    names = list(dict.fromkeys(name for point in view.champion_progress for name in point.values))
    if not names:
        return None
    return section(
        "training",
        "Final training of the champion",
        f"{view.champion_progress[-1].step:,} steps.",
        element(
            "div",
            [
                element("figure", element("h3", title(name)), chart(f"training-{index}", 300))
                for index, name in enumerate(names)
            ],
            class_="columns",
        ),
    )


def validation(view: RunView) -> Markup | None:
    """Scores on test images by the second feature net."""
    if not view.validation:
        return None
    arrows = {"lower": "lower is better", "higher": "higher is better"}
    return section(
        "validation",
        "Validation",
        "On test images, by a feature net that the search never saw. The floor is what real images score in the place "
        "of generated ones: to be beyond it is no merit.",
        data_table(
            ["Metric", "Value", "Floor of real images", "", "What it says"],
            [
                [
                    title(name),
                    with_error(metric.value, metric.standard_error),
                    number(metric.floor),
                    arrows.get(metric.better, ""),
                    metric.explanation,
                ]
                for name, metric in view.validation.items()
            ],
            numeric={1, 2},
        ),
    )
