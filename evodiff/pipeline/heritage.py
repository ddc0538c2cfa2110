"""Whose weights a trial starts from, and that they are the ones that were judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evodiff.engine.candidate import read_inheritance
from evodiff.errors import LedgerError
from evodiff.training.digests import weights_damage, weights_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from evodiff.pipeline.run import Run


def inherits(trial: Mapping[str, Any]) -> bool:
    """Return whether a trial, a row of a plan, starts from the weights of others."""
    return trial["protocol"] == "search" and bool(read_inheritance(trial["inherits_from"]))


def from_scratch(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trial as it is under protocol ``scratch``: from its seed, with nobody's weights."""
    return {**trial, "protocol": "scratch", "inherits_from": None}


def inherited_folders(run: Run, trial: Mapping[str, Any]) -> list[Path]:
    """Return the folders of the weights that a trial starts from, in the order in which it names them.

    Raises:
        LedgerError: a trial is unknown, its weights are missing, damaged, or not those that were judged.
    """
    rows = dict(_rows_before(run, trial["generation"]))
    return [_checked(run, rows.get(name), name) for name in read_inheritance(trial["inherits_from"])]


def _rows_before(run: Run, generation: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index in range(generation):
        for row in run.ledger.plan(index):
            yield row["id"], row


def _checked(run: Run, row: Mapping[str, Any] | None, name: str) -> Path:
    if row is None:
        raise LedgerError(
            f"Expected trials before this generation to inherit from, found {name}, which {run.name} never planned.",
            remedy="Restore the plan of the generation from a copy.",
        )
    folder = run.ledger.weights_folder(row)
    damage = weights_damage(folder)
    evaluation = run.ledger.evaluations(row["generation"]).get(name)
    if not damage and (evaluation is None or weights_digest(folder) != evaluation.weights):
        damage = "they are not those that were judged"
    if damage:
        raise LedgerError(
            f"Trials inherit the weights in {folder}, but {damage}.",
            remedy="Restore the folder from a copy or an archive: what starts from these weights rests on their bytes.",
        )
    return folder
