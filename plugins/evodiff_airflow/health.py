"""A page for people who may read the DAG: does the watcher of alerts poll, and could it?

The API server alone imports this, when somebody asks for the page. It is mounted beside Airflow's own application,
whose login does not cover it: the dependency below asks for the same token, header or cookie, as Airflow's own routes.
"""

from __future__ import annotations

import html
import json
import time
from typing import Any

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse

from evodiff.monitoring.health import WatcherHealth, watcher_health

DAG = "reoptimize_on_alert"
ASSET = "evodiff-alerts"
HEARTBEAT = "heartbeat"
READERS = [Depends(requires_access_dag(method="GET", param_dag_id=DAG))]

app = FastAPI(title="evodiff", docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/watcher.json", dependencies=READERS)
def watcher() -> dict[str, Any]:
    """Return whether the watcher of alerts works, as JSON."""
    return _health().to_json()


@app.get("/watcher", dependencies=READERS, response_class=HTMLResponse)
def page() -> str:
    """Return the same as a page."""
    found = _health()
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in found.lines)
    colour = "#1a7f37" if found.well else "#b42318"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Alert watcher</title>'
        '<meta http-equiv="refresh" content="15">'
        "<body style='font: 16px/1.5 system-ui, sans-serif; margin: 2rem; color: CanvasText; background: Canvas; "
        "color-scheme: light dark'>"
        f"<h1>Alert watcher</h1><p style='color: {colour}; font-weight: 600'>{html.escape(found.headline)}</p>"
        f"<ul>{lines}</ul></body></html>"
    )


def _health() -> WatcherHealth:
    heartbeat, paused = _stored()
    return watcher_health(heartbeat, paused=paused, now=time.time())


def _stored() -> tuple[dict[str, Any] | None, bool | None]:
    """Return what the watcher said last, and whether its DAG is paused; None where Airflow knows of none."""
    from airflow.models.asset import AssetModel
    from airflow.models.asset_state_store import AssetStateStoreModel as Stored
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == DAG))
        asked = select(Stored.value).join(AssetModel, AssetModel.id == Stored.asset_id)
        text = session.scalar(asked.where(AssetModel.name == ASSET, Stored.key == HEARTBEAT))
    return (None if text is None else json.loads(text)), paused
