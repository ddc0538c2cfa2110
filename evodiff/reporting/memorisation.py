"""Generated images beside the training images nearest to them, and what share of them is memorised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.reporting.images import data_uri
from evodiff.reporting.markup import Markup, element
from evodiff.reporting.notation import number
from evodiff.reporting.page import section

if TYPE_CHECKING:
    from evodiff.reporting.view import MemorisationView, NearestPair, RunView


def memorisation(view: RunView) -> Markup | None:
    """Return the section, or ``None`` where nothing was validated."""
    found = view.memorisation
    if found is None:
        return None
    return section(
        "memorisation",
        "Nearest training images",
        "Left what the champion generates, right the training image nearest to it; the likeliest copies come first.",
        element("p", memorisation_sentence(found)),
        element("div", [_pair(pair, found.threshold) for pair in found.pairs], class_="pairs"),
        element("p", _decision_sentence(found), class_="note"),
    )


def memorisation_sentence(found: MemorisationView) -> str:
    """Say what share of the generated images is memorised, and whether chance explains it."""
    verdict = (
        "That is more than three standard errors above it: training images were memorised."
        if found.copies
        else "That is not three standard errors above it: no sign that training images were memorised."
    )
    return (
        f"{_percent(found.share)} of {found.samples:,} generated images count as memorised; chance alone makes it "
        f"{_percent(found.expected_share)} ± {_percent(found.standard_error)}. {verdict}"
    )


def _decision_sentence(found: MemorisationView) -> str:
    return (
        "An image counts when its distance to the nearest training image, divided by the mean distance to its "
        f"{found.neighbourhood} nearest, is below {number(found.threshold)}, as it is for "
        f"{_percent(found.expected_share)} of the test images, which were not trained on. Distances are between "
        "features of the second feature net."
    )


def _pair(pair: NearestPair, threshold: float) -> Markup:
    counts = pair.relative_distance < threshold
    return element(
        "figure",
        element("img", src=data_uri(pair.generated), alt="generated image"),
        element("img", src=data_uri(pair.training), alt="its nearest training image"),
        element(
            "figcaption",
            f"distance {number(pair.distance)}, ratio {number(pair.relative_distance)}",
            element("br"),
            "counts as memorised" if counts else "does not count",
        ),
        class_="counts" if counts else None,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"
