"""What the verbs share: settings from options, runs opened, tables printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evodiff.pipeline.generation import Listener
    from evodiff.pipeline.run import Run
    from evodiff.search import SearchResult
    from evodiff.settings import Settings
    from evodiff.workers import WorkerPool


def given_options(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def names(text: str | None) -> tuple[str, ...] | None:
    """Split a comma-separated list."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def settings_from(given: dict[str, Any]) -> Settings:
    """Return the settings that options, variables and files make."""
    from evodiff.settings import load_settings

    return load_settings(given)


def open_run(path: Path) -> Run:
    """Open a run."""
    from evodiff.pipeline.run import Run

    return Run.open(path)


def tracking_uri_from(given: str | None) -> str:
    """Return the tracking server that an option or the settings name."""
    from evodiff.errors import SettingsError

    found = settings_from(given_options(tracking_uri=given)).tracking_uri
    if found is None:
        raise SettingsError("No tracking server is named.", remedy="Give --tracking-uri, or set EVODIFF_TRACKING_URI.")
    return found


def with_workers(run: Run, workers: int | None, work: Callable[[Run, WorkerPool, Listener], Any]) -> None:
    """Do work on a run with worker processes and a progress display."""
    from evodiff.search import working

    with working(run, workers) as (pool, listener):
        work(run, pool, listener)


def print_tables(*tables: Any) -> None:
    """Print tables of rich."""
    from rich.console import Console

    Console().print(*tables)


def print_result(result: SearchResult) -> None:
    """Print what a search has found."""
    from evodiff.reporting.result import result_tables

    print_tables(*result_tables(result.view))
    typer.echo(f"Report: {result.report}")
    if result.remark:
        typer.echo(result.remark)
