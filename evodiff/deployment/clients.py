"""Who asks, as far as an arm, a share of the queue and a vote are concerned: a hashed key."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from evodiff.deployment.signing import BadSignature

if TYPE_CHECKING:
    from starlette.requests import Request

    from evodiff.deployment.signing import Signer

COOKIE: Final = "evodiff_client"


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


def hashed_key(kind: str, name: str) -> str:
    """Return 24 hex digits that stand for a client."""
    return hashlib.sha256(f"{kind}:{name}".encode(errors="surrogatepass")).hexdigest()[:24]
