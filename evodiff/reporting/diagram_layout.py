"""Where the boxes and connections of an architecture diagram go. Pure geometry, in pixels, y downwards.

1. Every resolution is a horizontal band, the finest on top; the trunk runs down a column while resolution falls and
   up the next while it rises. A run of layers of one resolution where the trunk turns is folded over both columns, so
   that a flat transformer is drawn like a U as well, its long skips level.
2. Layers of a band sit on one grid of rows; a downsample or upsample sits between two bands.
3. A connection between neighbouring columns is a curve in the gutter between them; inside a column it runs in a lane
   of its own beside it; between columns further apart it passes through the gap above its target's row. None crosses
   a box.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evodiff.architecture.genome import ArchitectureComponent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.architecture.graph import ResolvedGenome

BOX_WIDTH = 270.0
BOX_HEIGHT = 46.0
STEP_HEIGHT = 30.0
GAP = 20.0
PADDING = 24.0
GUTTER = 112.0
LANE = 11.0
FIRST_LANE = 20.0
BAND_LABEL = 66.0
TURN = 13.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle for one position of the trunk: -1 is the stem, the number of layers is the output stage."""

    position: int
    column: int
    x: float
    y: float
    height: float

    @property
    def bottom(self) -> float:
        """Lower edge."""
        return self.y + self.height

    @property
    def middle(self) -> float:
        """Height of its centre."""
        return self.y + self.height / 2

    @property
    def center(self) -> float:
        """Horizontal centre."""
        return self.x + BOX_WIDTH / 2


@dataclass(frozen=True)
class Band:
    """The strip of one resolution: ``size`` positions a side."""

    size: int
    y: float
    height: float


@dataclass(frozen=True)
class Route:
    """A connection's way: through ``points``, with rounded corners, or as one curve where ``curved``."""

    source: int
    target: int
    merge: str
    points: tuple[Point, ...]
    curved: bool = False


@dataclass(frozen=True)
class Layout:
    """Everything placed, in a canvas of ``width`` x ``height``; ``trunk`` leads from each box to the next."""

    boxes: tuple[Box, ...]
    bands: tuple[Band, ...]
    trunk: tuple[tuple[Point, ...], ...]
    routes: tuple[Route, ...]
    left: float
    width: float
    height: float


@dataclass
class _Column:
    """Positions of one column by level: those on the band of a level, and those on the step below it."""

    descending: bool
    on_band: dict[int, list[int]] = field(default_factory=dict)
    on_step: dict[int, int] = field(default_factory=dict)


@dataclass
class _Run:
    """Consecutive positions of one level, and the resampling layer that follows with its direction (+1 is down)."""

    level: int
    positions: list[int]
    resampler: int | None = None
    direction: int = -1


def layout(resolved: ResolvedGenome) -> Layout:
    """Place every layer and connection of the genome."""
    columns = _columns(_runs(resolved))
    column_of = {
        position: index
        for index, column in enumerate(columns)
        for position in [p for stack in column.on_band.values() for p in stack] + list(column.on_step.values())
    }
    lanes = _lanes(resolved, column_of)
    left = BAND_LABEL + _margin(lanes, 0, len(columns))
    gutters = [_gutter(lanes, index, len(columns)) for index in range(len(columns) - 1)]
    xs = [left]
    for gutter in gutters:
        xs.append(xs[-1] + BOX_WIDTH + gutter)
    boxes, bands = _place(columns, xs, resolved.stem_size)
    right = xs[-1] + BOX_WIDTH + max(12.0, _margin(lanes, len(columns) - 1, len(columns)))
    order = tuple(boxes[position] for position in sorted(boxes))
    trunk = tuple(_trunk(first, second, columns) for first, second in itertools.pairwise(order))
    routes = _routes(resolved, boxes, lanes, len(columns))
    return Layout(order, bands, trunk, routes, left, right, bands[-1].y + bands[-1].height)


def _runs(resolved: ResolvedGenome) -> list[_Run]:
    runs = [_Run(0, [-1])]
    for item in resolved.layers:
        direction = {ArchitectureComponent.DOWNSAMPLE: 1, ArchitectureComponent.UPSAMPLE: -1}.get(item.gene.component)
        if direction is None:
            runs[-1].positions.append(item.position)
        else:
            runs[-1].resampler, runs[-1].direction = item.position, direction
            runs.append(_Run(runs[-1].level + direction, []))
    runs[-1].positions.append(len(resolved.layers))
    return runs


def _columns(runs: Sequence[_Run]) -> list[_Column]:
    columns = [_Column(descending=True)]
    for run in runs:
        column = columns[-1]
        leaves_down = run.direction > 0
        if column.descending == leaves_down:
            column.on_band[run.level] = run.positions
        else:
            half = (len(run.positions) + 1) // 2
            column.on_band[run.level] = run.positions[:half]
            column = _Column(descending=leaves_down)
            column.on_band[run.level] = run.positions[half:]
            columns.append(column)
        if run.resampler is not None:
            column.on_step[run.level if leaves_down else run.level - 1] = run.resampler
    return columns


def _place(columns: Sequence[_Column], xs: Sequence[float], stem_size: int) -> tuple[dict[int, Box], tuple[Band, ...]]:
    deepest = max(level for column in columns for level in column.on_band)
    boxes: dict[int, Box] = {}
    bands: list[Band] = []
    top = 0.0
    for level in range(deepest + 1):
        rows = max(len(column.on_band.get(level, ())) for column in columns)
        for index, column in enumerate(columns):
            stack = column.on_band.get(level, [])
            for row, position in enumerate(stack if column.descending else reversed(stack)):
                y = top + PADDING + row * (BOX_HEIGHT + GAP)
                boxes[position] = Box(position, index, xs[index], y, BOX_HEIGHT)
        height = 2 * PADDING + max(0.0, rows * (BOX_HEIGHT + GAP) - GAP)
        bands.append(Band(stem_size >> level, top, height))
        top += height
        for index, column in enumerate(columns):
            if level in column.on_step:
                boxes[column.on_step[level]] = Box(column.on_step[level], index, xs[index], top + GAP / 2, STEP_HEIGHT)
        top += STEP_HEIGHT + GAP
    return boxes, tuple(bands)


def _trunk(first: Box, second: Box, columns: Sequence[_Column]) -> tuple[Point, ...]:
    if first.column == second.column:
        downwards = first.y < second.y
        start, end = (first.bottom, second.y) if downwards else (first.y, second.bottom)
        return ((first.center, start), (second.center, end))
    if columns[first.column].descending:
        start, end = first.bottom, second.bottom
        lane = max(start, end) + TURN
    else:
        start, end = first.y, second.y
        lane = min(start, end) - TURN
    return ((first.center, start), (first.center, lane), (second.center, lane), (second.center, end))


def _lanes(resolved: ResolvedGenome, column_of: dict[int, int]) -> dict[int, dict[tuple[int, int], int]]:
    """Number the lanes of connections inside each column, the shortest innermost, none shared where they overlap."""
    inside: dict[int, list[tuple[int, int]]] = {}
    for item in resolved.layers:
        for edge in item.edges:
            if column_of[edge.source] == column_of[item.position]:
                inside.setdefault(column_of[item.position], []).append((edge.source, item.position))
    lanes: dict[int, dict[tuple[int, int], int]] = {}
    for column, pairs in inside.items():
        taken: dict[tuple[int, int], int] = {}
        for pair in sorted(pairs, key=lambda pair: (pair[1] - pair[0], pair)):
            overlapping = {lane for other, lane in taken.items() if other[0] <= pair[1] and pair[0] <= other[1]}
            taken[pair] = next(lane for lane in range(len(pairs)) if lane not in overlapping)
        lanes[column] = taken
    return lanes


def _margin(lanes: dict[int, dict[tuple[int, int], int]], column: int, columns: int) -> float:
    outside = column in (0, columns - 1)
    used = lanes.get(column, {})
    return FIRST_LANE + LANE * (max(used.values()) + 1) if outside and used else 12.0


def _gutter(lanes: dict[int, dict[tuple[int, int], int]], column: int, columns: int) -> float:
    inner = lanes.get(column, {}) if 0 < column < columns - 1 else {}
    return GUTTER + (LANE * (max(inner.values()) + 1) if inner else 0.0)


@dataclass(frozen=True)
class _End:
    """One end of a connection at a side of a box, with the box at its other end."""

    box: int
    leftwards: bool
    edge: tuple[int, int]
    other: int


def _routes(
    resolved: ResolvedGenome,
    boxes: dict[int, Box],
    lanes: dict[int, dict[tuple[int, int], int]],
    columns: int,
) -> tuple[Route, ...]:
    edges = [(edge.source, item.position, edge.merge) for item in resolved.layers for edge in item.edges]
    ports = _ports(edges, boxes)
    distant = [edge for edge in edges if boxes[edge[1]].column - boxes[edge[0]].column > 1]
    routes = []
    for source, target, merge in edges:
        start, end = ports[source, (source, target)], ports[target, (source, target)]
        first, second = boxes[source], boxes[target]
        apart = second.column - first.column
        if apart == 0:
            offset = FIRST_LANE + LANE * lanes[first.column][source, target]
            lane = start[0] + (-offset if first.column == 0 else offset)
            routes.append(Route(source, target, merge, (start, (lane, start[1]), (lane, end[1]), end)))
        elif apart == 1:
            routes.append(Route(source, target, merge, (start, end), curved=True))
        else:
            spread = (distant.index((source, target, merge)) % 5 - 2) * 3.0
            height = second.y - GAP / 2 + spread
            out, back = start[0] + 26 + spread, end[0] - 30 + spread
            points = (start, (out, start[1]), (out, height), (back, height), (back, end[1]), end)
            routes.append(Route(source, target, merge, points))
    return tuple(routes)


def _ports(edges: Sequence[tuple[int, int, str]], boxes: dict[int, Box]) -> dict[tuple[int, tuple[int, int]], Point]:
    """Spread the ends of connections over the sides of their boxes, in an order that keeps them from crossing."""
    sides: dict[tuple[int, bool], list[_End]] = {}
    for source, target, _ in edges:
        inside = boxes[source].column == boxes[target].column
        outer_left = boxes[source].column == 0
        for box, other, leftwards in (
            (source, target, inside and outer_left),
            (target, source, outer_left if inside else True),
        ):
            sides.setdefault((box, leftwards), []).append(_End(box, leftwards, (source, target), other))
    ports: dict[tuple[int, tuple[int, int]], Point] = {}
    for (box, leftwards), ends in sides.items():
        place = boxes[box]
        ends.sort(key=lambda end: _port_order(place, boxes[end.other]))
        for index, end in enumerate(ends):
            y = place.y + place.height * (index + 1) / (len(ends) + 1)
            ports[box, end.edge] = (place.x if leftwards else place.x + BOX_WIDTH, y)
    return ports


def _port_order(box: Box, other: Box) -> tuple[int, float]:
    distance = other.middle - box.middle
    if box.column != other.column:
        return (1, distance) if distance else (1, 0.0)
    # Beside a column the longer of two lanes lies further out: above, the shorter comes first; below, the longer.
    return (0, -distance) if distance < 0 else (2, -distance)
