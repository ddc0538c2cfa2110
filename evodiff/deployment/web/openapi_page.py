"""The OpenAPI description as a page to read: no script, and nothing from elsewhere."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

from fastapi import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fastapi import FastAPI

    Row = tuple[str, str, str]

_HEADERS: Final = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{font:1em ui-monospace,monospace}td code{white-space:nowrap}"
    "h2,h3{overflow-wrap:anywhere}"
    "h2{border-top:1px solid #8888;padding-top:1rem}h2,h3{font-size:1.2rem}h2 code,h3 code{font-weight:bold}"
    "table{border-collapse:collapse;width:100%;margin:1rem 0}"
    "td,th{border-bottom:1px solid #8888;padding:.25rem .75rem .25rem 0;text-align:left;vertical-align:top}"
    "@media(max-width:40rem){td,th{display:block;border:0;padding:0}tr{border-bottom:1px solid #8888}"
    "tr{display:block;padding:.25rem 0}td code{white-space:normal;overflow-wrap:anywhere}}"
)
_BOUNDS: Final = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "at most {}"),
    ("maxLength", "at most {} characters"),
)


def add_openapi_page(app: FastAPI) -> None:
    """Add ``GET /docs``; ``GET /openapi.json`` is the same for programs."""

    @app.get("/docs", include_in_schema=False)
    async def page() -> Response:
        return Response(render(app.openapi()), media_type="text/html", headers=_HEADERS)


def render(description: Mapping[str, Any]) -> str:
    """Return an OpenAPI description as HTML: how to show who asks, and what each operation takes and may answer."""
    about, components = description["info"], description.get("components", {})
    operations = "".join(
        _operation(method, path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    )
    ways = _named(components, "securitySchemes")
    schemes = _table(
        "Ways to show who asks",
        ((name, way.get("scheme") or way.get("in", ""), way.get("description", "")) for name, way in ways),
    )
    schemas = "".join(_schema(name, schema) for name, schema in _named(components, "schemas"))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(about['title'])}</title>"
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style><h1>{escape(about['title'])}</h1>"
        f"<p>{escape(about.get('description', ''))}</p>{schemes}{operations}<h2>Schemas</h2>{schemas}</html>"
    )


def _named(components: Mapping[str, Any], kind: str) -> Iterable[tuple[str, Any]]:
    found: Mapping[str, Any] = components.get(kind, {})
    return found.items()


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    ways = " or ".join(name for way in operation.get("security", ()) for name in way)
    answers = ((status, "", str(answer.get("description", ""))) for status, answer in operation["responses"].items())
    return (
        f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2><p>{escape(operation.get('summary', ''))}</p>"
        f"<p>{escape(operation.get('description', ''))}</p><p>Asks for: {escape(ways) or 'nothing'}.</p>"
        f"{_table('Takes', _taken(operation))}{_table('Answers', answers)}"
    )


def _taken(operation: Mapping[str, Any]) -> Iterator[Row]:
    for parameter in operation.get("parameters", ()):
        words = f"in the {parameter['in']}" + (f": {parameter['description']}" if "description" in parameter else "")
        yield parameter["name"], _kind(parameter["schema"], required=parameter.get("required", False)), words
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        yield from _fields(schema) if "properties" in schema else [("body", _kind(schema, required=True), "")]


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    words = f"<p>{escape(schema.get('description', ''))}</p>"
    return f"<h3 id='{escape(name)}'><code>{escape(name)}</code></h3>{words}{_table('', _fields(schema))}"


def _fields(schema: Mapping[str, Any]) -> Iterator[Row]:
    for name, field in schema.get("properties", {}).items():
        yield name, _kind(field, required=name in schema.get("required", ())), field.get("description", "")


def _kind(schema: Mapping[str, Any], *, required: bool) -> str:
    """Return what a value may be, such as "integer, at least 1, at most 64, 1 if left out"."""
    parts = [_type(schema)]
    parts += [words.format(schema[key]) for key, words in _BOUNDS if key in schema]
    if schema.get("default") is not None:
        parts.append(f"{schema['default']} if left out")
    return ", ".join(parts) + (", required" if required else "")


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(choice, required=False) for choice in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "anything"))


def _table(title: str, rows: Iterable[Row]) -> str:
    """Return rows as a table whose first column is code, without the columns that are empty; nothing without rows."""
    cells = [(f"<code>{escape(name)}</code>", escape(kind), escape(words)) for name, kind, words in rows]
    if not cells:
        return ""
    kept = [column for column in range(3) if any(row[column] for row in cells)]
    body = "".join(f"<tr>{''.join(f'<td>{row[column]}' for column in kept)}" for row in cells)
    return f"<table><tr><th colspan={len(kept)}>{escape(title)}{body}</table>" if title else f"<table>{body}</table>"
