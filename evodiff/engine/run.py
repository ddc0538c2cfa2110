"""A run as it moves: plan a generation, take in what is told, close it, and follow what other processes publish."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from evodiff.engine.closing import judge
from evodiff.engine.encoding import encode_document
from evodiff.engine.history import GenerationResult, History
from evodiff.engine.layout import evaluations_name, plan_name, result_name
from evodiff.engine.ledger import encode_evaluation
from evodiff.engine.open_generation import OpenGeneration
from evodiff.engine.planning import plan_generation
from evodiff.engine.ratings import read_joined
from evodiff.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.engine.baselines import Strategy
    from evodiff.engine.candidate import Evaluation
    from evodiff.engine.ledger import Ledger
    from evodiff.engine.transfer import Transferred

G = TypeVar("G")


class Run(Generic[G]):
    """The closed generations and the open one, kept in step with the ledger.

    Whatever is decided is published by create-if-absent and then read back, so that of two processes that decide at
    once both go on with one decision. A plan or result that is missing from the ledger is decided again, the same.
    """

    def __init__(
        self,
        history: History[G],
        ledger: Ledger,
        strategy: Strategy,
        *,
        seed: int,
        size: int,
        rungs: int,
        replicate_ties: bool,
        warm_start: Sequence[Transferred[G]],
        inherit: bool = False,
    ) -> None:
        self.history = history
        self.open: OpenGeneration[G] | None = None
        self.exhausted = False
        self._ledger = ledger
        self._strategy = strategy
        self._seed = seed
        self._size = size
        self._rungs = rungs
        self._replicate_ties = replicate_ties
        self._warm_start = warm_start
        self._inherit = inherit

    def sync(self) -> None:
        """Catch up with the ledger, and close the open generation where every trial is told."""
        while self.open is not None or self._adopt():
            if not self._close():
                return

    def plan(self) -> None:
        """Plan the next generation; leaves ``open`` None, and ``exhausted`` True, where there is nothing new to ask."""
        generation = self.history.generations
        content = self._planned()
        self.exhausted = not content
        if content:
            ours = self._ledger.publish(plan_name(generation), content)
            records = self._ledger.plan(generation)
            self.open = OpenGeneration(self.history, self._ledger, records, asked=0 if ours else len(records))

    def store(self, trial: str, evaluation: Evaluation) -> None:
        """Publish what a trial brought back, unless something is there, and close the generation after its last."""
        if self.history.told(trial):
            stored: Evaluation | None = self.history.evaluation(trial)
        else:
            stored = self._publish(trial, evaluation)
        if stored is not None and stored.to_json() != evaluation.to_json():
            self._ledger.telemetry("second_value", trial=trial, stored=stored.to_json(), told=evaluation.to_json())
            warnings.warn(
                f"{trial} was told before with other values; the first ones stay, the others are in telemetry.",
                stacklevel=3,
            )
        self.sync()

    def _publish(self, trial: str, evaluation: Evaluation) -> Evaluation | None:
        """Publish an evaluation in the open generation; return the one that was there before, if any."""
        generation = self.history.generations
        while not self._ledger.publish_evaluation(generation, trial, evaluation):
            stored = self._ledger.evaluation(generation, trial)
            if stored is not None:
                return stored
        return None

    def _planned(self) -> bytes:
        return plan_generation(
            self.history,
            self._strategy,
            seed=self._seed,
            size=self._size,
            rungs=self._rungs,
            replicate_ties=self._replicate_ties,
            warm_start=self._warm_start,
            inherit=self._inherit,
        )

    def _adopt(self) -> bool:
        """Open the generation that is planned in the ledger; all its trials count as asked."""
        generation = self.history.generations
        records = self._ledger.plan(generation)
        if not records and self._ledger.started(generation) and (content := self._planned()):
            self._ledger.publish(plan_name(generation), content)
            records = self._ledger.plan(generation)
        if records:
            self._check_length(generation, records)
            self.open = OpenGeneration(self.history, self._ledger, records, asked=len(records))
        return bool(records)

    def _check_length(self, generation: int, records: Sequence[Mapping[str, Any]]) -> None:
        """Check that a plan of fewer trials than usual is so because the space is exhausted, not because it was cut."""
        if len(records) < self._size and self._ledger.result(generation) is None:
            expected = self._planned().count(b"\n")
            if expected > len(records):
                raise self._ledger.damaged(plan_name(generation), f"{expected} trials", str(len(records)))

    def _close(self) -> bool:
        """Conclude the open generation where its result is published, or can be."""
        assert self.open is not None
        generation, records = self.open.generation, self.open.records
        decided = self._ledger.result(generation)
        if decided is not None and (closed := self._ledger.closed_evaluations(generation, records)) is not None:
            self.history.absorb(generation, records, closed)
        elif self.open.refresh():
            evaluations = self.open.evaluations()
            lines = (encode_evaluation(trial, evaluation) for trial, evaluation in evaluations.items())
            self._ledger.publish(evaluations_name(generation), b"".join(lines))
            self.history.absorb(generation, records, evaluations)
        elif decided is not None:
            missing = next(record["id"] for record in records if record["id"] not in self.open.told)
            raise LedgerError(
                f"{result_name(generation)} of {self._ledger.label} says that the generation is closed: expected an"
                f" evaluation of {missing}, found none.",
                remedy="Restore its evaluations from a copy, or move this and later generations away and resume.",
            )
        else:
            return False
        self._conclude(decided)
        return True

    def _conclude(self, content: dict[str, Any] | None) -> None:
        assert self.open is not None
        generation = self.open.generation
        for trial in self.open.opened_trials():
            self.history.keep_genome(trial.candidate, trial.genome)
        if content is None:
            told, sizes = self.open.evaluations(), {"size": self._size, "rungs": self._rungs}
            joined = read_joined(self._ledger, generation)
            ours = judge(self.history, self._strategy, self.open.records, told, **sizes, joined=joined)
            self._ledger.publish(result_name(generation), encode_document(ours.to_json()))
            content = self._ledger.result(generation)
            assert content is not None
        result = GenerationResult.from_json(content)
        unknown = [name for name in (*result.survivors, *result.front) if not self.history.asked(name)]
        if unknown:
            raise self._ledger.damaged(
                result_name(generation), "planned candidates as survivors and front", f"{unknown[0]!r} among them"
            )
        self.history.conclude(result, read_joined(self._ledger, generation, result.inputs or {}).ratings)
        self.open = None
