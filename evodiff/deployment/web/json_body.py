"""Read the JSON of a request from somebody who is not trusted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastapi import HTTPException
from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request

M = TypeVar("M", bound=BaseModel)

MAX_BODY_BYTES: Final = 65536
MAX_DEPTH: Final = 16


async def read_json(request: Request, model: type[M], *, max_bytes: int = MAX_BODY_BYTES) -> M:
    """Return the body of a request as a model.

    Raises:
        HTTPException: 413 where it is too long, 415 where it does not say that it is JSON (which no page of another
            site can say unasked), 422 where it is no JSON, not finite, too deep or not what the model describes.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"Expected the content type application/json, found {kind[:80]!r}. Send JSON.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise HTTPException(413, f"Expected a body of at most {max_bytes} bytes. Send less.")
    try:
        content = json.loads(body, parse_constant=_refuse)
        _check_depth(content)
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part)[:80] for part in first["loc"]).encode("ascii", "backslashreplace").decode()
        raise HTTPException(422, f"{where or 'body'}: {first['msg']}. Correct it.") from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"Expected JSON with finite numbers, at most {MAX_DEPTH} deep. Correct it.") from error


def body_schema(model: type[BaseModel]) -> Mapping[str, Any]:
    """Return what OpenAPI says of a body that :func:`read_json` reads."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _check_depth(content: Any, depth: int = 1) -> None:
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            _check_depth(item, depth + 1)
