"""The command line: options in, functions of the library called, tables out."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

import typer

from evodiff.cli import archiving, feedback, generation, operating, releasing, results, searching, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["app", "main"]

INTERRUPTED = 130  # the exit code of what Ctrl-C ended

app = typer.Typer(
    name="evodiff",
    help="Evolve diffusion models for quality, latency and memory on the hardware that will serve them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _add(panel: str, *verbs: Callable[..., None]) -> None:
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)


def _add_group(panel: str, name: str, help_text: str, steps: Sequence[tuple[str, Callable[..., None]]]) -> None:
    group = typer.Typer(help=help_text, no_args_is_help=True)
    for step, function in steps:
        group.command(step)(function)
    app.add_typer(group, name=name, rich_help_panel=panel)


_add("Search", searching.evolve, searching.smoke, searching.prepare, searching.calibrate, searching.strategies)
_add(
    "Results",
    results.report,
    results.validate,
    results.show,
    results.trials,
    results.compare,
    results.export,
    results.sample,
    results.audit,
    results.prune,
)
_add(
    "Continuous evolution",
    operating.up,
    operating.down,
    operating.demo,
    operating.pause,
    operating.resume,
    operating.stop,
    operating.track,
    operating.metrics,
    feedback.feedback,
    archiving.archive,
    operating.housekeeping,
)
_add("Serving", serving.serve)
_add_group("Serving", "release", "What serves, and the rollout of what is to.", releasing.STEPS)
_add_group(
    "Steps, for schedulers", "generation", "The steps of one generation, each safe to run twice.", generation.STEPS
)
_add_group("Steps, for schedulers", "rebuild", "What the stages of an archive's dvc.yaml run.", archiving.STAGES)


def main() -> None:
    """Run the command line; an error of the user's ends with what to do and exit code 2, without a traceback."""
    from evodiff.errors import EvodiffError, Interrupted

    warnings.formatwarning = lambda message, *where, **more: f"warning: {message}\n"
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # by a Ctrl-C before the workers listened for it, or after
            _complain(
                "Stopped; what was stored is intact.", "Give the same command again; go on with a run by --resume."
            )
        raise
    except Interrupted as stop:
        _complain(stop.headline, stop.remedy)
        sys.exit(INTERRUPTED)
    except EvodiffError as error:
        _complain(error.headline, error.remedy)
        sys.exit(2)
    except OSError as error:
        _complain(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), "What was stored is intact.")
        sys.exit(2)


def _complain(headline: str, remedy: str) -> None:
    typer.echo(f"evodiff: {headline}", err=True)
    if remedy:
        typer.echo(remedy, err=True)
