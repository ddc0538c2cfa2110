"""Verbs of continuous evolution: services of this machine, control over runs, tracking, housekeeping."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evodiff.cli.common import open_run, print_result, print_tables, settings_from, tracking_uri_from
from evodiff.cli.options import RunPath, TrackingOption


def up() -> None:
    """Start Airflow, MLflow and what watches on this machine; they stay until `evodiff down`."""
    from evodiff.local.demo import addresses
    from evodiff.local.environment import Site
    from evodiff.local.services import up as start

    site = Site.from_environment()
    typer.echo("Started." if start(site, typer.echo) else "They run already.")
    typer.echo("\n".join(addresses(site)))


def down() -> None:
    """End exactly what `evodiff up` started."""
    from evodiff.local.environment import Site
    from evodiff.local.services import down as end

    typer.echo("Ended." if end(Site.from_environment()) else "Nothing that `evodiff up` started is running.")


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave Airflow and MLflow running.")] = False,
    generations: Annotated[int, typer.Option(min=1)] = 3,
    population: Annotated[int, typer.Option(min=2)] = 8,
) -> None:
    """Evolve digits by a real scheduler: start Airflow and MLflow, follow the generations, show what came out."""
    from evodiff.local.demo import run_demo
    from evodiff.reporting.progress import ProgressDisplay

    with ProgressDisplay() as display:
        result, lines = run_demo(display, keep=keep, generations=generations, population=population)
    print_result(result)
    typer.echo("\n".join(lines))


def pause(run: RunPath) -> None:
    """Let the scheduler open no further generation of a run until it is resumed; one at work is finished."""
    _say_state(run, "paused")


def resume(run: RunPath) -> None:
    """Let the scheduler go on with a run that was paused or stopped."""
    _say_state(run, "running")


def stop(run: RunPath) -> None:
    """End a run after the generation at hand; a form or `evodiff resume` begins it again."""
    _say_state(run, "stopped")


def track(run: RunPath, tracking_uri: TrackingOption = None) -> None:
    """Bring MLflow up to date: generations and candidates that it misses, and registrations that wait."""
    from evodiff.tracking import track_run

    result = track_run(open_run(run), tracking_uri_from(tracking_uri))
    typer.echo(result)
    raise typer.Exit(2 if result.waiting else 0)


def metrics(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 9108,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    watcher: Annotated[
        bool, typer.Option("--watcher", help="Miss the watcher of alerts, a DAG, where it has never asked.")
    ] = False,
) -> None:
    """Tell Prometheus of searches and of what MLflow has yet to hear, until Ctrl-C."""
    import signal
    import threading

    from evodiff.monitoring.exporter import serve_metrics

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    found, stop = serve_metrics(settings_from({}).runs_dir, port, host, watcher_expected=watcher)
    typer.echo(f"http://{host}:{found}/metrics")
    ended.wait()
    stop()


def housekeeping(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
) -> None:
    """Remove what is older than the retention settings say: weights, artifacts, lost data, logs and records."""
    from datetime import UTC, datetime

    from evodiff.local.environment import known_environment
    from evodiff.pipeline.housekeeping import keep_house
    from evodiff.reporting.housekeeping import housekeeping_table

    removals = keep_house(settings_from({}), now=datetime.now(UTC), dry_run=dry_run, environment=known_environment())
    print_tables(housekeeping_table(removals, dry_run=dry_run))
    raise typer.Exit(2 if any(removal.failed for removal in removals) else 0)


def _say_state(path: Path, wanted: str) -> None:
    from evodiff.pipeline.control import State, set_state

    run = open_run(path)
    set_state(run, State(wanted))
    typer.echo(f"{run.name} is {wanted}")
