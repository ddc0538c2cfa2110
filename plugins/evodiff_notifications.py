"""Tell somebody: a line in the log, and a message to the address that a connection names, if there is one.

The connection is ``evodiff_alerts``: its host (with schema) is where a JSON document is posted, its password, if any,
is sent as a bearer token.
"""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)

CONNECTION = "evodiff_alerts"
SECONDS = 10.0


def generation_failed(context: dict[str, Any]) -> None:
    """Say that a run of a DAG failed, with the reason that Airflow gives."""
    run = context.get("dag_run")
    tell(
        {
            "event": "generation_failed",
            "dag": getattr(run, "dag_id", None),
            "run": getattr(run, "run_id", context.get("run_id")),
            "reason": str(context.get("reason") or context.get("exception") or "unknown"),
        }
    )


async def generation_hangs(**kwargs: Any) -> None:
    """Say that a generation takes longer than it may; it goes on working."""
    import asyncio

    run = kwargs.get("context", {}).get("dag_run", {})
    message = {"event": "generation_hangs", "dag": run.get("dag_id"), "run": run.get("dag_run_id")}
    await asyncio.to_thread(tell, message)


def tell(message: dict[str, Any]) -> None:
    """Log a message and post it to the connection ``evodiff_alerts``; what goes wrong there is logged too."""
    import httpx
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

    log.error("evodiff: %s", message)
    try:
        connection = BaseHook.get_connection(CONNECTION)
    except (AirflowException, AirflowRuntimeError):
        log.info("No connection %s, so nobody else is told.", CONNECTION)
        return
    headers = {"Authorization": f"Bearer {connection.password}"} if connection.password else {}
    try:
        httpx.post(_address(connection), json=message, headers=headers, timeout=SECONDS).raise_for_status()
    except httpx.HTTPError as error:
        log.error("Could not tell %s: %s", CONNECTION, error)


def _address(connection: Any) -> str:
    host = connection.host or ""
    if "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    scheme, _, rest = host.partition("://")
    place, slash, path = rest.partition("/")
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme}://{place}{port}{slash}{path}"
