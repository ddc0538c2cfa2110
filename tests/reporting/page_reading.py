"""Reading a page as a browser would, as far as tests need it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

LOADING = {"src", "href", "srcset", "data", "poster", "action", "xlink:href", "background"}


class Reader(HTMLParser):
    """Collects elements with attributes, the text of the page without scripts and styles, and embedded JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.data: Any = None
        self._text: list[str] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag == self._open[-1][0]:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self._text.append(data)
        elif self._open[-1][1].get("type") == "application/json":
            self.data = json.loads(data, parse_constant=_refuse)
        elif self._open[-1][0] == "script":
            self.scripts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._text).split())

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.elements if "id" in attributes]


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def read_page(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def without_variables(value: Any) -> Any:
    """Put any colour in the place of CSS variables, which the page's script does with the right one."""
    if isinstance(value, str):
        return "#0072b2" if value.startswith("var(--") else value
    if isinstance(value, list):
        return [without_variables(item) for item in value]
    if isinstance(value, dict):
        return {name: without_variables(item) for name, item in value.items()}
    return value
