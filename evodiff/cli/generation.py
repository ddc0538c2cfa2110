"""The steps of one generation as verbs, for a scheduler to drive."""

from __future__ import annotations

from typing import Annotated

import typer

from evodiff.cli.archiving import print_archived
from evodiff.cli.common import open_run, tracking_uri_from, with_workers
from evodiff.cli.options import ArchiveOption, GenerationOption, RunOption, ShardOption, TrackingOption, WorkersOption


def open_step(
    run: RunOption, holder: Annotated[str, typer.Option(help="Who works on it; the same name gets its lease back.")]
) -> None:
    """Take the lease of the next generation, or adopt the unfinished one; print its index."""
    from evodiff.pipeline.lease import open_generation

    typer.echo(open_generation(open_run(run), holder).generation)


def plan_step(run: RunOption, generation: GenerationOption) -> None:
    """Write the plan of a generation, or read it; print its trials."""
    from evodiff.pipeline.generation import plan

    for trial in plan(open_run(run), generation):
        typer.echo(f"{trial.id}  {trial.operator or 'start'}")


def train_step(
    run: RunOption, generation: GenerationOption, shard: ShardOption = "1/1", workers: WorkersOption = None
) -> None:
    """Train the trials of a generation that have no weights."""
    from evodiff.pipeline import generation as steps

    with_workers(
        open_run(run),
        workers,
        lambda opened, pool, listener: steps.train(opened, generation, pool, shard=shard, listener=listener),
    )


def evaluate_step(
    run: RunOption, generation: GenerationOption, shard: ShardOption = "1/1", workers: WorkersOption = None
) -> None:
    """Score the trained trials of a generation that have no result."""
    from evodiff.pipeline import generation as steps

    with_workers(
        open_run(run),
        workers,
        lambda opened, pool, listener: steps.evaluate(opened, generation, pool, shard=shard, listener=listener),
    )


def select_step(run: RunOption, generation: GenerationOption) -> None:
    """Close a generation; print its survivors and its front."""
    from evodiff.pipeline.generation import select

    result = select(open_run(run), generation)
    typer.echo(f"survivors {' '.join(result['survivors'])}\nfront {' '.join(result['front'])}")


def archive_step(run: RunOption, archive: ArchiveOption = None) -> None:
    """Archive every closed generation that is not archived; print the commit of the last."""
    print_archived(run, archive)


def register_step(run: RunOption, generation: GenerationOption, tracking_uri: TrackingOption = None) -> None:
    """Register the new members of a generation's front as models of MLflow; print them."""
    from evodiff.tracking import register_front

    for registered in register_front(open_run(run), generation, tracking_uri_from(tracking_uri)):
        typer.echo(registered)


STEPS = (
    ("open", open_step),
    ("plan", plan_step),
    ("train", train_step),
    ("evaluate", evaluate_step),
    ("select", select_step),
    ("archive", archive_step),
    ("register", register_step),
)
