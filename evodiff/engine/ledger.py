"""The ledger: a folder of JSON that holds what was tried and what came out.

A :class:`Ledger` reads and writes such a folder (:mod:`evodiff.engine.layout` says what lies where) and needs no search
space. Everything that decides is published once, by create-if-absent, and never changed; ``result.json`` and
``evaluations.jsonl`` can be computed again from the rest.
"""

from __future__ import annotations

import json
import re
import time
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evodiff.engine.candidate import Evaluation, Trial, finite_values
from evodiff.engine.encoding import decode_lines, encode_document, encode_line
from evodiff.engine.history import GenerationResult
from evodiff.engine.layout import (
    evaluation_name,
    evaluations_name,
    generation_folder,
    plan_name,
    result_name,
)
from evodiff.engine.storage import FolderStorage, Storage, open_storage
from evodiff.errors import CandidateNotFound, LedgerError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

FORMAT = "evodiff-ledger-1"
_RESTORE = "Restore it from a copy: a run cannot go on without it."
_REBUILD = "Move it away and resume: it is computed again, the same, from the evaluations."
_ID = re.compile(r"[0-9a-f]{16}(\.r\d+\.\d+(\.scratch)?)?")


class Ledger:
    """Reader and writer of a run folder; ``where`` may also be None (memory) or a :class:`Storage`."""

    def __init__(self, where: Path | str | Storage | None) -> None:
        self._storage = open_storage(where)
        self._planned = 0
        self._closed = 0

    @property
    def path(self) -> Path | None:
        """The folder, or None for a ledger in memory."""
        return self._storage.root if isinstance(self._storage, FolderStorage) else None

    @property
    def label(self) -> str:
        """How messages call the ledger."""
        return str(self.path or "the run in memory")

    @property
    def experiment(self) -> dict[str, Any]:
        """The frozen settings.

        Raises:
            LedgerError: the folder holds no run, one of another format, or a damaged one.
        """
        content = self._storage.read("experiment.json")
        if content is None:
            raise LedgerError(
                f"{self.label} is not a run: expected experiment.json in it, found none.",
                remedy="Name the folder of a run, or start a new one.",
            )
        experiment = self._document("experiment.json", content, _RESTORE)
        if experiment.get("format") != FORMAT:
            raise LedgerError(
                f"{self.label} has another format: expected {FORMAT!r}, found {experiment.get('format')!r}.",
                remedy="Read it with the version of evodiff that wrote it"
                f" ({experiment.get('evodiff', 'unknown')}), or start a new run in an empty folder.",
            )
        return experiment

    @property
    def generations(self) -> int:
        """How many generations are planned."""
        while self._storage.exists(plan_name(self._planned)):
            self._planned += 1
        return self._planned

    @property
    def closed(self) -> int:
        """How many generations are closed."""
        while self._storage.exists(result_name(self._closed)):
            self._closed += 1
        return self._closed

    def started(self, generation: int) -> bool:
        """Whether a generation left anything, its plan or what followed from it."""
        names = self._storage.names(generation_folder(generation))
        return (
            any(name in names for name in ("plan.jsonl", "evaluations.jsonl", "result.json"))
            or len(self.evaluation_ids(generation)) > 0
        )

    def plan(self, generation: int) -> list[dict[str, Any]]:
        """Return the trials of a generation as JSON; an empty list where none is planned.

        Raises:
            LedgerError: the plan is there but damaged, or names no trial: one without a trial is never published.
        """
        content = self._storage.read(plan_name(generation))
        if content is None:
            return []
        try:
            records = decode_lines(content)
            _require(len(records) > 0, "no trial")
            _require(len({_planned_id(record, generation) for record in records}) == len(records), "a trial twice")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.damaged(plan_name(generation), "one trial a line", _say(error)) from error
        return records

    def result(self, generation: int) -> dict[str, Any] | None:
        """Return what a generation decided, or None while it is not closed.

        Raises:
            LedgerError: it is not what :class:`~evodiff.engine.history.GenerationResult` writes.
        """
        name = result_name(generation)
        content = self._storage.read(name)
        if content is None:
            return None
        document = self._document(name, content, _REBUILD)
        objectives = self._objectives
        try:
            result = GenerationResult.from_json(document)
            _require(result.generation == generation, "another generation")
            _require(result.box is None or result.box.ideal.keys() == objectives, "a box of other objectives")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.damaged(name, "what a generation decides", _say(error)) from error
        return document

    def closed_evaluations(
        self, generation: int, plan: Sequence[Mapping[str, Any]] | None = None
    ) -> dict[str, Evaluation] | None:
        """Return what ``evaluations.jsonl`` holds, or None where there is none.

        One that is damaged, or does not hold every trial of the plan, is set aside with a warning. Who has read the
        plan may give it.

        Raises:
            LedgerError: it holds trials that the plan has lost.
        """
        name = evaluations_name(generation)
        content = self._storage.read(name)
        if content is None:
            return None
        planned = {record["id"] for record in (self.plan(generation) if plan is None else plan)}
        objectives = self._objectives
        try:
            found = {record["trial"]: _read_evaluation(record, objectives) for record in decode_lines(content)}
            _require(planned <= found.keys(), f"none of {len(planned - found.keys())} trials")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.set_aside(name, error, "the files of its trials are read instead")
            return None
        self.require_planned(generation, planned, found.keys())
        return found

    def require_planned(self, generation: int, planned: Collection[str], told: Collection[str]) -> None:
        """Check that the plan of a generation, unless it is lost, has every trial that was told.

        Raises:
            LedgerError: it has lost one.
        """
        lost = sorted(set(told) - set(planned)) if planned else ()
        if lost:
            raise self.damaged(plan_name(generation), f"the trial {lost[0]}, which was told", "none of that id")

    def evaluations(self, generation: int) -> dict[str, Evaluation]:
        """Return what the trials of a generation brought back, by trial id, those told so far where it is open."""
        whole = self.closed_evaluations(generation)
        if whole is not None:
            return whole
        told = self.evaluation_ids(generation)
        self.require_planned(generation, {record["id"] for record in self.plan(generation)}, told)
        found = {trial: self.evaluation(generation, trial) for trial in told}
        return {trial: evaluation for trial, evaluation in found.items() if evaluation is not None}

    def evaluation_ids(self, generation: int) -> list[str]:
        """Return the trials of a generation that have an evaluation file."""
        names = self._storage.names(f"{generation_folder(generation)}/evaluations")
        return [name.removesuffix(".json") for name in names if _ID.fullmatch(name.removesuffix(".json"))]

    def evaluation(self, generation: int, trial: str) -> Evaluation | None:
        """Return what one trial brought back, from its own file; a damaged file is set aside, with a warning."""
        name = evaluation_name(generation, trial)
        content = self._storage.read(name)
        if content is None:
            return None
        objectives = self._objectives
        try:
            record = json.loads(content)
            _require(record["trial"] == trial, "another trial")
            return _read_evaluation(record, objectives)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            closed = self._storage.exists(result_name(generation))
            self.set_aside(name, error, "restore it from a copy" if closed else "its trial is done again")
            return None

    def publish_evaluation(self, generation: int, trial: str, evaluation: Evaluation) -> bool:
        """Publish what a trial brought back; return False where something is there already."""
        return self._storage.publish(evaluation_name(generation, trial), encode_evaluation(trial, evaluation))

    def weights_folder(self, trial: Trial[Any] | Mapping[str, Any]) -> Path:
        """Return where the weights of a trial belong."""
        if isinstance(trial, Trial):
            generation, candidate, rung = trial.generation, trial.candidate, trial.rung
        else:
            generation, candidate, rung = trial["generation"], trial["candidate"], trial["rung"]
        if self.path is None:
            raise LedgerError("A run in memory keeps no weights: expected a folder.", remedy="Give the run a ledger.")
        return self.path / generation_folder(generation) / "weights" / f"{candidate}.r{rung}"

    def weights_folders(self) -> list[tuple[int, str, Path]]:
        """Return generation, candidate and place of all weights that are there."""
        if self.path is None:
            return []
        return [
            (generation, name.partition(".")[0], self.path / generation_folder(generation) / "weights" / name)
            for generation in range(self.generations)
            for name in self._storage.names(f"{generation_folder(generation)}/weights")
            if not name.startswith(".")  # what a writer has not finished
        ]

    def find(self, prefix: str) -> str:
        """Return the id of the one candidate that begins with ``prefix``.

        Raises:
            CandidateNotFound: there is none, or more than one.
        """
        found = {
            record["candidate"]
            for generation in range(self.generations)
            for record in self.plan(generation)
            if record["candidate"].startswith(prefix)
        }
        return only_candidate(found, prefix, self.label)

    def exists(self, path: Path | str) -> bool:
        """Return whether there is such a file in the run."""
        return self._storage.exists(self._name(path))

    def read(self, path: Path | str) -> bytes | None:
        """Return the content of a file of the run, or None."""
        return self._storage.read(self._name(path))

    def publish(self, path: Path | str, content: bytes) -> bool:
        """Create a file of the run whole, at once; return False, and change nothing, where it exists."""
        return self._storage.publish(self._name(path), content)

    def replace(self, path: Path | str, content: bytes) -> None:
        """Write a derived file of the run whole, at once."""
        self._storage.replace(self._name(path), content)

    def sweep(self, now: float) -> None:
        """Remove what killed processes left half-written a day ago or earlier; ``now`` in seconds of the epoch."""
        if isinstance(self._storage, FolderStorage):
            self._storage.sweep(now)

    def telemetry(self, event: str, **content: Any) -> None:
        """Add a line to ``telemetry/events.jsonl``, with the time."""
        record = {"event": event, "time": round(time.time(), 3), **content}
        self._storage.append("telemetry/events.jsonl", encode_line(record))

    def next_attempt(self, trial: str) -> int:
        """Return the number, from 1, of the first attempt at a trial that did not fail for its environment."""
        attempt = 1
        while self._storage.exists(_attempt_name(trial, attempt)):
            attempt += 1
        return attempt

    def count_attempt(self, trial: str, attempt: int, content: Mapping[str, Any]) -> bool:
        """Record that an attempt failed for its environment; return False where a twin recorded the same one."""
        return self._storage.publish(_attempt_name(trial, attempt), encode_document(content))

    def set_aside(self, path: Path | str, found: Exception | str, next_step: str) -> None:
        """Move a damaged file or folder to ``telemetry/damaged/``, with a warning of what was found and comes next."""
        name, what = self._name(path), found if isinstance(found, str) else _say(found)
        to = f"telemetry/damaged/{name.replace('/', '.')}.{time.time_ns()}"
        self._storage.move(name, to)
        self.telemetry("damaged", file=name, moved_to=to, found=what)
        warnings.warn(f"{name} in {self.label} was damaged ({what}); it is now {to}: {next_step}.", stacklevel=2)

    @cached_property
    def _objectives(self) -> frozenset[str]:
        try:
            return frozenset(item["name"] for item in self.experiment["objectives"])
        except (KeyError, TypeError) as error:
            raise self.damaged("experiment.json", "objectives by name", _say(error), _RESTORE) from error

    def _document(self, name: str, content: bytes, remedy: str) -> dict[str, Any]:
        try:
            document = json.loads(content)
            _require(isinstance(document, dict), type(document).__name__)
        except ValueError as error:
            raise self.damaged(name, "a JSON object", _say(error), remedy) from error
        whole: dict[str, Any] = document
        return whole

    def damaged(self, name: str, expected: str, found: str, remedy: str = _REBUILD) -> LedgerError:
        """Return the error that names a damaged file; by default one that can be computed again."""
        return LedgerError(f"{name} in {self.label} is damaged: expected {expected}, found {found}.", remedy=remedy)

    def _name(self, path: Path | str) -> str:
        path = Path(path)
        if path.is_absolute() and self.path is not None and path.is_relative_to(self.path.absolute()):
            path = path.relative_to(self.path.absolute())
        elif self.path is not None and path.is_relative_to(self.path):
            path = path.relative_to(self.path)
        return path.as_posix()


def encode_evaluation(trial: str, evaluation: Evaluation) -> bytes:
    """Return the line that stores an evaluation."""
    return encode_line({"trial": trial, **evaluation.to_json()})


def only_candidate(found: set[str], prefix: str, label: str) -> str:
    """Return the one id in ``found``, or raise :class:`CandidateNotFound`."""
    if prefix in found:
        return prefix
    if len(found) != 1 or not prefix:
        listed = ", ".join(sorted(found)[:5]) or "none"
        raise CandidateNotFound(
            f"Expected one candidate of {label} that begins with {prefix!r}, found {listed}.",
            remedy="Give more digits of its id." if found else "List the ids with `evodiff trials`.",
        )
    return found.pop()


def _attempt_name(trial: str, attempt: int) -> str:
    return f"telemetry/attempts/{trial}.{attempt}.json"


def _planned_id(record: Mapping[str, Any], generation: int) -> str:
    """Return the id of a planned trial, once it is whole and of this generation."""
    trial = Trial.from_json(record, record["genome"])
    _require(_ID.fullmatch(record["id"]) is not None and trial.id == record["id"], "an id that is none")
    _require(isinstance(trial.genome, dict), "no genome")
    _require(trial.generation == generation and type(trial.seed) is int, "a trial of another generation or seed")
    _require(all(isinstance(parent, str) for parent in trial.parents), "a parent that is no id")
    _require(isinstance(trial.operator, str | None), "no name")
    finite_values(trial.predicted or {}, "predicted")
    return trial.id


def _read_evaluation(record: Mapping[str, Any], objectives: frozenset[str]) -> Evaluation:
    """Return what a trial brought back, once it has every one of the ``objectives`` or a failure."""
    evaluation = Evaluation.from_json(record)
    missing = objectives - evaluation.objectives.keys() if evaluation.failure is None else ()
    _require(not missing, f"no {', '.join(sorted(missing))}")
    return evaluation


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
