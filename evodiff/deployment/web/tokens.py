"""Tokens: who may use the service, who may say for which of its own clients, and who may release.

Their file is JSON: ``[{"subject": NAME, "scopes": ["use", "release"], "token": TEXT}, ...]``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from fastapi import HTTPException, Request

from evodiff.deployment.web.secret_files import secret_file
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from evodiff.deployment.settings import ServingSettings

Scope = Literal["use", "clients", "release"]
SCOPES: Final[tuple[Scope, ...]] = ("use", "clients", "release")
TOKENS_FILE: Final = "tokens.json"
LOOKING: Final = ("GET", "HEAD")  # methods that change nothing

_SHORTEST = 16  # characters of a token
_LONGEST_HEADER = 4096


@dataclass(frozen=True)
class Caller:
    """Who sent a request: the token's ``subject``, and what it may do."""

    subject: str
    scopes: frozenset[str]


class Tokens:
    """The tokens that are known. Only their digests are kept, and each is compared in constant time."""

    def __init__(self, known: Iterable[tuple[str, Caller]]) -> None:
        self._known = [(_digest(token), caller) for token, caller in known]

    @classmethod
    def from_settings(cls, settings: ServingSettings) -> Tokens:
        """Read the variable, else the file, which is made with one token for everything where there is none.

        Raises:
            SettingsError: they are not as described above, or others may read the file.
        """
        if settings.tokens is not None:
            return cls.from_json(settings.tokens, "EVODIFF_SERVE_TOKENS")
        file = settings.secrets_dir / TOKENS_FILE
        return cls.from_json(secret_file(file, _first_tokens), str(file))

    @classmethod
    def from_json(cls, text: str, where: str) -> Tokens:
        """Read a list of tokens; ``where`` it stands is for messages.

        Raises:
            SettingsError: it is not as described above.
        """
        try:
            content = json.loads(text)
            if not isinstance(content, list):
                raise TypeError("no list")
            return cls([_read(entry) for entry in content])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SettingsError(
                f"{where}: expected a list of subject, scopes ({', '.join(SCOPES)}) and token of at least {_SHORTEST} "
                f"characters, found something else ({type(error).__name__}).",
                remedy="Correct it, or remove it: a file with a new token is made.",
            ) from error

    def caller(self, authorization: str | None, method: str = "POST") -> Caller | None:
        """Return who sent an ``Authorization: Bearer TOKEN`` header, None where nobody who is known.

        To look (GET, HEAD) a token may also be the password of HTTP's basic authentication, which browsers ask for. Not
        to act: they send it along with what other sites make them send.
        """
        token = _token((authorization or "")[:_LONGEST_HEADER], basic=method in LOOKING)
        if not token:
            return None
        given = _digest(token)
        found = None
        for digest, caller in self._known:  # all of them: the time tells nothing of which it was
            if hmac.compare_digest(digest, given):
                found = caller
        return found

    def require(self, scope: Scope | None) -> Callable[[Request], Awaitable[Caller]]:
        """Return a dependency of FastAPI that lets callers of a scope pass: others get 401 or 403.

        None lets everybody pass who is known.
        """

        async def permitted(request: Request) -> Caller:  # in the event loop: it waits for nothing
            caller = self.caller(request.headers.get("authorization"), request.method)
            if caller is None:
                raise HTTPException(401, UNKNOWN, headers={"WWW-Authenticate": ", ".join(challenges(request.method))})
            if scope is not None and scope not in caller.scopes:
                raise HTTPException(
                    403, f"Expected a token of scope {scope!r}, found {sorted(caller.scopes)}. Use another token."
                )
            return caller

        return permitted


UNKNOWN: Final = (
    "Expected the header `Authorization: Bearer TOKEN` with a known token. `evodiff serve` says where they are."
)


def challenges(method: str) -> tuple[str, ...]:
    """Return the ways to show a token with a method, each for a header of its own.

    Chromium reads a ``WWW-Authenticate`` header as one way: behind ``Bearer,`` it would find no password to ask for.
    """
    return ("Bearer", 'Basic realm="evodiff", charset="UTF-8"') if method in LOOKING else ("Bearer",)


def _read(entry: dict[str, Any]) -> tuple[str, Caller]:
    token, subject, scopes = entry["token"], entry["subject"], entry["scopes"]
    if not isinstance(token, str) or len(token) < _SHORTEST or not isinstance(subject, str) or not subject:
        raise ValueError("subject or token")
    if not isinstance(scopes, list) or not set(scopes) <= set(SCOPES):
        raise ValueError("scopes")
    return token, Caller(subject, frozenset(scopes))


def _first_tokens() -> str:
    entry = {"subject": "owner", "scopes": ["use", "release"], "token": secrets.token_urlsafe(32)}
    return json.dumps([entry], indent=1) + "\n"


def _token(authorization: str, *, basic: bool) -> str:
    kind, _, given = authorization.partition(" ")
    if kind.lower() == "basic" and basic:
        try:
            return base64.b64decode(given, validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return given.strip() if kind.lower() == "bearer" else ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
