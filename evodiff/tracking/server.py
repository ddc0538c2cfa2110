"""The connection to an MLflow server: short patience, no telemetry, errors that say what to do."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from evodiff.errors import EvodiffError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

# A server that refuses costs a moment, one that is silent costs PATIENCE_SECONDS twice; a user's own values come first.
PATIENCE_SECONDS = 15
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(PATIENCE_SECONDS),
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
SERVER_ERROR = 500  # and above
_TOO_MANY_REQUESTS = 429


class TrackingUnreachable(EvodiffError):  # noqa: N818 - a state of the world, not a fault of the call
    """The MLflow server does not answer, or says that it cannot now."""


class TrackingError(EvodiffError):
    """The MLflow server refuses what was asked."""


@contextmanager
def connected(tracking_uri: str) -> Iterator[Any]:
    """Hold an ``MlflowClient``; what MLflow raises inside leaves as an error of ours.

    Raises:
        SettingsError: ``tracking_uri`` is no address of a server.
        TrackingUnreachable: the server is down, or becomes so.
        TrackingError: the server refuses something, or MLflow is not installed.
    """
    check_address(tracking_uri)
    with _environment():
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
            from requests import RequestException
        except ImportError as error:
            raise TrackingError(
                f"MLflow is not installed: {error}.", remedy="Install it: pip install 'evodiff-pipeline[pipeline]'."
            ) from error
        try:
            yield MlflowClient(tracking_uri, registry_uri=tracking_uri)
        except MlflowException as error:
            raise _translated(tracking_uri, status_of(error), error) from error
        except RequestException as error:
            status = 503 if error.response is None else error.response.status_code
            raise _translated(tracking_uri, status, error) from error


def check_address(tracking_uri: str) -> str:
    """Return the address without a user's name and password, as messages may show it.

    Raises:
        SettingsError: it is not that of an HTTP server.
    """
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            f"Not a tracking server: expected an address such as http://127.0.0.1:5000, found {tracking_uri!r}.",
            remedy="Start one by `mlflow server` and name it by --tracking-uri or EVODIFF_TRACKING_URI.",
        )
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def is_error(error: Exception, code: str) -> bool:
    """Tell whether an MLflow error has a code such as ``RESOURCE_ALREADY_EXISTS``."""
    return getattr(error, "error_code", None) == code


def status_of(error: Any) -> int:
    """Return the HTTP status that an MLflow error stands for; 500 where the server gave no answer."""
    return int(error.get_http_status_code())


@contextmanager
def _environment() -> Iterator[None]:
    """Set what MLflow reads at every request, for this call only."""
    ours = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _translated(tracking_uri: str, status: int, error: Exception) -> EvodiffError:
    address = check_address(tracking_uri)
    said = str(error).replace(tracking_uri, address).partition("\n")[0].partition(" failed with exception")[0][:300]
    if status >= SERVER_ERROR or status == _TOO_MANY_REQUESTS:
        return TrackingUnreachable(
            f"The tracking server at {address} does not answer ({said}).",
            remedy="Start it; what it misses waits in the run, and follows with the next `evodiff track`.",
        )
    return TrackingError(
        f"The tracking server at {address} refuses (status {status}): {said}",
        remedy="Check the address, --allowed-hosts of the server, and who may write there.",
    )
