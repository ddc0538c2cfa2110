"""Bound the disk that a run takes: checkpoints and superfluous weights go, every result stays."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from evodiff.pipeline.run import Run


def prune(run: Run, *, dry_run: bool = False) -> int:
    """Remove checkpoints, and weights that neither the front, nor survivors, nor pending trials need.

    Training that stopped in the middle of a trial starts that trial again. Returns the bytes freed, or with ``dry_run``
    those that would be.
    """
    superfluous = [run.path / "scratch", *run.evolution().prunable_weights()]
    freed = sum(_size(folder) for folder in superfluous)
    for folder in superfluous if not dry_run else ():
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
