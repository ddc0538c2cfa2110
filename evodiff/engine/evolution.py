"""Ask and tell: the whole way into the engine.

::

    evolution = Evolution(space, objectives=["error", "latency_ms"], population_size=20, seed=0, ledger=None)
    for trial in evolution.ask(20):
        evolution.tell(trial.id, {"error": 7.1, "latency_ms": 3.2})
    evolution.front()
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from evodiff.engine.candidate import (
    Candidate,
    Evaluation,
    Failure,
    FailureKind,
    Objective,
    Trial,
    parse_objectives,
    read_inheritance,
)
from evodiff.engine.experiment import check_sizes, describe_space, freeze
from evodiff.engine.fidelity import promotable
from evodiff.engine.history import GenerationResult, History, minimised
from evodiff.engine.ledger import Ledger, only_candidate
from evodiff.engine.open_generation import whole_evaluation
from evodiff.engine.replication import check_same_start
from evodiff.engine.run import Run
from evodiff.engine.selection import nondominated
from evodiff.engine.strategies import DEFAULT, describe_strategy, find_strategy, frozen_strategy, settings_of_run
from evodiff.engine.transfer import as_transferred, publish_warm_start, read_warm_start, warm_start_digest
from evodiff.errors import CandidateNotFound, LedgerError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evodiff.engine.baselines import Strategy
    from evodiff.engine.convergence import EvolutionMetrics
    from evodiff.engine.space import SearchSpace
    from evodiff.engine.storage import Storage
    from evodiff.engine.transfer import Transferred

G = TypeVar("G")

# An environment failure is final when it happens for the third time.
ATTEMPTS = 3


class Evolution(Generic[G]):
    """A search over any :class:`~evodiff.engine.space.SearchSpace`, in memory or in a folder that it can go on from.

    A generation is a batch of ``population_size`` trials. Its plan is published whole at its first ask and depends on
    closed generations only; it closes when every trial has a value or a final failure. Several objects, in one
    process or many, may work on one folder: each reads what the others have published.

    Args:
        space: where to search.
        objectives: objectives, or names of values to minimise.
        population_size: trials a generation; how many survive one is the strategy's affair, as many by default.
        seed: source of all randomness.
        ledger: a run folder, new or to go on from; None keeps everything in memory.
        strategy: ``surrogate``, ``nsga2``, ``regularised``, ``random``, or a
            :class:`~evodiff.engine.baselines.Strategy`; a name on reopening means the settings on record.
        rungs: number of fidelities that trials may have. With more than one, new candidates are tried on the lowest,
            and the most promising go on (:mod:`evodiff.engine.fidelity`).
        replicate_ties: try candidates of the front again whose place is owed to less than a standard error
            (:mod:`evodiff.engine.replication`).
        warm_start: genomes that generation 0 tries first (:mod:`evodiff.engine.transfer`); none on reopening means
            those on record.
        inherit: whether children name, in ``Trial.inherits_from``, the trials whose weights they start with: those of
            their parents that told weights and were in the front or among the survivors ever since, for the weights of
            others need not be there any more.
        settings: more that the run freezes, as plain JSON; None on reopening means what is on record.

    Raises:
        SettingsError: a value cannot be used, or the folder has frozen another one, which the message names.
        InvalidGenome: the space refuses a genome of the warm start.
        LedgerError: the folder cannot be read or written.
    """

    def __init__(
        self,
        space: SearchSpace[G],
        *,
        objectives: Sequence[Objective | str],
        population_size: int = 20,
        seed: int = 0,
        ledger: Path | str | Storage | None = None,
        strategy: str | Strategy = DEFAULT,
        rungs: int = 1,
        replicate_ties: bool = False,
        warm_start: Sequence[G | Transferred[G]] = (),
        inherit: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.space = space
        self.objectives = parse_objectives(objectives)
        check_sizes(population_size=(population_size, 1), rungs=(rungs, 1), seed=(seed, 0))
        check_same_start(inherit=inherit, replicate_ties=replicate_ties)
        self.population_size = population_size
        self.seed = seed
        self.rungs = rungs
        self.ledger = Ledger(ledger)
        self.strategy = frozen_strategy(strategy, self.ledger)
        self.ledger.sweep(time.time())
        transferred = as_transferred(space, warm_start)
        if self.ledger.read("experiment.json") is None:
            publish_warm_start(self.ledger, space, transferred)
        self.experiment = freeze(
            self.ledger,
            {
                "space": describe_space(space),
                "objectives": [{"name": item.name, "maximise": item.maximise} for item in self.objectives],
                "population_size": population_size,
                "seed": seed,
                "rungs": rungs,
                "replicate_ties": replicate_ties,
                "strategy": describe_strategy(self.strategy),
                "warm_start": warm_start_digest(space, transferred),
                "inherit": inherit,
                "settings": settings,
            },
        )
        self._history: History[G] = History(space, self.objectives, self.ledger)
        self._run = Run(
            self._history,
            self.ledger,
            self.strategy,
            seed=seed,
            size=population_size,
            rungs=rungs,
            replicate_ties=replicate_ties,
            warm_start=read_warm_start(self.ledger, space, self.experiment["warm_start"]),
            inherit=inherit,
        )
        self._run.sync()

    @classmethod
    def open(
        cls, space: SearchSpace[G], ledger: Path | str | Storage, *, strategy: Strategy | None = None
    ) -> Evolution[G]:
        """Go on with a run as it was frozen; a strategy that is none of the built-in ones must be given."""
        frozen = Ledger(ledger).experiment
        try:
            objectives = [Objective(item["name"], item["maximise"]) for item in frozen["objectives"]]
            sizes = {name: frozen[name] for name in ("population_size", "seed", "rungs")}
            name, settings = frozen["strategy"]["name"], frozen["strategy"]["settings"]
        except (KeyError, TypeError) as error:
            raise LedgerError(
                f"experiment.json in {ledger} is damaged: expected what a run freezes, found no usable {error}.",
                remedy="Restore it from a copy: a run cannot go on without it.",
            ) from error
        strategy = strategy or find_strategy(name, settings_of_run(name, settings))
        return cls(
            space,
            objectives=objectives,
            ledger=ledger,
            strategy=strategy,
            inherit=bool(frozen.get("inherit")),
            replicate_ties=bool(frozen.get("replicate_ties")),
            **sizes,
        )

    @property
    def generation(self) -> int:
        """Index of the open generation, or of the next one to be planned: the number of closed ones."""
        self._run.sync()
        return self._history.generations

    @property
    def exhausted(self) -> bool:
        """Whether the last ask found nothing in the space that was never asked."""
        return self._run.exhausted

    @property
    def survivors(self) -> list[Candidate[G]]:
        """The survivors of the last closed generation, in the strategy's order (best first for the elitist ones)."""
        self._run.sync()
        return [self._history.candidate(candidate) for candidate in self._history.survivors]

    def ask(self, n: int) -> list[Trial[G]]:
        """Return at most ``n`` trials of the open generation that were never asked, planning it where it has no plan.

        Returns none while its last trials are pending, and none when the space is exhausted (:attr:`exhausted`).
        """
        self._run.sync()
        if n > 0 and self._run.open is None:
            self._run.plan()
        return self._run.open.ask(n) if self._run.open is not None else []

    def pending(self) -> list[Trial[G]]:
        """Return the trials that were asked, in this process or before, and are not told."""
        self._run.sync()
        return self._run.open.pending() if self._run.open is not None else []

    def tell(
        self,
        trial_id: str,
        objectives: Mapping[str, float],
        *,
        violations: Mapping[str, float] | None = None,
        weights: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell what a trial brought back, whole; the generation closes with its last trial.

        Telling again changes nothing: the first value wins, and another one goes to telemetry with a warning. Values
        beside the objectives are stored and have no influence. ``violations`` are met at 0 or less; ``weights`` is the
        digest of the weights that were judged, which are published before.

        Raises:
            CandidateNotFound: no such trial was planned.
            SettingsError: an objective is neither told nor in ``space.costs``, or a value is not finite.
        """
        self._run.store(
            trial_id,
            whole_evaluation(
                self.space,
                self.trial(trial_id).genome,
                self.objectives,
                objectives,
                violations=violations,
                weights=weights,
                details=details,
            ),
        )

    def attempt(self, trial_id: str) -> int:
        """Return the number, from 1, of the attempt at a trial that begins now: one more than its environment failed.

        Who may have a twin (a retry beside an orphaned worker) reads it before the work and gives it to
        :meth:`tell_failure`.
        """
        return self.ledger.next_attempt(self.trial(trial_id).id)

    def tell_failure(
        self, trial_id: str, cause: str, *, detail: str = "", kind: FailureKind = "own", attempt: int | None = None
    ) -> None:
        """Tell that a trial failed.

        An ``own`` failure is final. An ``environment`` failure leaves the trial pending twice; the third is final,
        and the run is no longer exactly reproducible. One ``attempt`` counts once, whoever tells of it; None is the
        next one.
        """
        self.trial(trial_id)
        if kind not in ("own", "environment"):
            raise SettingsError(f"kind: expected own or environment, found {kind!r}.", remedy="Name one of the two.")
        failure = Failure(cause, detail, kind)
        if kind == "environment":
            if self.evaluation(trial_id) is not None:
                self.ledger.telemetry("late_failure", trial=trial_id, cause=cause, detail=detail)
                return
            attempt = self.ledger.next_attempt(trial_id) if attempt is None else attempt
            what = {"trial": trial_id, "cause": cause, "detail": detail}
            counted = self.ledger.count_attempt(trial_id, attempt, what)
            self.ledger.telemetry("environment_failure", attempt=attempt, counted=counted, **what)
            if attempt < ATTEMPTS or not counted:
                return
        self._run.store(trial_id, Evaluation(failure=failure))

    def close_generation(self) -> GenerationResult | None:
        """Close the open generation if every trial was told; return the last result, None while any is pending."""
        self._run.sync()
        return self._history.results[-1] if self._run.open is None and self._history.results else None

    def results(self) -> list[GenerationResult]:
        """Return what each closed generation decided."""
        self._run.sync()
        return list(self._history.results)

    def history(self) -> list[EvolutionMetrics]:
        """Return the metrics of each closed generation."""
        return [result.metrics for result in self.results()]

    def front(self) -> list[Candidate[G]]:
        """Return the non-dominated feasible candidates of the highest rung, those told so far in the open generation
        too.

        What the open generation told of candidates that were known before (replicates, promotions) counts once it
        closes.
        """
        self._run.sync()
        candidates = [self._history.candidate(candidate) for candidate in self._history.front]
        if self._run.open is None or not self._run.open.told:
            return candidates
        fresh = [trial for trial in self._run.open.newcomers() if trial.id in self._run.open.told]
        before = self._history.results[-1].rung if self._history.results else 0
        rung = max([before, *(trial.rung for trial in fresh)])
        pool = candidates if rung == before else []
        pool = pool + [self._run.open.candidate(trial) for trial in fresh if trial.rung == rung]
        known = [item.evaluation for item in pool if item.evaluation is not None]
        violations = np.array([item.violation for item in known])
        keep = nondominated(minimised(known, self.objectives), violations)
        return [candidate for candidate, kept in zip(pool, keep, strict=True) if kept]

    def candidate(self, prefix: str) -> Candidate[G]:
        """Return the one candidate whose id begins with ``prefix``, or raise CandidateNotFound."""
        self._run.sync()
        fresh = {trial.candidate: trial for trial in self._run.open.newcomers()} if self._run.open else {}
        found = {item for item in [*self._history.ids, *fresh] if item.startswith(prefix)}
        name = only_candidate(found, prefix, self.ledger.label)
        if self._run.open is not None and name in fresh:
            return self._run.open.candidate(fresh[name])
        return self._history.candidate(name)

    def trial(self, trial_id: str) -> Trial[G]:
        """Return a planned trial, or raise CandidateNotFound."""
        if self._run.open is None or trial_id not in self._run.open.trials:
            self._run.sync()
        if self._run.open is not None and trial_id in self._run.open.trials:
            return self._run.open.trials[trial_id]
        if self._history.told(trial_id):
            return self._history.trial(trial_id)
        raise CandidateNotFound(
            f"Expected a trial that {self.ledger.label} has planned, found {trial_id!r}.",
            remedy="Tell trials by the ids that ask() and pending() return.",
        )

    def evaluation(self, trial_id: str) -> Evaluation | None:
        """Return what a trial brought back, or None before it is told."""
        self._run.sync()
        if self._history.told(trial_id):
            return self._history.evaluation(trial_id)
        return self._run.open.told.get(trial_id) if self._run.open is not None else None

    def fitness(self, candidate: str, evaluation: Evaluation | None) -> float | None:
        """Return the fitness score that a candidate has by ``evaluation``, as the last closed generation would say.

        None before the first box, or where there is no evaluation.
        """
        self._run.sync()
        return self._history.fitness(candidate, evaluation)

    def promotable(self, count: int) -> list[str]:
        """Return the candidates, at most ``count`` a rung, that later generations are most likely to train on."""
        self._run.sync()
        return promotable(self._history, self.strategy, self.rungs, count)

    def prunable_weights(self) -> list[Path]:
        """Return the weights folders that nothing needs any more.

        Kept are those of the front, of the survivors, and of candidates and parents of the open generation, and of
        trials that those inherit from.
        """
        self._run.sync()
        kept = {*self._history.front, *self._history.survivors}
        for record in self._run.open.records if self._run.open is not None else ():
            sources = {name.partition(".")[0] for name in read_inheritance(record["inherits_from"])}
            kept |= {record["candidate"], *record["parents"], *sources}
        return [folder for _, candidate, folder in self.ledger.weights_folders() if candidate not in kept]
