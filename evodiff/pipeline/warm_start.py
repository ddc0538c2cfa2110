"""Warm start: a new run tries the front of another one first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.engine.transfer import Transferred, front_of_run
from evodiff.errors import SettingsError
from evodiff.pipeline.create import space_of
from evodiff.pipeline.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from evodiff.architecture.genome import ArchitectureGenome
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


def starts_from(source: Run, settings: Settings, inputs: Inputs) -> list[Transferred[ArchitectureGenome]]:
    """Return the front of ``source`` for a run of these settings and inputs: the fittest first, at most a generation.

    Classes may differ, for no gene depends on them. Genomes over the new run's caps are left out, with a warning.

    Raises:
        SettingsError: the images of ``source`` have another shape, or none of its front is under the caps.
    """
    space = space_of(settings, inputs)
    ours, theirs = (f"{shape.channels} x {shape.size} x {shape.size}" for shape in (space.shape, source.shape))
    if ours != theirs:
        raise SettingsError(
            f"Expected images of {ours} (channels, height, width) in {source.path}, found {theirs}.",
            remedy="Start from a run over images of that shape, or change --dataset or --image-size.",
        )
    fitness = {candidate.id: candidate.fitness_score or 0.0 for candidate in source.evolution().front()}
    starts = front_of_run(space, source.path)
    starts.sort(key=lambda start: -fitness.get(str(start.source).rpartition("/")[2], 0.0))
    return starts[: settings.population]
