"""An app whose OpenAPI description says which operations ask for a token, and what they answer without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI

from evodiff.deployment.web.limits import is_open
from evodiff.deployment.web.tokens import LOOKING

if TYPE_CHECKING:
    from collections.abc import Mapping

BEARER, PASSWORD = "bearer", "password"

SCHEMES: Final[Mapping[str, Mapping[str, str]]] = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of the service, as the header `Authorization: Bearer TOKEN`.",
    },
    PASSWORD: {
        "type": "http",
        "scheme": "basic",
        "description": "A token as the password, with any name: for a browser that looks.",
    },
}

_UNKNOWN: Final = {
    "description": "No known token.",
    "headers": {"WWW-Authenticate": {"description": "Ways to show one.", "schema": {"type": "string"}}},
}


class GuardedApi(FastAPI):
    """An app behind :class:`~evodiff.deployment.web.limits.Limits`."""

    def openapi(self) -> dict[str, Any]:
        """Return the description of all routes that are there when it is first asked for."""
        if self.openapi_schema is None:
            describe_tokens(super().openapi())
        assert self.openapi_schema is not None
        return self.openapi_schema


def describe_tokens(description: dict[str, Any]) -> None:
    """Say in an OpenAPI description where a token is asked for, which is everywhere but below the open paths."""
    schemes = description.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes.update({name: dict(scheme) for name, scheme in SCHEMES.items()})
    for path, operations in description["paths"].items():
        for method, operation in operations.items() if not is_open(path) else ():
            looks = method.upper() in LOOKING
            operation["security"] = [{name: []} for name in ((BEARER, PASSWORD) if looks else (BEARER,))]
            operation["responses"] = dict(sorted({**operation["responses"], "401": dict(_UNKNOWN)}.items()))
