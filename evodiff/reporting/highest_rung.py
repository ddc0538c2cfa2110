"""What of a run of several rungs counts where runs are compared: values of the highest rung, and every trial as spent.

A short training says another thing than a whole one: its values may lie lower or higher. So a candidate counts where it
was tried on the highest rung that its run reached, as in the engine's front, and from the trial on that brought its
value; every trial costs, on any rung, replicates too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.reporting.view import CandidateView, TrialView


@dataclass(frozen=True)
class Expense:
    """Something that a run spent training on, and the candidate that counts from then on, if any does."""

    generation: int
    training_flops: float | None
    candidate: CandidateView | None


def highest_rung(candidates: Sequence[CandidateView]) -> int:
    """Return the highest rung that has a feasible candidate of one run, 0 where none has."""
    return max((item.rung for item in candidates if item.feasible), default=0)


def on_highest_rung(candidates: Sequence[CandidateView]) -> list[CandidateView]:
    """Return the feasible candidates of one run on the highest rung that has any, in the order given."""
    highest = highest_rung(candidates)
    return [item for item in candidates if item.feasible and item.rung == highest]


def expenses(candidates: Sequence[CandidateView]) -> list[Expense]:
    """Return what one run spent, in the order of evaluation: each trial, or each candidate where none had several."""
    counting = {item.id for item in on_highest_rung(candidates)}
    if all(len(item.trials) <= 1 for item in candidates):
        return [
            Expense(item.generation, item.training_flops, item if item.id in counting else None) for item in candidates
        ]
    found: list[tuple[TrialView, CandidateView | None]] = []
    for item in candidates:
        bringing = next((trial for trial in item.trials if trial.rung == item.rung and not trial.failed), None)
        found += [(trial, item if trial is bringing and item.id in counting else None) for trial in item.trials]
    found.sort(key=lambda pair: pair[0].place)
    return [Expense(trial.generation, trial.training_flops, item) for trial, item in found]


def bought(spent: Sequence[Expense]) -> list[CandidateView]:
    """Return the candidates that count after some expenses."""
    return [item.candidate for item in spent if item.candidate is not None]
