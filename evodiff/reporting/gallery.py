"""Real and generated images side by side, a row for each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.reporting.images import data_uri, grid_png
from evodiff.reporting.markup import Markup, element
from evodiff.reporting.page import section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evodiff.reporting.view import ImagesView, RunView

PER_CLASS = 8
UNLABELLED = 48
UNLABELLED_COLUMNS = 8


def gallery(view: RunView) -> Markup | None:
    """Return the section, or ``None`` without images."""
    images = view.images
    if images is None or not len(images.real) or not len(images.generated):
        return None
    return section(
        "images",
        "Real and generated images",
        images.caption or "Left: images of the dataset. Right: what the champion generates.",
        element(
            "div",
            element("span", ""),
            element("h3", "Real"),
            element("h3", "Generated"),
            _rows(images),
            class_="gallery" if _labelled(images) else "gallery unlabelled",
        ),
    )


def _labelled(images: ImagesView) -> bool:
    return bool(images.real_labels) and bool(images.generated_labels)


def _rows(images: ImagesView) -> list[Markup]:
    if not _labelled(images):
        return [
            element("span", ""),
            _strip(images.real[:UNLABELLED], UNLABELLED_COLUMNS, "real images"),
            _strip(images.generated[:UNLABELLED], UNLABELLED_COLUMNS, "generated images"),
        ]
    names = images.class_names or tuple(dict.fromkeys((*images.real_labels, *images.generated_labels)))
    rows = []
    for name in names:
        real = images.real[[index for index, label in enumerate(images.real_labels) if label == name][:PER_CLASS]]
        generated = images.generated[
            [index for index, label in enumerate(images.generated_labels) if label == name][:PER_CLASS]
        ]
        if len(real) or len(generated):
            rows += [
                element("span", name, class_="class-name"),
                _strip(real, PER_CLASS, f"real, {name}"),
                _strip(generated, PER_CLASS, f"generated, {name}"),
            ]
    return rows


def _strip(images: NDArray[np.uint8], columns: int, text: str) -> Markup:
    if not len(images):
        return element("span", "none", class_="note")
    share = 100 if len(images) >= columns else round(100 * len(images) / columns)
    png = grid_png(images, min(columns, len(images)))
    return element("img", src=data_uri(png), alt=f"{len(images)} {text}", style=f"width:{share}%", loading="lazy")
