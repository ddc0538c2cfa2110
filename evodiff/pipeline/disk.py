"""Room on the disk of a run: what a generation will take, and an error in time where there is less."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import numpy as np

from evodiff.architecture.cost import parameter_count
from evodiff.architecture.graph import resolve
from evodiff.errors import LedgerError
from evodiff.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.pipeline.run import Run

MEGABYTE: Final = 1e6
# A trial's checkpoint holds weights, their average and two moments, its published folder one more: float32 each.
_BYTES_A_PARAMETER = 5 * 4
# An archive stages weights, takes them into its cache, and pushes them to a folder of its own, which shares them then.
_ARCHIVED_BYTES_A_PARAMETER = 3 * 4
_BYTES_A_TRIAL = 100_000  # genome, loss curve, evaluation and file system
_SAMPLED = 16


def require_free_space(run: Run, generation: int) -> None:
    """Check that the disk has room for a generation that is to be planned, and ``min_free_mb`` beside it.

    Raises:
        LedgerError: it has not.
    """
    settings = load_settings({})
    floor_mb = settings.min_free_mb
    free_mb = shutil.disk_usage(run.path).free / MEGABYTE
    needed_mb = generation_mb(run, generation, archived=_shares_disk(settings.archive, run.path))
    if free_mb < needed_mb + floor_mb:
        raise LedgerError(
            f"{free_mb:.0f} MB are free on the disk of {run.path}: generation {generation} needs about "
            f"{needed_mb:.0f} MB, and {floor_mb:.0f} MB are to stay free.",
            remedy="Nothing was written. Free space, for instance by `evodiff housekeeping`, keep the archive on "
            "another disk (EVODIFF_ARCHIVE), or set a lower EVODIFF_MIN_FREE_MB; then go on.",
        )


def generation_mb(run: Run, generation: int, *, archived: bool = False) -> float:
    """Predict what a generation takes on disk while it runs, in 10^6 bytes, from the networks of the one before.

    For the first generation networks are sampled from the space. ``archived`` says that an archive on that disk takes
    its weights too.
    """
    rows = run.ledger.plan(generation - 1) if generation else []
    genomes = [run.space.from_json(row["genome"]) for row in rows] or _sampled(run, generation)
    return disk_mb(run, genomes, archived=archived) * int(run.experiment["population_size"]) / len(genomes)


def disk_mb(run: Run, genomes: Sequence[ArchitectureGenome], *, archived: bool = False) -> float:
    """Predict what trials of these networks take on disk, in 10^6 bytes, ``archived`` ones in an archive too."""
    parameters = sum(parameter_count(resolve(genome, run.shape)) for genome in genomes)
    each = _BYTES_A_PARAMETER + (_ARCHIVED_BYTES_A_PARAMETER if archived else 0)
    return (parameters * each + len(genomes) * _BYTES_A_TRIAL) / MEGABYTE


def _shares_disk(archive: Path, folder: Path) -> bool:
    """Tell whether there is an archive on the disk of a folder."""
    return archive.is_dir() and archive.stat().st_dev == folder.stat().st_dev


def _sampled(run: Run, generation: int) -> list[ArchitectureGenome]:
    rng, space = np.random.default_rng(0), run.space.within(generation)
    return [space.sample(rng) for _ in range(_SAMPLED)]
