"""The replay guarantee, tried: decide everything that a run has decided once more, from its evaluations alone.

Nothing is trained: plans and results follow from what is frozen and what the trials brought back, byte for byte.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from evodiff.engine import Evolution
from evodiff.engine.experiment import code_version
from evodiff.engine.layout import evaluations_name, generation_folder, plan_name, result_name
from evodiff.engine.storage import MemoryStorage
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from pathlib import Path

    from evodiff.pipeline.run import Run


def replay(run: Run, generations: int) -> dict[str, str | None]:
    """Replay the first ``generations`` generations in memory.

    Returns:
        For each ``plan.jsonl``, ``evaluations.jsonl`` and ``result.json``, by its path from the run: None where the
        bytes are the same, else what came out instead.
    """
    storage = MemoryStorage()
    for path in (run.path / "experiment.json", *(run.path / "inputs").glob("*.json")):
        _copy(run, path, storage)
    for generation in range(generations):
        folder = run.path / generation_folder(generation)
        own = sorted((folder / "evaluations").glob("*.json"))
        for path in (*(own or [folder / "evaluations.jsonl"]), *(folder / "inputs").rglob("*.json")):
            _copy(run, path, storage)
    stopped = "nothing"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged files: they are named by the audit itself
            Evolution.open(run.space, storage)
    except EvodiffError as error:
        stopped = f"nothing: {error.headline}"
    names = [name(index) for index in range(generations) for name in (plan_name, evaluations_name, result_name)]
    return {name: _difference(run.ledger.read(name), storage.read(name), stopped) for name in names}


def replayable(run: Run) -> bool:
    """Whether the code that is installed is that which the run was begun with: another may decide otherwise."""
    return bool(run.experiment.get("evodiff") == code_version())


def _copy(run: Run, path: Path, storage: MemoryStorage) -> None:
    storage.publish(path.relative_to(run.path).as_posix(), path.read_bytes())


def _difference(stored: bytes | None, replayed: bytes | None, stopped: str) -> str | None:
    if stored == replayed:
        return None
    if replayed is None:
        return stopped
    ours, theirs = (stored or b"").splitlines(), replayed.splitlines()
    line = next((index for index, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(ours))
    return f"line {line + 1} differs" if line < min(len(ours), len(theirs)) else f"{len(theirs)} lines"
