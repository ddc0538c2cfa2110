"""Verbs that keep generations in git and DVC, and build them again."""

from __future__ import annotations

from pathlib import Path

import typer

from evodiff.cli.common import open_run, settings_from, with_workers
from evodiff.cli.options import ArchiveOption, GenerationOption, RecordedPath, RunPath, VersionOption, WorkersOption


def archive(run: RunPath, archive: ArchiveOption = None) -> None:
    """Keep every closed generation of a run in git and DVC, to be rebuilt or fetched; print the commit of the last."""
    print_archived(run, archive)


def print_archived(run: Path, archive: Path | None) -> None:
    """Archive a run; print the commit of the last generation."""
    from evodiff.pipeline.archive import archive_run

    folder = archive or settings_from({}).archive
    commit = archive_run(open_run(run), folder)
    typer.echo(f"{folder}: commit {commit}" if commit else "No generation is closed yet.")


def rebuild_dataset(folder: RecordedPath, evodiff_version: VersionOption) -> None:
    """Open a dataset again as it was recorded."""
    from evodiff.pipeline.archive import rebuild

    rebuild.check_version(evodiff_version)
    rebuild.rebuild_dataset(folder)


def rebuild_feature_net(folder: RecordedPath, evodiff_version: VersionOption) -> None:
    """Train a feature net again as it was recorded."""
    from evodiff.pipeline.archive import rebuild

    rebuild.check_version(evodiff_version)
    rebuild.rebuild_feature_net(folder)


def rebuild_genomes(folder: RecordedPath, generation: GenerationOption, evodiff_version: VersionOption) -> None:
    """Plan a generation of an experiment again."""
    from evodiff.pipeline.archive import rebuild

    rebuild.check_version(evodiff_version)
    rebuild.rebuild_genomes(folder, generation)


def rebuild_evaluations(
    folder: RecordedPath, generation: GenerationOption, evodiff_version: VersionOption, workers: WorkersOption = None
) -> None:
    """Train, judge and select the trials of a generation again."""
    from evodiff.pipeline.archive import rebuild

    rebuild.check_version(evodiff_version)
    with_workers(
        rebuild.scratch_run(folder, generation),
        workers,
        lambda run, pool, listener: rebuild.rebuild_evaluations(run, folder, generation, pool, listener),
    )


STAGES = (
    ("dataset", rebuild_dataset),
    ("feature-net", rebuild_feature_net),
    ("genomes", rebuild_genomes),
    ("evaluations", rebuild_evaluations),
)
