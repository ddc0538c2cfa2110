"""Warm start: a new run tries the front of another one first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.engine.transfer import Transferred, front_of_run, read_warm_start
from evodiff.errors import SettingsError
from evodiff.pipeline.create import space_of
from evodiff.pipeline.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.data import ImageDataset
    from evodiff.pipeline.inputs import Inputs
    from evodiff.settings import Settings


def open_source(path: Path) -> Run:
    """Open the run that another is to start from.

    Raises:
        CandidateNotFound: there is no run at ``path``.
        LedgerError: it is a search over another space, or has no front.
    """
    source = Run.open(path)
    front_of_run(source.space, source.path)
    return source


def check_images(source: Run, dataset: ImageDataset) -> None:
    """Check that a run over ``dataset`` may start from ``source``: classes may differ, for no gene depends on them.

    Raises:
        SettingsError: the images of ``source`` have another shape.
    """
    channels, size, _ = dataset.shape
    if (channels, size) != (source.shape.channels, source.shape.size):
        raise SettingsError(
            f"Expected images of {channels} x {size} x {size} (channels, height, width) in {source.path}, found "
            f"{source.shape.channels} x {source.shape.size} x {source.shape.size}.",
            remedy="Start from a run over images of that shape, or change --dataset or --image-size.",
        )


def check_source(run: Run, source: Path) -> None:
    """Check that an existing run was begun from the front of the run at ``source``.

    Raises:
        SettingsError: it was begun from another one, or from none.
    """
    starts = read_warm_start(run.ledger, run.space, run.experiment.get("warm_start"))
    sources = sorted({str(start.source).rpartition("/")[0] for start in starts})
    if sources != [source.resolve().name]:
        frozen = " and ".join(sources) or "none"
        raise SettingsError(
            f"transfer_from of {run.name} is frozen: expected {frozen}, found {source.name!r}.",
            remedy="Leave the field blank to go on with it, or name another experiment.",
        )


def starts_from(source: Run, settings: Settings, inputs: Inputs) -> list[Transferred[ArchitectureGenome]]:
    """Return the front of ``source`` for a run of these settings and inputs: the fittest first, at most a generation.

    Genomes over the new run's caps are left out, with a warning.

    Raises:
        SettingsError: its images have another shape, or none of the front is under the caps.
    """
    check_images(source, inputs.dataset)
    fitness = {candidate.id: candidate.fitness_score or 0.0 for candidate in source.evolution().front()}
    starts = front_of_run(space_of(settings, inputs), source.path)
    starts.sort(key=lambda start: -fitness.get(str(start.source).rpartition("/")[2], 0.0))
    return starts[: settings.population]
