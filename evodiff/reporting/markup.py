"""HTML and SVG from nested calls. Text is escaped unless it is :class:`Markup`: no name in the data becomes code."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
# What XML forbids, so that diagrams stay well-formed whatever a layer is called.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that already is HTML or SVG."""

    __slots__ = ()


Child = str | int | None | Iterable["Child"]


def escape(text: object) -> Markup:
    """Return ``text`` as markup in which nothing is active."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_FORBIDDEN.sub("\ufffd", str(text)), quote=True))


def element(tag: str, *children: Child, **attributes: object) -> Markup:
    """Return an element. ``data_id=`` becomes ``data-id``, ``class_=`` is ``class``; ``None`` and ``False`` vanish."""
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        parts.append(f" {name}" if value is True else f' {name}="{escape(value)}"')
    parts.append(">")
    if tag not in _VOID:
        parts.append(join(children))
        parts.append(f"</{tag}>")
    return Markup("".join(parts))


def join(children: Iterable[Child]) -> Markup:
    """Return all children, at any depth, one after the other."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, str | int):
            parts.append(escape(child))
        else:
            parts.append(join(child))
    return Markup("".join(parts))


def plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: mappings, lists, and ``None`` for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "item"):  # a numpy scalar
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def embedded_json(value: Any) -> Markup:
    """Return ``value`` as JSON that can stand inside a script element."""
    text = json.dumps(plain(value), allow_nan=False, sort_keys=True, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
