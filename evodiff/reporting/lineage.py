"""Where the front comes from: its ancestors as a graph, generations as columns, drawn as SVG that stands alone."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from evodiff.reporting.markup import Markup, element, join
from evodiff.reporting.notation import operator_title, short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.reporting.view import CandidateView, RunView

NODE_WIDTH = 118.0
NODE_HEIGHT = 34.0
COLUMN = 190.0
ROW = 46.0
WAYPOINT_ROW = 14.0
TOP = 40.0
_SWEEPS = 6
_STYLE: Final = """
.lineage{--ink:#1b2330;--faint:#5b6675;--node:#fff;--edge:#b3bdca;--front:#0072b2;--star:#b8480a;--rule:#e6eaf0}
@media (prefers-color-scheme:dark){.lineage{--ink:#e8edf4;--faint:#a3afbf;--node:#1d2632;--edge:#4a586b;--front:#6cc0f2;
--star:#f59a56;--rule:#232d3a}}
.lineage text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--ink)}
.lineage .id{font-size:11.5px;font-weight:600;
font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.lineage .operator{font-size:10px;fill:var(--faint)}
.lineage .generation{font-size:12px;fill:var(--faint);font-weight:600}
.lineage .node rect{fill:var(--node);stroke:var(--edge)}.lineage .edge{fill:none;stroke:var(--edge);stroke-width:1.4}

.lineage .front rect{stroke:var(--front);stroke-width:2.2}.lineage .champion rect{stroke:var(--star);stroke-width:3}
.lineage .rule{stroke:var(--rule)}
.lineage.picked .node,.lineage.picked .edge{opacity:.22}.lineage .node.lit,.lineage .edge.lit{opacity:1!important}
.lineage .edge.lit{stroke:var(--front);stroke-width:2.2}
"""


@dataclass(frozen=True)
class Node:
    """A candidate's box, its corner at (x, y)."""

    id: str
    x: float
    y: float


@dataclass(frozen=True)
class Lineage:
    """Boxes, and for each (parent, child) the points its edge passes; ``columns`` gives the x of each generation."""

    nodes: tuple[Node, ...]
    edges: Mapping[tuple[str, str], tuple[tuple[float, float], ...]]
    columns: tuple[tuple[int, float], ...]
    width: float
    height: float


def ancestors(candidates: Sequence[CandidateView], members: Sequence[str]) -> list[CandidateView]:
    """Return ``members`` and everything they descend from, in the order of ``candidates``."""
    known = {item.id: item for item in candidates}
    found: set[str] = set()
    waiting = [identifier for identifier in members if identifier in known]
    while waiting:
        identifier = waiting.pop()
        if identifier not in found:
            found.add(identifier)
            waiting += [parent for parent in known[identifier].parents if parent in known]
    return [item for item in candidates if item.id in found]


# (id, False, column) of a candidate; (parent, True, column) where edges from that parent pass through, as one line.
_Slot = tuple[str, bool, int]


def lay_out(candidates: Sequence[CandidateView]) -> Lineage:
    """Place the candidates: a column a generation, rows by the mean row of their neighbours (Sugiyama et al. 1981)."""
    generations = sorted({item.generation for item in candidates})
    column = {generation: index for index, generation in enumerate(generations)}
    chains = _chains(candidates, column)
    layers: list[list[_Slot]] = [[] for _ in generations]
    for item in candidates:
        layers[column[item.generation]].append((item.id, False, column[item.generation]))
    for slot in dict.fromkeys(slot for chain in chains.values() for slot in chain[1:-1]):
        layers[slot[2]].append(slot)
    _order(layers, chains)
    ys, height = _rows(layers)
    place = {slot: (slot[2] * COLUMN + 12, ys[slot]) for layer in layers for slot in layer}
    nodes = tuple(Node(slot[0], *place[slot]) for layer in layers for slot in layer if not slot[1])
    edges = {
        pair: tuple(
            point for index, slot in enumerate(chain) for point in _passes(slot, place[slot], index, len(chain))
        )
        for pair, chain in chains.items()
    }
    columns = tuple((generation, index * COLUMN + 12) for generation, index in column.items())
    return Lineage(nodes, edges, columns, max(1, len(generations)) * COLUMN - COLUMN + NODE_WIDTH + 24, height)


def _chains(candidates: Sequence[CandidateView], column: Mapping[int, int]) -> dict[tuple[str, str], list[_Slot]]:
    """Return each edge as its parent, a waypoint in every column between, and its child."""
    known = {item.id: item for item in candidates}
    chains: dict[tuple[str, str], list[_Slot]] = {}
    for child in candidates:
        for parent in child.parents:
            if parent not in known:
                continue
            first, last = column[known[parent].generation], column[child.generation]
            if first < last:  # a ledger never says otherwise; a damaged one must not break the page
                passing = [(parent, True, index) for index in range(first + 1, last)]
                chains[parent, child.id] = [(parent, False, first), *passing, (child.id, False, last)]
    return chains


def _order(layers: list[list[_Slot]], chains: Mapping[tuple[str, str], Sequence[_Slot]]) -> None:
    before: dict[_Slot, list[_Slot]] = {}
    after: dict[_Slot, list[_Slot]] = {}
    for chain in chains.values():
        for first, second in itertools.pairwise(chain):
            if second not in after.setdefault(first, []):  # edges that pass together count once
                before.setdefault(second, []).append(first)
                after[first].append(second)
    for sweep in range(_SWEEPS):
        forwards = sweep % 2 == 0
        neighbours = before if forwards else after
        for layer in layers[1:] if forwards else layers[-2::-1]:
            row = {slot: index / max(1, len(other) - 1) for other in layers for index, slot in enumerate(other)}
            mean = {
                slot: sum(row[near] for near in neighbours.get(slot, [slot])) / len(neighbours.get(slot, [slot]))
                for slot in layer
            }
            layer.sort(key=lambda slot: (mean[slot], slot))


def _rows(layers: Sequence[Sequence[_Slot]]) -> tuple[dict[_Slot, float], float]:
    heights = [sum(WAYPOINT_ROW if slot[1] else ROW for slot in layer) for layer in layers]
    tallest = max(heights, default=0.0)
    ys: dict[_Slot, float] = {}
    for layer, height in zip(layers, heights, strict=True):
        y = TOP + (tallest - height) / 2
        for slot in layer:
            ys[slot] = y
            y += WAYPOINT_ROW if slot[1] else ROW
    return ys, TOP + tallest + 8


def _passes(slot: _Slot, place: tuple[float, float], index: int, length: int) -> list[tuple[float, float]]:
    x, y = place
    if index == 0:
        return [(x + NODE_WIDTH, y + NODE_HEIGHT / 2)]
    if index == length - 1:
        return [(x, y + NODE_HEIGHT / 2)]
    return [(x, y + WAYPOINT_ROW / 2), (x + NODE_WIDTH, y + WAYPOINT_ROW / 2)]


def lineage_svg(view: RunView) -> Markup | None:
    """Draw the ancestors of the front, or return ``None`` where there is no front."""
    family = ancestors(view.candidates, [item.id for item in view.front])
    if not family:
        return None
    places = lay_out(family)
    by_id = {item.id: item for item in family}
    return element(
        "svg",
        element("title", "Ancestors of the front"),
        element("style", Markup(_STYLE)),
        [_column_head(generation, x, places.height) for generation, x in places.columns],
        [
            element("path", d=_curve(points), class_="edge", data_from=parent, data_to=child)
            for (parent, child), points in places.edges.items()
        ],
        [_node(node, by_id[node.id], view) for node in places.nodes],
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {places.width:.0f} {places.height:.0f}",
        width=f"{places.width:.0f}",
        height=f"{places.height:.0f}",
        class_="lineage",
        role="img",
        aria_label=f"Lineage of {len(view.front)} candidates on the front: {len(family)} candidates",
    )


def _column_head(generation: int, x: float, height: float) -> Markup:
    center = x + NODE_WIDTH / 2
    return join(
        [
            element("line", x1=center, x2=center, y1=28, y2=f"{height:.0f}", class_="rule"),
            element("text", f"generation {generation}", x=center, y=18, text_anchor="middle", class_="generation"),
        ]
    )


def _curve(points: Sequence[tuple[float, float]]) -> str:
    parts = [f"M{points[0][0]:.0f} {points[0][1]:.1f}"]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if y0 == y1:
            parts.append(f"L{x1:.0f} {y1:.1f}")
        else:
            middle = (x0 + x1) / 2
            parts.append(f"C{middle:.0f} {y0:.1f} {middle:.0f} {y1:.1f} {x1:.0f} {y1:.1f}")
    return "".join(parts)


def _node(node: Node, candidate: CandidateView, view: RunView) -> Markup:
    marks = ["node", "front" if candidate.on_front else "", "champion" if candidate.id == view.champion else ""]
    star = " ★" if candidate.id == view.champion else ""
    operator = operator_title(candidate.operator)
    operator = operator if len(operator) <= 18 else operator[:17] + "…"
    parents = f" of {', '.join(map(short, candidate.parents))}" if candidate.parents else ""
    return element(
        "g",
        element("title", f"{candidate.id}: {operator_title(candidate.operator)}{parents}"),
        element("rect", x=node.x, y=f"{node.y:.1f}", width=NODE_WIDTH, height=NODE_HEIGHT, rx=8),
        element("text", short(candidate.id) + star, x=node.x + 10, y=f"{node.y + 14.5:.1f}", class_="id"),
        element("text", operator, x=node.x + 10, y=f"{node.y + 27.5:.1f}", class_="operator"),
        class_=" ".join(mark for mark in marks if mark),
        data_id=candidate.id,
    )
