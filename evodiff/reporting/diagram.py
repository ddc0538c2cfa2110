"""The diagram of a genome as SVG that stands alone: colours of its own, light and dark, no script, no font to load."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from evodiff.architecture.graph import ResolvedGenome, resolve
from evodiff.reporting.diagram_labels import (
    DETAIL_PIXELS,
    TITLE_PIXELS,
    Label,
    layer_label,
    output_label,
    parameter_lines,
    shorten,
    stem_label,
)
from evodiff.reporting.diagram_layout import BAND_LABEL, BOX_WIDTH, STEP_HEIGHT, Box, Layout, Point, Route, layout
from evodiff.reporting.markup import Markup, element, join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.architecture.genome import ArchitectureGenome, ImageShape

# Okabe and Ito's palette, which the common forms of colour blindness keep apart; position and text say the same again.
COMPONENT_COLOURS: Final = {
    "attention": ("#e69f00", "Attention"),
    "conv": ("#56b4e9", "Convolution"),
    "residual": ("#0072b2", "Residual block"),
    "norm": ("#999999", "Norm"),
    "activation": ("#d8c600", "Activation"),
    "downsample": ("#d55e00", "Downsample"),
    "upsample": ("#009e73", "Upsample"),
    "stem": ("#6b7686", "Image in and out"),
}
_STYLE: Final = """
.genome{--ink:#1b2330;--faint:#5b6675;--box:#ffffff;--band:#f0f3f7;--edge:#c9d1dc;--concat:#0072b2;--add:#b8480a}
@media (prefers-color-scheme:dark){.genome{--ink:#e8edf4;--faint:#a3afbf;--box:#1d2632;--band:#141b24;--edge:#3a4656;
--concat:#6cc0f2;--add:#f59a56}}
.genome text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--ink)}
.genome .title{font-size:12px;font-weight:650}.genome .detail{font-size:10.5px;fill:var(--faint)}
.genome .channels{font-size:10.5px;font-variant-numeric:tabular-nums}.genome .band{fill:var(--band)}
.genome .size{font-size:12px;font-weight:600;fill:var(--faint)}
.genome .box{fill:var(--box);stroke:var(--edge);stroke-width:1}
.genome .trunk{fill:none;stroke:var(--faint);stroke-width:1.6}.genome .head{fill:var(--faint)}
.genome .route{fill:none;stroke-width:2.2}.genome .concat{stroke:var(--concat)}
.genome .add{stroke:var(--add);stroke-dasharray:6 4}
.genome .merge{fill:var(--box);stroke-width:1.8}.genome .merge.add{stroke-dasharray:none}
.genome .sign{font-size:11px;font-weight:700;text-anchor:middle}
"""
_LEGEND_LINE = 22.0
_RADIUS = 9.0
SMALLEST = 0.72  # on a narrow screen a diagram shrinks to this, then scrolls: its texts stay readable


def diagram_svg(genome: ArchitectureGenome, shape: ImageShape, *, title: str = "Architecture") -> Markup:
    """Draw the genome as it is built for images of ``shape``.

    Raises:
        InvalidGenome: the genome makes no network for this shape.
    """
    resolved = resolve(genome, shape)
    places = layout(resolved)
    labels = [stem_label(resolved), *map(layer_label, resolved.layers), output_label(resolved)]
    width = max(places.width, BAND_LABEL + 2 * BOX_WIDTH)
    legend, legend_height = _legend(resolved, labels, places.height + 16, width)
    height = places.height + 16 + legend_height
    return element(
        "svg",
        element("title", title),
        element("style", Markup(_STYLE)),
        [_band(band.size, band.y, band.height, width) for band in places.bands],
        [_trunk(points) for points in places.trunk],
        [_route(route) for route in places.routes],
        [_box(box, label) for box, label in zip(places.boxes, labels, strict=True)],
        [_merge(route) for route in places.routes],
        legend,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_n(width)} {_n(height)}",
        width=_n(width),
        height=_n(height),
        class_="genome",
        style=f"min-width:{round(SMALLEST * width)}px",
        role="img",
        aria_label=_summary(resolved, places, title),
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _summary(resolved: ResolvedGenome, places: Layout, title: str) -> str:
    names = ", ".join(f"{layer.gene.component.value} {layer.out_channels}" for layer in resolved.layers)
    return f"{title}: {len(resolved.layers)} layers ({names}), {len(places.routes)} skip connections"


def _band(size: int, y: float, height: float, width: float) -> Markup:
    return join(
        [
            element("rect", x=0, y=_n(y), width=_n(width), height=_n(height), rx=10, class_="band"),
            element("text", f"{size}×{size}", x=14, y=_n(y + height / 2 + 4), class_="size"),
        ]
    )


def _box(box: Box, label: Label) -> Markup:
    colour = COMPONENT_COLOURS["stem" if label.component == "output" else label.component][0]
    x, right = box.x, box.x + BOX_WIDTH
    channels_width = (len(label.channels) + 1) * DETAIL_PIXELS + 14
    title = shorten(label.title, BOX_WIDTH - 20 - channels_width, TITLE_PIXELS)
    slim = box.height == STEP_HEIGHT
    baseline = box.middle + 4 if slim else box.y + 19
    detail_x = x + 20 + (len(title) + 1) * TITLE_PIXELS if slim else x + 20
    room = right - detail_x - (channels_width if slim else 14)
    return element(
        "g",
        element("title", label.tooltip),
        element("rect", x=_n(x), y=_n(box.y), width=_n(BOX_WIDTH), height=_n(box.height), rx=7, class_="box"),
        element(
            "rect", x=_n(x), y=_n(box.y), width=_n(BOX_WIDTH), height=_n(box.height), rx=7, fill=colour, opacity=".13"
        ),
        element("rect", x=_n(x), y=_n(box.y), width=7, height=_n(box.height), rx=3.5, fill=colour),
        element("text", title, x=_n(x + 20), y=_n(baseline), class_="title"),
        element("text", label.channels, x=_n(right - 14), y=_n(baseline), text_anchor="end", class_="channels"),
        element(
            "text",
            shorten(label.detail, room, DETAIL_PIXELS),
            x=_n(detail_x),
            y=_n(baseline if slim else box.y + 36),
            class_="detail",
        ),
    )


def _trunk(points: Sequence[Point]) -> Markup:
    (x, y), (_, before) = points[-1], points[-2]
    back = -6 if before < y else 6
    head = f"{_n(x - 4)},{_n(y + back)} {_n(x + 4)},{_n(y + back)} {_n(x)},{_n(y)}"
    return join(
        [element("path", d=rounded_path(points), class_="trunk"), element("polygon", points=head, class_="head")]
    )


def _route(route: Route) -> Markup:
    if route.curved:
        (x0, y0), (x1, y1) = route.points
        bend = (x1 - x0) * 0.5
        path = f"M{_n(x0)} {_n(y0)}C{_n(x0 + bend)} {_n(y0)} {_n(x1 - bend)} {_n(y1)} {_n(x1)} {_n(y1)}"
    else:
        path = rounded_path(route.points)
    return element("path", d=path, class_=f"route {route.merge}")


def _merge(route: Route) -> Markup:
    return _merge_sign(*route.points[-1], route.merge)


def _merge_sign(x: float, y: float, merge: str) -> Markup:
    return element(
        "g",
        element("circle", cx=_n(x), cy=_n(y), r=7, class_=f"merge {merge}"),
        element("text", "+" if merge == "add" else "c", x=_n(x), y=_n(y + 3.6), class_="sign"),
    )


def rounded_path(points: Sequence[Point]) -> str:
    """Return the SVG path through ``points`` with rounded corners."""
    parts = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(_RADIUS, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        enter, leave = _towards(corner, before, radius), _towards(corner, after, radius)
        parts.append(f"L{_n(enter[0])} {_n(enter[1])}Q{_n(corner[0])} {_n(corner[1])} {_n(leave[0])} {_n(leave[1])}")
    parts.append(f"L{_n(points[-1][0])} {_n(points[-1][1])}")
    return "".join(parts)


def _towards(start: Point, end: Point, length: float) -> Point:
    distance = math.dist(start, end)
    if distance == 0:
        return start
    return (
        start[0] + (end[0] - start[0]) * length / distance,
        start[1] + (end[1] - start[1]) * length / distance,
    )


def _legend(resolved: ResolvedGenome, labels: Sequence[Label], top: float, width: float) -> tuple[Markup, float]:
    """Return the legend and its height: colours in use, kinds of connection, what the signs mean, global parameters."""
    used = {label.component for label in labels}
    merges = sorted({edge.merge for layer in resolved.layers for edge in layer.edges})
    entries: list[tuple[str, str]] = [(name, text) for name, (_, text) in COMPONENT_COLOURS.items() if name in used]
    entries += [(merge, {"concat": "skip, concatenated", "add": "skip, added"}[merge]) for merge in merges]
    notes = ["t: how it hears the time step", "+x adds its input"]
    x, y, parts = 14.0, top + 14, []
    for name, text in entries:
        advance = 44 + len(text) * 6.4
        if x + advance > width:
            x, y = 14.0, y + _LEGEND_LINE
        parts.append(_legend_entry(name, text, x, y))
        x += advance
    for line in _wrap([" · ".join(parameter_lines(resolved.genome, resolved)), *notes], width):
        y += _LEGEND_LINE
        parts.append(element("text", line, x=14, y=_n(y), class_="detail"))
    return join(parts), y - top + 14


def _legend_entry(name: str, text: str, x: float, y: float) -> Markup:
    label = element("text", text, x=_n(x + 28), y=_n(y), class_="detail")
    if name in COMPONENT_COLOURS:
        swatch = element("rect", x=_n(x), y=_n(y - 10), width=20, height=12, rx=3, fill=COMPONENT_COLOURS[name][0])
        return join([swatch, label])
    line = element("path", d=f"M{_n(x)} {_n(y - 4)}h13", class_=f"route {name}")
    return join([line, _merge_sign(x + 16, y - 4, name), label])


def _wrap(phrases: Sequence[str], width: float) -> list[str]:
    room = int((width - 28) / DETAIL_PIXELS)
    lines: list[str] = []
    for word in " · ".join(phrases).split(" · "):
        if lines and len(lines[-1]) + 3 + len(word) <= room:
            lines[-1] += f" · {word}"
        else:
            lines.append(word)
    return lines
