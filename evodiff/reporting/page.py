"""The frame of a page: one HTML file that holds its styles, scripts, data and Plotly, and loads nothing."""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evodiff.reporting.markup import Child, Markup, element, embedded_json, join

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The browser itself refuses whatever would reach for the network.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


def asset(name: str) -> Markup:
    """Return the text of a file in ``assets``, which is ours and therefore markup."""
    return Markup((files("evodiff.reporting") / "assets" / name).read_text(encoding="utf-8"))


@cache
def plotly_script() -> Markup:
    """Return the JavaScript of Plotly that its package ships, about 4.8 MB."""
    return Markup((files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8"))


def page(name: str, header: Child, sections: Sequence[Markup | None], data: Mapping[str, Any]) -> str:
    """Return the whole page. ``data`` is embedded as JSON; its ``figures`` are drawn into the elements of their ids.

    Without figures the page holds no Plotly.
    """
    present = [item for item in sections if item is not None]
    return "<!doctype html>\n" + element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", f"{name} · evodiff"),
            element("style", asset("report.css")),
        ),
        element(
            "body",
            element("div", header, class_="head"),
            element("nav", [_link(item) for item in present], aria_label="Sections"),
            element("main", present),
            element("script", embedded_json(data), type="application/json", id="run-data"),
            element("script", plotly_script()) if data["figures"] else None,
            element("script", asset("report.js")),
        ),
        lang="en",
    )


class Section(Markup):
    """Markup of a section that remembers its id and heading for the navigation."""

    __slots__ = ("heading", "identifier")
    identifier: str
    heading: str


def section(identifier: str, heading: str, explanation: str, *children: Child) -> Section:
    """Return a card with a heading and a sentence that says how to read it."""
    made = Section(
        element(
            "section",
            element("h2", heading),
            element("p", explanation, class_="explanation"),
            join(children),
            id=identifier,
        )
    )
    made.identifier, made.heading = identifier, heading
    return made


def _link(item: Markup) -> Markup | None:
    if not isinstance(item, Section):
        return None
    return element("a", item.identifier.capitalize(), href=f"#{item.identifier}", title=item.heading)


def chart(identifier: str, height: int) -> Markup:
    """Return the place of a figure of this id."""
    return element("div", class_="chart", id=identifier, style=f"min-height:{height}px")


def data_table(
    head: Sequence[str],
    body: Sequence[Sequence[Child]],
    *,
    numeric: set[int] = frozenset(),  # type: ignore[assignment]  # an empty frozenset is an empty set
    keys: Sequence[Sequence[Any]] | None = None,
    tall: bool = False,
) -> Markup:
    """Return a table; with ``keys``, one row of sortable values for each row, its headings sort it."""

    def cell(row: int, column: int, content: Child) -> Markup:
        key = keys[row][column] if keys is not None else None
        return element("td", content, class_="number" if column in numeric else None, data_key=key)

    return element(
        "div",
        element(
            "table",
            element(
                "thead",
                element(
                    "tr",
                    [
                        element(
                            "th",
                            element("button", text, type="button") if keys is not None else text,
                            scope="col",
                            class_="number" if column in numeric else None,
                        )
                        for column, text in enumerate(head)
                    ],
                ),
            ),
            element(
                "tbody",
                [
                    element("tr", [cell(row, column, content) for column, content in enumerate(cells)])
                    for row, cells in enumerate(body)
                ],
            ),
            class_="sortable" if keys is not None else None,
        ),
        class_="scroll tall" if tall else "scroll",
        tabindex=0,
    )


def write_page(text: str, path: Path | str) -> Path:
    """Write the page at once, so that a reader never sees half of it, and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path
