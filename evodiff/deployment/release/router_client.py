"""Ask a router about its release and give it commands, over HTTP."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from evodiff.deployment.web.client_options import client_options
from evodiff.errors import EvodiffError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS: Final = 10.0
PORT: Final = "8090"


class RouterError(EvodiffError):
    """A router does not answer, or refuses what it was asked."""


class StaleCommand(RouterError):  # noqa: N818 - an answer, not a fault
    """The release has moved on since the revision that a command rests on; nothing was changed."""


class RouterClient:
    """Client of the router at ``url``; ``token`` needs the scope of what is asked."""

    def __init__(self, url: str, *, token: str | None = None, transport: Any = None) -> None:
        self.url = url.rstrip("/")
        self._options = client_options(self.url, token=token, timeout_seconds=TIMEOUT_SECONDS, transport=transport)

    @classmethod
    def of_this_machine(cls, environment: Mapping[str, str] = os.environ) -> RouterClient:
        """Return the client of the router that ``evodiff serve`` starts here, with its token for releases.

        Raises:
            SettingsError: there is no such token, so none was started.
        """
        port = environment.get("EVODIFF_SERVE_PORT") or PORT
        text = environment.get("EVODIFF_SERVE_TOKENS")
        file = Path(environment.get("EVODIFF_SERVE_SECRETS_DIR") or ".evodiff/serve") / "tokens.json"
        try:
            known = json.loads(text if text is not None else file.read_text(encoding="utf-8"))
            token = next(entry["token"] for entry in known if "release" in entry["scopes"])
        except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
            raise SettingsError(
                f"Expected a token for releases in {file}, found {type(error).__name__}.",
                remedy="Start a router (evodiff serve), or name one by the connection evodiff_router.",
            ) from error
        return cls(f"http://127.0.0.1:{port}", token=token)

    def release(self) -> dict[str, Any]:
        """Return the state of the release.

        Raises:
            RouterError: no answer that can be read, in time.
        """
        with httpx.Client(**self._options) as client:
            return self._read(self._send(client, "GET", "/v1/release"))

    async def release_async(self) -> dict[str, Any]:
        """Do what :meth:`release` does, without keeping an event loop waiting."""
        try:
            async with httpx.AsyncClient(**self._options) as client:
                return self._read(await client.get(self.url + "/v1/release"))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error

    def command(self, action: str, *, key: str, revision: int | None = None, **fields: Any) -> dict[str, Any]:
        """Give a command, promote or rollback, at most once by its idempotency ``key``.

        Raises:
            StaleCommand: the release is at another revision.
            RouterError: it was refused, or nobody answers.
        """
        body = {**({} if revision is None else {"revision": revision}), **fields}
        with httpx.Client(**self._options) as client:
            answer = self._send(client, "POST", f"/v1/release/{action}", json=body, headers={"Idempotency-Key": key})
        return self._read(answer)

    def metrics(self) -> str:
        """Return what the router exports for Prometheus, as text."""
        with httpx.Client(**self._options) as client:
            answer = self._send(client, "GET", "/metrics")
        if answer.status_code != httpx.codes.OK:
            raise RouterError(f"{self.url}/metrics: found status {answer.status_code}.", remedy="Read its log.")
        return answer.text

    def _send(self, client: httpx.Client, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            return client.request(method, self.url + path, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> RouterError:
        return RouterError(
            f"Router {self.url} does not answer: {type(error).__name__} {error}".rstrip(" .") + ".",
            remedy="Start it (evodiff serve), or correct its address.",
        )

    def _read(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.status_code == httpx.codes.CONFLICT:
            raise StaleCommand(f"{answer.request.url}: {answer.text[:300]}", remedy="Look at the release again.")
        if answer.status_code != httpx.codes.OK:
            raise RouterError(
                f"{answer.request.url}: expected status 200, found {answer.status_code}: {answer.text[:300]}",
                remedy="Correct address or token.",
            )
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise RouterError(f"{answer.request.url}: expected JSON of a release.", remedy="Name a router's address.")
        return content
