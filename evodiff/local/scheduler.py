"""Airflow's REST API, as far as it is needed here: a login, pools, runs and their states."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from evodiff.local.environment import Site

USER = "admin"
SECONDS = 60.0
_WAITS_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0)


class SchedulerError(EvodiffError):
    """Airflow does not answer, or refuses what it was asked."""


class Scheduler:
    """A login to the Airflow of a site; the token is renewed when it is refused."""

    def __init__(self, site: Site) -> None:
        import httpx

        self._site = site
        self._client = httpx.Client(base_url=site.airflow_url, timeout=SECONDS)
        self._token = ""

    def healthy(self) -> bool:
        """Tell whether the API answers and scheduler, DAG processor and triggerer beat."""
        import httpx

        try:
            answer = self._client.get("/api/v2/monitor/health", timeout=5.0)
        except httpx.HTTPError:
            return False
        if answer.status_code != 200:
            return False
        parts = answer.json()
        return all(
            (parts.get(name) or {}).get("status") == "healthy"
            for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")
        )

    def dags(self) -> dict[str, bool]:
        """Return which DAGs are known, and whether each is paused."""
        found = self.ask("GET", "/api/v2/dags", params={"limit": 100})
        return {dag["dag_id"]: dag["is_paused"] for dag in found["dags"]}

    def make_pool(self, name: str, slots: int, description: str) -> None:
        """Make a pool, or give the one that is there as many slots."""
        content = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        if self.ask("POST", "/api/v2/pools", content, tolerate=(409,)) is None:
            self.ask("PATCH", f"/api/v2/pools/{name}", {**content, "pool": name}, tolerate=(422,))

    def trigger(self, dag: str, conf: Mapping[str, Any], run_id: str | None = None) -> str:
        """Start a run with a form; return its id.

        Raises:
            SchedulerError: the form is refused, or there is a run of that id.
        """
        identifier = run_id or f"manual__{datetime.now(UTC).isoformat()}"
        content = {"conf": dict(conf), "logical_date": None, "dag_run_id": identifier}
        self.ask("POST", f"/api/v2/dags/{dag}/dagRuns", content)
        return identifier

    def runs(self, dag: str) -> dict[str, str]:
        """Return the state of every run of a DAG, by id."""
        found = self.ask("GET", f"/api/v2/dags/{dag}/dagRuns", params={"limit": 100, "order_by": "-run_after"})
        return {run["dag_run_id"]: run["state"] for run in found["dag_runs"]}

    def tasks(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run as Airflow describes them."""
        found = self.ask("GET", f"/api/v2/dags/{dag}/dagRuns/{run_id}/taskInstances", params={"limit": 100})
        tasks: list[dict[str, Any]] = found["task_instances"]
        return tasks

    def log(self, dag: str, run_id: str, task: str, *, attempt: int = 1, map_index: int = -1) -> str:
        """Return what a task wrote into its log."""
        where = f"/api/v2/dags/{dag}/dagRuns/{run_id}/taskInstances/{task}/logs/{attempt}"
        found = self.ask("GET", where, params={"map_index": map_index, "full_content": True})
        return "\n".join(map(_log_line, found["content"]))

    def ask(
        self,
        method: str,
        path: str,
        content: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        tolerate: tuple[int, ...] = (),
    ) -> Any:
        """Send a request and return the JSON of the answer, None for a status in ``tolerate``.

        An answer of 5xx is asked for again, a few times. What was to be made may be there in spite of such an answer:
        then the repeated request is refused with 409, which counts as done.

        Raises:
            SchedulerError: Airflow does not answer, or answers with an error.
        """
        unsure = False
        for wait_seconds in _WAITS_SECONDS:
            answer = self._send(method, path, content, params)
            if answer.status_code == 401:
                self._token = ""  # it has run out
            elif answer.status_code < 500:
                break
            else:
                unsure = True
            time.sleep(wait_seconds)  # SQLite was locked for longer than Airflow waits
        if answer.status_code in tolerate or (unsure and answer.status_code == 409):
            return None
        if answer.is_error:
            raise SchedulerError(
                f"Airflow refused {method} {path} with {answer.status_code}: {answer.text[:500]}",
                remedy="Mend what it names and ask again.",
            )
        return answer.json() if answer.content else None

    def _send(
        self, method: str, path: str, content: Mapping[str, Any] | None, params: Mapping[str, Any] | None
    ) -> httpx.Response:
        import httpx

        self._token = self._token or self._login()
        try:
            return self._client.request(
                method, path, json=content, params=params, headers={"Authorization": f"Bearer {self._token}"}
            )
        except httpx.HTTPError as error:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> SchedulerError:
        return SchedulerError(
            f"Airflow at {self._site.airflow_url} does not answer: {error}.", remedy="Start it with `make up`."
        )

    def _login(self) -> str:
        import httpx

        login = {"username": USER, "password": password(self._site)}
        try:
            answer = self._client.post("/auth/token", json=login)
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        if answer.is_error:
            raise SchedulerError(
                f"Airflow refused the login in {self._site.passwords}: {answer.status_code}.",
                remedy="Remove that file and start it again with `make down up`.",
            )
        return str(answer.json()["access_token"])


def _log_line(entry: dict[str, Any] | str) -> str:
    if isinstance(entry, str):
        return entry
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or []]
    return "\n".join([str(entry.get("event", "")), *errors])


def password(site: Site) -> str:
    """Return the password that Airflow made up for its administrator.

    Raises:
        SchedulerError: there is none yet.
    """
    try:
        return str(json.loads(site.passwords.read_text(encoding="utf-8"))[USER])
    except (OSError, ValueError, KeyError) as error:
        raise SchedulerError(
            f"Expected Airflow's login in {site.passwords}, found {error}.", remedy="Start it with `make up`."
        ) from error
