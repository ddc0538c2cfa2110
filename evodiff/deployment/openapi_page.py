"""The OpenAPI description as a page to read: no script, and nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, Final

from fastapi import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

_HEADERS: Final = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#f4f4f4;padding:.75rem;overflow:auto}"
    "h2{border-top:1px solid #ccc;padding-top:1rem}"
)


def add_openapi_page(app: FastAPI) -> None:
    """Add ``GET /docs``; ``GET /openapi.json`` is the same for programs."""

    @app.get("/docs", include_in_schema=False)
    async def page() -> Response:
        return Response(render(app.openapi()), media_type="text/html", headers=_HEADERS)


def render(description: Mapping[str, Any]) -> str:
    """Return an OpenAPI description as HTML: each operation with what it takes and how it may answer."""
    about = description["info"]
    operations = "".join(
        _operation(method, path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    )
    schemas = _json(description.get("components", {}).get("schemas", {}))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(about['title'])}</title>"
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style><h1>{escape(about['title'])}</h1>"
        f"<p>{escape(about.get('description', ''))}</p>{operations}<h2>Schemas</h2>{schemas}</html>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    asked = {key: operation[key] for key in ("parameters", "requestBody") if key in operation}
    answers = "".join(
        f"<li><code>{escape(status)}</code> {escape(str(answer.get('description', '')))}</li>"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2><p>{escape(operation.get('summary', ''))}</p>"
        f"<p>{escape(operation.get('description', ''))}</p>{_json(asked) if asked else ''}<ul>{answers}</ul>"
    )


def _json(content: object) -> str:
    return f"<pre>{escape(json.dumps(content, indent=1))}</pre>"
