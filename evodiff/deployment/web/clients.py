"""Who asks, as far as an arm, a share of the queue and a vote are concerned: a hashed key."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from evodiff.deployment.web.signing import BadSignature

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from evodiff.deployment.web.signing import Signer

COOKIE: Final = "evodiff_client"

_YEAR_SECONDS = 365 * 86400


def client_key(request: Request, signer: Signer) -> str:
    """Return the key of a client: by the subject of its token, else by a cookie of purpose ``client`` that ``signer``
    signed (``{"client": ID}``), else by its address. It is hashed, so that it may be stored and shown.
    """
    caller = request.scope.get("state", {}).get("caller")
    if caller is not None:
        return hashed_key("subject", caller.subject)
    with suppress(BadSignature, KeyError):
        return hashed_key("cookie", str(signer.for_purpose("client").verify(request.cookies[COOKIE])["client"]))
    return hashed_key("peer", request.client.host if request.client is not None else "")


def set_client_cookie(response: Response, signer: Signer) -> None:
    """Give a browser that has no token a signed cookie, by which :func:`client_key` knows it again for a year."""
    response.set_cookie(
        COOKIE,
        signer.for_purpose("client").sign({"client": secrets.token_hex(16)}),
        max_age=_YEAR_SECONDS,
        httponly=True,
        samesite="strict",
    )


def hashed_key(kind: str, name: str) -> str:
    """Return 24 hex digits that stand for a client."""
    return hashlib.sha256(f"{kind}:{name}".encode(errors="surrogatepass")).hexdigest()[:24]
