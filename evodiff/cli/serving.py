"""Verbs of serving."""

from __future__ import annotations

from typing import Annotated

import typer

from evodiff.cli.common import given_options, settings_from
from evodiff.cli.options import TrackingOption

SOURCE_HELP = "A run, RUN/ID, an exported folder, models:/NAME@ALIAS or models:/NAME/VERSION."


def serve(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help=f"{SOURCE_HELP} Without one, what the release file says, by rollouts."),
    ] = None,
    canary: Annotated[
        str | None, typer.Option("--canary", metavar="MODEL", help="A second one, for a share of the clients.")
    ] = None,
    weight: Annotated[float, typer.Option("--canary-weight", min=0, max=1, help="That share of the clients.")] = 0.0,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option("--port", help="0 takes a free one.  [default: 8090]")] = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Answer requests for images by HTTP, until Ctrl-C."""
    from evodiff.deployment.release.entries import entry_of
    from evodiff.deployment.release.rollout_settings import load_rollout_settings
    from evodiff.deployment.router.release_serving import ReleaseService
    from evodiff.deployment.router.serving import serve as run
    from evodiff.deployment.settings import load_serving_settings
    from evodiff.errors import SettingsError

    settings = settings_from(given_options(tracking_uri=tracking_uri))
    serving = load_serving_settings(given_options(host=host, port=port))
    if model is None and canary is not None:
        raise SettingsError(
            "--canary: expected MODEL beside it, found none.", remedy="Start a rollout by `evodiff release start`."
        )
    if model is None:
        ReleaseService(
            serving,
            load_rollout_settings(),
            file=settings.release_file,
            votes=settings.feedback_store,
            runs_dir=settings.runs_dir,
            tracking_uri=settings.tracking_uri,
            tell=typer.echo,
        ).serve()
        return
    run(
        serving,
        stable=entry_of(model),
        canary=None if canary is None else entry_of(canary),
        weight=weight,
        runs_dir=settings.runs_dir,
        tracking_uri=settings.tracking_uri,
        tell=typer.echo,
    )
