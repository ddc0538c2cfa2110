"""Verbs of releases: what serves and why, and what a person may ask of a rollout; all of it by the router's API."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evodiff.cli.common import print_tables

if TYPE_CHECKING:
    from evodiff.deployment.release.router_client import RouterClient

UrlOption = Annotated[str | None, typer.Option("--url", help="Address of the router.  [default: this machine's]")]
RevisionOption = Annotated[
    int | None, typer.Option("--revision", min=0, help="That the command rests on.  [default: what stands there now]")
]


def status(url: UrlOption = None) -> None:
    """Show what serves, where the rollout stands, and why."""
    _show(_router(url))


def start(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="RUN/ID, or models:/NAME/VERSION.")],
    approval: Annotated[
        bool | None, typer.Option("--approval/--no-approval", help="Ask a person before all traffic goes over.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="End the rollout that goes on.")] = False,
    despite_quarantine: Annotated[
        bool, typer.Option("--despite-quarantine", help="Start a version that was rolled back before.")
    ] = False,
    revision: RevisionOption = None,
    url: UrlOption = None,
) -> None:
    """Start the rollout of a version, or have it wait for the one that goes on to end."""
    from evodiff.deployment.release.entries import entry_named

    fields: dict[str, Any] = {} if approval is None else {"approval": approval}
    entry = entry_named(version)
    _command("start", url, revision, entry=entry, replace=replace, despite_quarantine=despite_quarantine, **fields)


def promote(revision: RevisionOption = None, url: UrlOption = None) -> None:
    """Go on to the next step, whatever holds it; from the last one the version becomes the champion."""
    _command("promote", url, revision)


def rollback(
    reason: Annotated[str | None, typer.Option("--reason", help="For the record.")] = None, url: UrlOption = None
) -> None:
    """End the rollout, or go back to the version before; the version goes into quarantine."""
    _give(_router(url), "rollback", {} if reason is None else {"reason": reason})


def pause(
    off: Annotated[bool, typer.Option("--off", help="Let it go on.")] = False,
    revision: RevisionOption = None,
    url: UrlOption = None,
) -> None:
    """Hold the rollout at its step; its guards go on."""
    _command("pause", url, revision, paused=not off)


def _command(action: str, url: str | None, revision: int | None, **fields: Any) -> None:
    router = _router(url)
    resting = router.release()["revision"] if revision is None else revision
    _give(router, action, {"revision": resting, **fields})


def _give(router: RouterClient, action: str, body: dict[str, Any]) -> None:
    import secrets

    answer = router.command(action, key=secrets.token_hex(16), **body)
    typer.echo(f"{action}: {answer['reason']} (revision {answer['revision']}, weight {100 * answer['weight']:g} %)")
    _show(router)


def _show(router: RouterClient) -> None:
    import time

    from evodiff.reporting.release import release_tables

    print_tables(*release_tables(router.release(), now=time.time()))


def _router(url: str | None) -> RouterClient:
    from evodiff.deployment.release.router_client import RouterClient

    router = RouterClient.of_this_machine()
    if url is not None:
        router.url = url.rstrip("/")
    return router


STEPS: list[tuple[str, Callable[..., None]]] = [
    ("status", status),
    ("start", start),
    ("promote", promote),
    ("rollback", rollback),
    ("pause", pause),
]
