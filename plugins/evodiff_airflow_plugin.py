"""Registers evodiff's page in Airflow: does the watcher of alerts poll?"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


class HealthApplication:
    """The page's application, imported when it is first asked for: schedulers and tasks load plugins too."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        from evodiff_airflow.health import app

        await app(scope, receive, send)


class EvodiffPlugin(AirflowPlugin):
    """``/evodiff/watcher`` and its entry in the menu."""

    name = "evodiff"
    fastapi_apps = [{"app": HealthApplication(), "url_prefix": "/evodiff", "name": "evodiff"}]  # noqa: RUF012 - Airflow's
    external_views = [  # noqa: RUF012 - Airflow's
        {
            "name": "Alert watcher",
            "href": "/evodiff/watcher",
            "destination": "nav",
            "category": "browse",
            "url_route": "evodiff-watcher",
        }
    ]
