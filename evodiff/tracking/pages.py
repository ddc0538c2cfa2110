"""Addresses of MLflow's pages, found without its library."""

from __future__ import annotations

from urllib.parse import quote


def generation_page(tracking_uri: str, experiment: str, generation: int, *, pages: str | None = None) -> str:
    """Return the page that lists the candidates of a generation; the server's first page where it does not answer.

    ``pages`` is where a browser finds the server, if not at ``tracking_uri``.
    """
    import httpx

    base = (pages or tracking_uri).rstrip("/")
    try:
        answer = httpx.get(
            f"{tracking_uri.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name",
            params={"experiment_name": experiment},
            timeout=3.0,
        )
        number = answer.raise_for_status().json()["experiment"]["experiment_id"]
    except (httpx.HTTPError, ValueError, KeyError):
        return base
    which = quote(f"tags.`evodiff.generation` = '{generation}'")
    return f"{base}/#/experiments/{number}?searchFilter={which}"
