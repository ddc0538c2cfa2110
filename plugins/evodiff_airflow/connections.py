"""Clients of Alertmanager and router, as connections of Airflow name them.

``evodiff_alertmanager`` and ``evodiff_router`` are addresses; a password is sent as a bearer token. Where there is no
connection to the router, the one that ``evodiff serve`` started on this machine is meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evodiff.deployment.release.router_client import RouterClient
    from evodiff.monitoring.alerts import Alertmanager

ALERTMANAGER = "evodiff_alertmanager"
ROUTER = "evodiff_router"


def alertmanager(conn_id: str) -> Alertmanager:
    """Return the client that a connection names."""
    from airflow.sdk import BaseHook

    return _alertmanager(BaseHook.get_connection(conn_id))


async def alertmanager_async(conn_id: str) -> Alertmanager:
    """Do what :func:`alertmanager` does, from within an event loop."""
    from airflow.sdk import BaseHook

    return _alertmanager(await BaseHook.aget_connection(conn_id))


def router(conn_id: str) -> RouterClient:
    """Return the client of the router that a connection names, else of the one of this machine."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return _router(BaseHook.get_connection(conn_id))
    except AirflowNotFoundException:
        return _router(None)


async def router_async(conn_id: str) -> RouterClient:
    """Do what :func:`router` does, from within an event loop."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return _router(await BaseHook.aget_connection(conn_id))
    except AirflowNotFoundException:
        return _router(None)


def _alertmanager(connection: Any) -> Alertmanager:
    from evodiff_notifications import address

    from evodiff.monitoring.alerts import Alertmanager

    return Alertmanager(address(connection), token=connection.password)


def _router(connection: Any | None) -> RouterClient:
    from evodiff_notifications import address

    from evodiff.deployment.release.router_client import RouterClient

    if connection is None:
        return RouterClient.of_this_machine()
    return RouterClient(address(connection), token=connection.password)
