"""Candidates, the trials that test them, and what trials bring back."""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_args

from evodiff.errors import SettingsError

G = TypeVar("G")

TrialProtocol = Literal["search", "scratch"]
FailureKind = Literal["own", "environment"]


def candidate_id(canonical: str) -> str:
    """Return the id of a canonical string: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def trial_id(candidate: str, rung: int = 0, replicate: int = 0, protocol: TrialProtocol = "search") -> str:
    """Return the id of a trial, such as ``0123456789abcdef.r0.0``; trials from scratch end in ``.scratch``."""
    return f"{candidate}.r{rung}.{replicate}" + (".scratch" if protocol == "scratch" else "")


@dataclass(frozen=True)
class Objective:
    """A named value that the search minimises, or maximises."""

    name: str
    maximise: bool = False


def parse_objectives(objectives: Sequence[Objective | str]) -> tuple[Objective, ...]:
    """Return objectives; a plain name stands for one that is minimised.

    Raises:
        SettingsError: there is none, or two have one name.
    """
    parsed = tuple(Objective(item) if isinstance(item, str) else item for item in objectives)
    names = [item.name for item in parsed]
    if isinstance(objectives, str) or not parsed or len(set(names)) < len(names) or not all(names):
        raise SettingsError(
            f"objectives: expected one or more different names, found {objectives!r}.",
            remedy='Give a list such as [Objective("error"), Objective("latency_ms")].',
        )
    return parsed


@dataclass(frozen=True)
class Failure:
    """Why a trial brought no values.

    An ``own`` failure (non-finite loss, wrong shapes) lies in the candidate and is final. An ``environment`` failure
    (crash, out of memory, time-out, lost worker) is tried again twice before it is stored.
    """

    cause: str
    detail: str = ""
    kind: FailureKind = "own"


@dataclass(frozen=True)
class Evaluation:
    """What a trial brought back; deterministic values only.

    ``objectives`` holds every objective of the run, and may hold more; ``violations`` are met at 0 or less; ``weights``
    is the SHA-256 of the weights that were judged; ``details`` is JSON (standard errors, a loss curve).
    """

    objectives: Mapping[str, float] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=dict)
    weights: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None

    @property
    def violation(self) -> float:
        """Sum of the violations above 0; infinite for a failed trial (Deb et al. 2002, constraint domination)."""
        if self.failure is not None:
            return math.inf
        return math.fsum(value for value in self.violations.values() if value > 0)

    @property
    def feasible(self) -> bool:
        """Whether the trial succeeded and every constraint is met."""
        return self.violation == 0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        failure = self.failure
        return {
            "objectives": dict(self.objectives),
            "violations": dict(self.violations),
            "weights": self.weights,
            "details": dict(self.details),
            "failure": failure and {"cause": failure.cause, "detail": failure.detail, "kind": failure.kind},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """Read what :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: the data are not those of an evaluation.
        """
        failure = data["failure"]
        if not isinstance(data["weights"], str | None) or (failure and failure["kind"] not in get_args(FailureKind)):
            raise ValueError("weights or a failure of no known kind")
        return cls(
            objectives=finite_values(data["objectives"], "objectives"),
            violations=finite_values(data["violations"], "violations"),
            weights=data["weights"],
            details=dict(data["details"]),
            failure=None if failure is None else Failure(failure["cause"], failure["detail"], failure["kind"]),
        )


def finite_values(values: Mapping[str, float], what: str) -> dict[str, float]:
    """Return a copy with plain floats.

    Raises:
        SettingsError: a value is not a finite number.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(
            f"{what}: expected a mapping of names to numbers, found {values!r}.", remedy=f"Tell {what} by name."
        )
    for name, value in values.items():
        if not _is_finite_number(value):
            raise SettingsError(
                f"{what}: expected a finite number for {name!r}, found {value!r}.",
                remedy="Tell a trial that has no such value by tell_failure(trial_id, cause).",
            )
    return {str(name): float(value) for name, value in values.items()}


def _is_finite_number(value: object) -> bool:
    # numpy's scalars are numbers.Real, and so is bool, which is not meant to be a value
    return type(value) is not bool and isinstance(value, numbers.Real) and math.isfinite(float(value))


def combine_replicates(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return the evaluation that replicates of one candidate on one rung amount to.

    Values are means over the replicates that succeeded, and the standard errors in ``details`` those of the means;
    everything else is that of the first of them. A candidate whose replicates all failed has failed.
    """
    succeeded = [item for item in evaluations if item.failure is None]
    if len(succeeded) <= 1:
        return (succeeded or list(evaluations))[0]
    objectives = _means([item.objectives for item in succeeded])
    stated = [name for name in objectives if any(error_name(name) in item.details for item in succeeded)]
    return Evaluation(
        objectives=objectives,
        violations=_means([item.violations for item in succeeded]),
        weights=succeeded[0].weights,
        details={**succeeded[0].details, **{error_name(name): standard_error(succeeded, name) for name in stated}},
    )


def error_name(objective: str) -> str:
    """Return under what name an evaluation's details hold the standard error of an objective."""
    return f"{objective}_standard_error"


def stated_errors(evaluation: Evaluation, objectives: Iterable[str]) -> dict[str, float]:
    """Return the standard errors that an evaluation's details hold, by objective."""
    return {
        name: float(evaluation.details[error_name(name)])
        for name in objectives
        if error_name(name) in evaluation.details
    }


def standard_error(trials: Sequence[Evaluation], objective: str) -> float:
    """Return the standard error of the mean of an objective over some trials, 0 where it is exact."""
    square = math.fsum(float(trial.details.get(error_name(objective), 0.0)) ** 2 for trial in trials)
    return math.sqrt(square) / len(trials)


def _means(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    shared = [name for name in values[0] if all(name in item for item in values)]
    return {name: math.fsum(item[name] for item in values) / len(values) for name in shared}


@dataclass(frozen=True)
class Trial(Generic[G]):
    """The unit of work: a candidate, on a rung, once (``replicate``), under a protocol.

    Under ``search`` weights may be inherited, from the trials named by ``inherits_from``; under ``scratch`` never.
    ``parents`` are candidate ids, or ``RUN/ID`` for parents in another run. ``predicted`` is what a surrogate expected
    of the objectives when it picked the trial, None where none did.
    """

    candidate: str
    genome: G
    generation: int
    rung: int = 0
    replicate: int = 0
    protocol: TrialProtocol = "search"
    seed: int = 0
    parents: tuple[str, ...] = ()
    operator: str | None = None
    inherits_from: tuple[str, ...] = ()
    predicted: Mapping[str, float] | None = None

    @property
    def id(self) -> str:
        """Name of the trial, unique in its run."""
        return trial_id(self.candidate, self.rung, self.replicate, self.protocol)

    def to_json(self, genome: Mapping[str, Any]) -> dict[str, Any]:
        """Return plain JSON; ``genome`` is the genome's own."""
        predicted = {} if self.predicted is None else {"predicted": dict(self.predicted)}
        return {
            **predicted,
            "id": self.id,
            "candidate": self.candidate,
            "genome": dict(genome),
            "generation": self.generation,
            "rung": self.rung,
            "replicate": self.replicate,
            "protocol": self.protocol,
            "seed": self.seed,
            "parents": list(self.parents),
            "operator": self.operator,
            "inherits_from": list(self.inherits_from) or None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], genome: G) -> Trial[G]:
        """Read what :meth:`to_json` wrote, with the genome read by its space."""
        return cls(
            candidate=data["candidate"],
            genome=genome,
            generation=data["generation"],
            rung=data["rung"],
            replicate=data["replicate"],
            protocol=data["protocol"],
            seed=data["seed"],
            parents=tuple(data["parents"]),
            operator=data["operator"],
            inherits_from=read_inheritance(data["inherits_from"]),
            predicted=data.get("predicted"),
        )


def read_inheritance(value: object) -> tuple[str, ...]:
    """Read ``inherits_from`` of a row of a plan: a list of trials, or null for none; older plans name one trial.

    Raises:
        ValueError: it is something else.
    """
    names = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected trials to inherit from, found {value!r}")
    return tuple(names)


@dataclass(frozen=True)
class Candidate(Generic[G]):
    """A genome and its id, with where it came from and what is known of it.

    ``evaluation`` is that of the highest rung on which the candidate was tried, the mean of its replicates; None before
    any. ``fitness_score`` is in [0, 1], larger is better (:mod:`evodiff.engine.fitness`); None where it is not known.
    """

    id: str
    genome: G
    generation: int
    parents: tuple[str, ...] = ()
    operator: str | None = None
    evaluation: Evaluation | None = None
    fitness_score: float | None = None
