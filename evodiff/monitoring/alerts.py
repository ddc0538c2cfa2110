"""Which alerts fire now, asked of an Alertmanager: one client for the watcher, the sensor and whoever else asks.

What is silenced or inhibited is not told: somebody looks after it, or it follows from another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import httpx

from evodiff.deployment.web.client_options import client_options
from evodiff.errors import EvodiffError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TIMEOUT_SECONDS: Final = 10.0
_PATH: Final = "/api/v2/alerts"
_MATCHER: Final = re.compile(r'[a-zA-Z_][a-zA-Z0-9_]*\s*(=|!=|=~|!~)\s*"(\\.|[^"\\])*"')


class AlertmanagerError(EvodiffError):
    """An Alertmanager does not answer, refuses, or answers something else than alerts."""


@dataclass(frozen=True)
class Alert:
    """One alert that fires: ``fingerprint`` is the hash of its labels, ``starts_at`` since when (ISO 8601, UTC)."""

    fingerprint: str
    starts_at: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def identity(self) -> str:
        """What tells it from others: the same labels that fire again later are another alert."""
        return f"{self.fingerprint}@{self.starts_at}"

    @property
    def name(self) -> str:
        """Name of its rule."""
        return self.labels.get("alertname", "")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "fingerprint": self.fingerprint,
            "starts_at": self.starts_at,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Alert:
        """Read what :meth:`to_json` wrote, or an Alertmanager, which spells ``startsAt``.

        Raises:
            AlertmanagerError: it is no alert.
        """
        try:
            begun = datetime.fromisoformat(str(data.get("starts_at") or data["startsAt"])).astimezone(UTC)
            labels, annotations = dict(data["labels"]), dict(data.get("annotations") or {})
            texts = all(isinstance(text, str) for pair in (*labels.items(), *annotations.items()) for text in pair)
            if not texts or not isinstance(data["fingerprint"], str):
                raise TypeError("a label that is no text")
            return cls(data["fingerprint"], begun.isoformat(timespec="milliseconds"), labels, annotations)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AlertmanagerError(
                f"Not an alert: expected fingerprint, startsAt and labels, found {error}.",
                remedy="Name an Alertmanager of version 0.16 or newer, which speaks API version 2.",
            ) from error


class Alertmanager:
    """Client of the Alertmanager at ``url``; ``token`` is sent as a bearer token."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        transport: Any = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._options = client_options(self.url, token=token, timeout_seconds=timeout_seconds, transport=transport)

    def firing(self, matchers: Iterable[str] = ()) -> list[Alert]:
        """Return the alerts that fire and that all ``matchers`` match, such as ``arm="stable"``, oldest first.

        Raises:
            SettingsError: a matcher is none.
            AlertmanagerError: no answer that can be read, in time.
        """
        parameters = _parameters(matchers)
        try:
            with httpx.Client(**self._options) as client:
                return _read(client.get(self.url + _PATH, params=parameters))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error

    async def firing_async(self, matchers: Iterable[str] = ()) -> list[Alert]:
        """Do what :meth:`firing` does, without keeping an event loop waiting."""
        parameters = _parameters(matchers)
        try:
            async with httpx.AsyncClient(**self._options) as client:
                return _read(await client.get(self.url + _PATH, params=parameters))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> AlertmanagerError:
        return AlertmanagerError(
            f"Alertmanager {self.url} does not answer: {type(error).__name__} {error}".rstrip(" .") + ".",
            remedy="Start it, or correct its address.",
        )


def _parameters(matchers: Iterable[str]) -> list[tuple[str, str | int | float | bool | None]]:
    given = list(matchers)
    for matcher in given:
        if not _MATCHER.fullmatch(matcher):
            raise SettingsError(
                f'Not a matcher: expected NAME="VALUE" (or !=, =~, !~), found {matcher!r}.',
                remedy='Write for example alertname="LatencyOverLimit".',
            )
    wanted = [("active", "true"), ("silenced", "false"), ("inhibited", "false"), ("unprocessed", "true")]
    return [*wanted, *(("filter", matcher) for matcher in given)]


def _read(answer: httpx.Response) -> list[Alert]:
    if answer.status_code != httpx.codes.OK:
        raise AlertmanagerError(
            f"{answer.request.url}: expected status 200, found {answer.status_code}: {answer.text[:200]}",
            remedy="Correct address, token or matchers.",
        )
    try:
        found = answer.json()
    except ValueError as error:
        raise _no_list(f"no JSON: {error}") from error
    if not isinstance(found, list):
        raise _no_list(f"a {type(found).__name__}")
    return sorted((Alert.from_json(item) for item in found), key=lambda alert: (alert.starts_at, alert.fingerprint))


def _no_list(found: str) -> AlertmanagerError:
    return AlertmanagerError(f"Expected a list of alerts, found {found}.", remedy="Name an Alertmanager's address.")
