"""What a run rests on: settings, digests, versions, how long it took, and how to go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evodiff.reporting.markup import Markup, element, escape, join
from evodiff.reporting.page import section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.reporting.view import RunView


def provenance(view: RunView) -> Markup:
    """Settings, digests, versions, how long it took, and how to go on."""
    tables = [
        ("Settings", list(_flat(view.settings))),
        ("Digests", list(view.digests.items())),
        ("Versions", list(view.versions.items())),
        ("Time and machine", [(name.replace("_", " "), str(value)) for name, value in view.telemetry.items()]),
    ]
    commands = [
        element("li", element("span", purpose), element("code", command, class_="command"))
        for purpose, command in view.commands
    ]
    return section(
        "provenance",
        "Settings and provenance",
        "What was frozen when the run began. The same settings, inputs and versions on the same kind of machine give "
        "the same bytes.",
        element("ul", commands, class_="commands") if commands else None,
        [
            element(
                "details",
                element("summary", f"{name} ({len(rows)})"),
                _definitions(rows),
                open=name == "Time and machine",
            )
            for name, rows in tables
            if rows
        ],
    )


def _definitions(rows: Sequence[tuple[str, str]]) -> Markup:
    return element("dl", join([join([element("dt", name), element("dd", escape(value))]) for name, value in rows]))


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            rows += _flat(value, f"{path}.")
        elif isinstance(value, list | tuple):
            rows.append((path, ", ".join(map(str, value))))
        else:
            rows.append((path, str(value)))
    return rows
