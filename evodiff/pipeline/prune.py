"""Bound the disk that a run takes: checkpoints and superfluous weights go, every result stays."""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from evodiff.errors import EvodiffError
from evodiff.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from evodiff.pipeline.run import Run
    from evodiff.settings import Settings

SCRATCH = "scratch"
RIVALS_WEIGHTS = "validation/weights"  # of trainings that are judged already


def prune(run: Run, *, dry_run: bool = False) -> int:
    """Remove checkpoints, the weights of a champion's rivals and :func:`superfluous_weights`.

    Training that stopped in the middle of a trial starts that trial again. Returns the bytes freed, or with ``dry_run``
    those that would be.
    """
    superfluous = superfluous_weights(run)
    wholly = [run.path / RIVALS_WEIGHTS, run.path / SCRATCH]
    freed = sum(_size(folder) for folder in [*wholly, *superfluous])
    if not dry_run:
        remove_weights(run, superfluous)
        for folder in wholly:
            shutil.rmtree(folder, ignore_errors=True)
    return freed


def superfluous_weights(run: Run) -> list[Path]:
    """Return the weights folders that nobody needs any more.

    Kept are those that the search needs (front, survivors, pending trials), those of what serves or is to, those that
    wait to be registered where a tracking server is set, and where there is an archive those that it has yet to take,
    of the last ``retention_generations`` generations.
    """
    settings = load_settings({})
    prunable = run.evolution().prunable_weights()
    if not prunable:
        return []
    awaited = {*_awaited_by_registry(run, settings), *_awaited_by_archive(run, settings)}
    try:
        released = released_candidates(run, settings.release_file)
    except EvodiffError:  # nobody knows what the release needs
        return []
    return [
        folder for folder in prunable if folder.name not in awaited and folder.name.partition(".")[0] not in released
    ]


def released_candidates(run: Run, release_file: Path) -> set[str]:
    """Return the candidates of a run that have a role in the release, or wait for one.

    Raises:
        LedgerError: the release cannot be read.
    """
    from evodiff.pipeline.release import read_release

    roles = read_release(release_file)
    entries = [roles[name] for name in ("champion", "challenger", "previous", "pending")]
    return {str(entry["candidate"]) for entry in entries if entry is not None and entry.get("run") == run.name}


def remove_weights(run: Run, folders: Collection[Path]) -> None:
    """Remove weights folders, each at once: nobody finds one that is half there."""
    for folder in folders:
        away = run.path / SCRATCH / f"{folder.name}.{secrets.token_hex(6)}.pruned"
        with suppress(OSError):  # a twin was faster; what stays is superfluous the next time too
            away.parent.mkdir(exist_ok=True)
            folder.rename(away)
            shutil.rmtree(away)


def _awaited_by_registry(run: Run, settings: Settings) -> Iterator[str]:
    """Yield the names of weights that are to be registered."""
    from evodiff.tracking.outbox import waiting_registrations
    from evodiff.tracking.records import RunRecords
    from evodiff.tracking.registry import MOST_A_GENERATION

    waiting = waiting_registrations(run) if settings.tracking_uri is not None else []
    records = RunRecords(run)
    for generation in waiting:
        for candidate in records.new_members(generation)[:MOST_A_GENERATION]:
            yield run.ledger.weights_folder(records.first_trial(candidate)).name


def _awaited_by_archive(run: Run, settings: Settings) -> Iterator[str]:
    """Yield the names of weights that are to be archived."""
    from evodiff.pipeline.archive.contents import kept_weights
    from evodiff.pipeline.archive.entries import read_entries
    from evodiff.pipeline.archive.layout import experiment_key, generation_key
    from evodiff.pipeline.archive.repository import MARKER

    if not (settings.archive / MARKER).exists():
        return
    try:
        experiment, known = experiment_key(run.name), read_entries(settings.archive).generations
    except EvodiffError:  # it can take nothing as it is
        return
    closed = run.ledger.closed
    for generation in range(max(0, closed - settings.retention_generations), closed):
        if generation_key(experiment, generation) not in known:
            yield from kept_weights(run.ledger, generation)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
