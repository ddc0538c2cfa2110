"""Signed texts: a request id that says which version answered, and a cookie that says who asks."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final

from itsdangerous import BadData, URLSafeTimedSerializer
from itsdangerous import Signer as ItsSigner
from itsdangerous.encoding import base64_encode

from evodiff.deployment.web.secret_files import secret_file
from evodiff.errors import EvodiffError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.deployment.settings import ServingSettings

KEY_FILE: Final = "signing.key"
LONGEST: Final = 2048  # characters of a signed text that is looked at at all
REQUEST_FIELDS: Final = ("request", "version", "arm", "rollout", "client")

_SHORTEST_KEY = 32


class BadSignature(EvodiffError, ValueError):  # noqa: N818 - reads as the fact it states
    """A text was not signed by this service, was changed, or is too old."""


class Signer:
    """Signs small JSON objects so that they may go out and come back; what they say can be read by anyone.

    ``purpose`` keeps texts apart: one signed for one purpose is refused for another.
    """

    def __init__(self, key: str, purpose: str = "request") -> None:
        if len(key) < _SHORTEST_KEY:
            raise SettingsError(
                f"Signing key: expected at least {_SHORTEST_KEY} characters, found {len(key)}.",
                remedy="Take a longer one, or none: a file with a new key is made.",
            )
        self._key = key
        self._serializer = _Serializer(key, salt=f"evodiff.{purpose}")

    @classmethod
    def from_settings(cls, settings: ServingSettings, purpose: str = "request") -> Signer:
        """Take the key from the variable, else from the file, which is made where there is none.

        Raises:
            SettingsError: the key is too short, or others may read its file.
        """
        if settings.signing_key is not None:
            return cls(settings.signing_key, purpose)
        return cls(secret_file(settings.secrets_dir / KEY_FILE, lambda: secrets.token_hex(32)).strip(), purpose)

    def for_purpose(self, purpose: str) -> Signer:
        """Return a signer with the same key for another purpose."""
        return Signer(self._key, purpose)

    def sign(self, fields: Mapping[str, Any]) -> str:
        """Return fields as a signed text of letters that a header, a cookie and an address can hold.

        Those of a request are :data:`REQUEST_FIELDS`; ``client`` is hashed.
        """
        text: str = self._serializer.dumps(dict(fields))
        return text

    def verify(self, text: str, *, max_age_seconds: int | None = None) -> dict[str, Any]:
        """Return the fields of a signed text.

        Raises:
            BadSignature: it was not signed by this key for this purpose, or is older than ``max_age_seconds``.
        """
        try:
            if len(text) > LONGEST:
                raise BadData(f"more than {LONGEST} characters")
            fields = self._serializer.loads(text.encode("ascii"), max_age=max_age_seconds)
            if not isinstance(fields, dict):
                raise BadData("no object")
        except (BadData, UnicodeError, RecursionError) as error:
            raise BadSignature(
                f"Expected a text that this service signed, found another: {type(error).__name__}.",
                remedy="Send it as it came, in time.",
            ) from error
        return fields


class _Serializer(URLSafeTimedSerializer):
    """What signs each answer: one signer for all, and no compression, which costs more than these few letters."""

    def __init__(self, key: str, salt: str) -> None:
        super().__init__(key, salt=salt)
        self._signer = super().make_signer()

    def make_signer(self, salt: str | bytes | None = None) -> ItsSigner:
        return self._signer if salt is None else super().make_signer(salt)

    def dump_payload(self, obj: Any) -> bytes:
        return base64_encode(json.dumps(obj, separators=(",", ":")))
