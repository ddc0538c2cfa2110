"""The generation that is under way: which of its trials were asked, and which have been told."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from evodiff.engine.candidate import Candidate, Evaluation, Trial, finite_values
from evodiff.engine.encoding import encode_line
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.engine.candidate import Objective
    from evodiff.engine.history import History
    from evodiff.engine.ledger import Ledger
    from evodiff.engine.space import SearchSpace

G = TypeVar("G")


class OpenGeneration(Generic[G]):
    """The trials of one generation, with what has come back so far.

    ``asked`` counts the trials handed out: none by the process whose plan was published, all by any other, to which
    they are pending.
    """

    def __init__(self, history: History[G], ledger: Ledger, records: Sequence[Mapping[str, Any]], asked: int) -> None:
        self.generation = history.generations
        self.records = records
        self.told: dict[str, Evaluation] = {}
        self._history = history
        self._ledger = ledger
        self._asked = asked

    @cached_property
    def trials(self) -> dict[str, Trial[G]]:
        """The trials by id, in plan order."""
        trials = {}
        for record in self.records:
            candidate = record["candidate"]
            known = self._history.asked(candidate)
            genome = self._history.genome(candidate) if known else self._history.space.from_json(record["genome"])
            trials[record["id"]] = Trial.from_json(record, genome)
        return trials

    def opened_trials(self) -> list[Trial[G]]:
        """Return the trials whose genomes were read already; none where nobody needed them."""
        return list(self.__dict__.get("trials", {}).values())

    def ask(self, n: int) -> list[Trial[G]]:
        """Return up to ``n`` trials that were not handed out before, and that nobody has told meanwhile."""
        waiting = list(self.trials.values())[self._asked :]
        batch: list[Trial[G]] = []
        for trial in waiting:
            if len(batch) >= n:
                break
            self._asked += 1
            if trial.id not in self.told:
                batch.append(trial)
        return batch

    def pending(self) -> list[Trial[G]]:
        """Return the trials that were handed out and not told."""
        return [trial for trial in list(self.trials.values())[: self._asked] if trial.id not in self.told]

    def refresh(self) -> bool:
        """Read what was told, by any process; return whether every trial was."""
        if len(self.told) < len(self.records):
            closed = self._ledger.closed_evaluations(self.generation, self.records)
            found = set(self._ledger.evaluation_ids(self.generation)) if closed is None else set(closed)
            self._ledger.require_planned(self.generation, [record["id"] for record in self.records], found)
            for record in self.records:
                trial = record["id"]
                if trial in found and trial not in self.told:
                    evaluation = (
                        closed[trial] if closed is not None else self._ledger.evaluation(self.generation, trial)
                    )
                    if evaluation is not None:
                        self.told[trial] = evaluation
        return len(self.told) == len(self.records)

    def evaluations(self) -> dict[str, Evaluation]:
        """Return what was told, in plan order."""
        return {record["id"]: self.told[record["id"]] for record in self.records if record["id"] in self.told}

    def candidate(self, trial: Trial[G]) -> Candidate[G]:
        """Return the candidate of a trial, with what this trial brought."""
        evaluation = self.told.get(trial.id)
        return Candidate(
            id=trial.candidate,
            genome=trial.genome,
            generation=trial.generation,
            parents=trial.parents,
            operator=trial.operator,
            evaluation=evaluation,
            fitness_score=self._history.fitness(trial.candidate, evaluation),
        )

    def newcomers(self) -> list[Trial[G]]:
        """Return the trials of candidates that no closed generation knows, the highest rung of each."""
        best: dict[str, Trial[G]] = {}
        for trial in self.trials.values():
            known = best.get(trial.candidate)
            if not self._history.asked(trial.candidate) and (known is None or trial.rung > known.rung):
                best[trial.candidate] = trial
        return list(best.values())


def whole_evaluation(
    space: SearchSpace[G],
    genome: G,
    objectives: Sequence[Objective],
    told: Mapping[str, float],
    *,
    violations: Mapping[str, float] | None,
    weights: str | None,
    details: Mapping[str, Any] | None,
) -> Evaluation:
    """Return the evaluation that was told, completed by what is known without training.

    Raises:
        SettingsError: an objective is neither told nor known, a value is not a finite number, or details are not JSON.
    """
    values = finite_values(told, "objectives")
    if any(objective.name not in values for objective in objectives):
        values = {**finite_values(space.costs(genome), f"{space.name}.costs"), **values}
    missing = [objective.name for objective in objectives if objective.name not in values]
    if missing:
        raise SettingsError(
            f"Expected values of {[item.name for item in objectives]}, found {sorted(values) or 'none'}:"
            f" {missing[0]!r} is neither told nor in {space.name}.costs.",
            remedy="Tell every objective that the space does not know, or the failure by tell_failure().",
        )
    if weights is not None and not isinstance(weights, str):
        raise SettingsError(f"weights: expected a digest, found {weights!r}.", remedy="Tell the SHA-256 in hex digits.")
    try:
        plain = json.loads(encode_line(dict(details or {})))
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"details: expected plain JSON with finite numbers, found something else: {error}.",
            remedy="Convert arrays to lists, and leave out what is not finite.",
        ) from error
    return Evaluation(values, finite_values(violations or {}, "violations"), weights, plain)
