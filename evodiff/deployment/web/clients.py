"""Who asks, as far as an arm, a share of the queue and a vote are concerned: a token, or one of those it speaks for."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from fastapi import HTTPException

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from evodiff.deployment.web.tokens import Caller

CLIENT_HEADER: Final = "X-Client-Id"

CLIENT_PARAMETER: Final[Mapping[str, Any]] = {
    "name": CLIENT_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    "description": "which of its own clients an application asks for; its token needs the scope clients",
}

_ID: Final = re.compile(r"[!-~]{1,128}")


def client_name(request: Request, caller: Caller) -> str:
    """Return the name of a client: the subject of its token, with ``X-Client-Id`` where it sends one.

    Whoever may make up clients may take the whole queue, and vote as often as it asks for images: that takes a token
    of scope ``clients``, which none has that is made by itself.

    Raises:
        HTTPException: 403 where the token does not have it, 422 where the id is none.
    """
    given = request.headers.get(CLIENT_HEADER)
    if given is None:
        return f"token:{caller.subject}"
    if "clients" not in caller.scopes:
        raise HTTPException(
            403, f"{CLIENT_HEADER}: expected a token of scope 'clients', found {sorted(caller.scopes)}. Leave it out."
        )
    if not _ID.fullmatch(given):
        raise HTTPException(
            422, f"{CLIENT_HEADER}: expected 1 to 128 visible ASCII characters, found {given[:40]!r}. Correct it."
        )
    return f"client:{given} {caller.subject}"  # an id holds no space, so no two clients have one name


def hashed_key(name: str) -> str:
    """Return 24 hex digits that stand for a client, so that they may be stored and shown."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:24]
