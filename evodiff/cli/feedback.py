"""``evodiff feedback``: what people said and what was measured of released architectures, as lines of JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.deployment.feedback.deployment_feedback import DeploymentFeedback
    from evodiff.deployment.feedback.votes import Vote


def feedback(
    store: Annotated[
        Path | None,
        typer.Option(help="File of the service's votes; by default EVODIFF_FEEDBACK_STORE.", metavar="FILE"),
    ] = None,
    votes: Annotated[
        bool, typer.Option("--votes", help="Every vote instead, in the order in which they came.")
    ] = False,
) -> None:
    """Print a record of every released architecture that was voted on or measured, one JSON object a line."""
    import json

    from evodiff.deployment.feedback.records import feedback_records
    from evodiff.deployment.feedback.store import FeedbackStore
    from evodiff.errors import SettingsError
    from evodiff.pipeline.release import read_release, rolled_back
    from evodiff.settings import load_settings

    settings = load_settings({})
    file = store or settings.feedback_store
    if not file.is_file():
        raise SettingsError(
            f"No votes at {file}: expected the file that `evodiff serve` keeps.", remedy="Name it by --store."
        )
    with FeedbackStore(file) as found:
        every = found.votes()
        records: Sequence[Vote | DeploymentFeedback] = every
        if not votes:
            failed = rolled_back(read_release(settings.release_file))
            records = feedback_records(every, found.production(), failed=failed)
    for record in records:
        typer.echo(json.dumps(record.to_json(), sort_keys=True))
