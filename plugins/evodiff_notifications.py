"""Tell somebody: a line in the log, and a message to the address that a connection names, if there is one.

The connection is ``evodiff_alerts``: it names the address where a JSON document is posted; its password, if any, is
sent as a bearer token. ``AIRFLOW_CONN_EVODIFF_ALERTS=https://:TOKEN@host:8443/path`` is one, or in Airflow's form a
host with a schema. Where neither says http, it is https.

A message holds ``event``, ``dag``, ``run``, ``experiment``, ``task``, ``cause`` and ``link``, null where there is none.
"""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)

CONNECTION = "evodiff_alerts"
SECONDS = 10.0
WEB = ("http", "https")


def generation_failed(context: dict[str, Any]) -> None:
    """Say that a run or a task of a DAG failed: which, why as far as Airflow says, and where its log is."""
    run, task = context.get("dag_run"), context.get("ti")
    dag, run_id = context["dag"].dag_id, context["run_id"]
    error = context.get("exception")
    cause = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error or context.get("reason")
    tell(
        {
            "event": "generation_failed",
            "dag": dag,
            "run": run_id,
            "experiment": (getattr(run, "conf", None) or {}).get("experiment"),
            "task": _task_name(task),
            "cause": str(cause or "unknown"),
            "link": task.log_url if task is not None else _page(dag, run_id),
        }
    )


async def generation_hangs(**kwargs: Any) -> None:
    """Say that a generation takes longer than it may; it goes on working."""
    import asyncio

    context = kwargs.get("context", {})
    run, deadline = context.get("dag_run", {}), context.get("deadline", {})
    dag, run_id = run.get("dag_id"), run.get("dag_run_id")
    message = {
        "event": "generation_hangs",
        "dag": dag,
        "run": run_id,
        "experiment": (run.get("conf") or {}).get("experiment"),
        "task": None,
        "cause": f"it has not ended by {deadline.get('deadline_time', 'its deadline')}",
        "link": _page(dag, run_id),
    }
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
        httpx.post(address(connection), json=message, headers=headers, timeout=SECONDS).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        log.error("Could not tell %s: %s", CONNECTION, error)


def address(connection: Any) -> str:
    """Return the address that a connection names; Airflow takes the path of one for a schema, and vice versa."""
    host, schema, kind = connection.host or "", connection.schema or "", connection.conn_type
    scheme, named, rest = host.partition("://")
    if not named:
        scheme, rest = next((known for known in (schema, kind) if known in WEB), "https"), host
    place, _, path = rest.partition("/")
    if schema and schema not in WEB:
        path = schema
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme}://{place}{port}/{path}"


def _task_name(task: Any) -> str | None:
    if task is None:
        return None
    index = getattr(task, "map_index", None)
    return f"{task.task_id}[{index}]" if index is not None and index >= 0 else str(task.task_id)


def _page(dag: str | None, run_id: str | None) -> str:
    """Return the page of a run."""
    from urllib.parse import quote

    from airflow.sdk.configuration import conf

    base = conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/")
    return f"{base}/dags/{dag}/runs/{quote(str(run_id))}"
