"""Everything that a run folder has on record, read without trusting it: each file with what is wrong with it, if any.

Nothing is moved or mended here, unlike where the engine reads its ledger.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from evodiff.engine.encoding import decode_lines

if TYPE_CHECKING:
    from pathlib import Path

Record = dict[str, Any]
_CANDIDATE = r"^[0-9a-f]{16}$"
_GENERATION = r"[0-9]" * 4


class _Objective(BaseModel):
    name: str
    maximise: bool


class _Experiment(BaseModel):
    format: str
    evodiff: str
    space: dict[str, Any]
    objectives: list[_Objective] = Field(min_length=1)
    population_size: int = Field(ge=1)
    rungs: int = Field(ge=1)
    seed: int = Field(ge=0)
    strategy: dict[str, Any]
    settings: dict[str, Any]


class _Planned(BaseModel):
    id: str = Field(pattern=r"^[0-9a-f]{16}\.r\d+\.\d+(\.scratch)?$")
    candidate: str = Field(pattern=_CANDIDATE)
    genome: dict[str, Any]
    generation: int = Field(ge=0)
    rung: int = Field(ge=0)
    replicate: int = Field(ge=0)
    protocol: Literal["search", "scratch"]
    seed: int
    parents: list[str]
    operator: str | None
    inherits_from: list[str] | str | None
    predicted: dict[str, float] | None = None


class _Failure(BaseModel):
    cause: str
    detail: str
    kind: Literal["own", "environment"]


class _Evaluated(BaseModel):
    trial: str
    objectives: dict[str, float]
    violations: dict[str, float]
    weights: str | None
    details: dict[str, Any]
    failure: _Failure | None


class _Result(BaseModel):
    generation: int = Field(ge=0)
    survivors: list[str]
    front: list[str]
    rung: int = Field(ge=0)
    box: dict[str, dict[str, float]] | None
    hypervolume: float = Field(ge=0)
    metrics: dict[str, float]
    credit: dict[str, dict[str, int]]
    environment_failures: list[str]
    surrogate: dict[str, dict[str, float]] | None = None


@dataclass
class Generation:
    """What is on record of a generation: plan and evaluations in the order of their lines, each trial's own file."""

    plan: list[Record] = field(default_factory=list)
    evaluations: list[Record] | None = None
    own: dict[str, Record] = field(default_factory=dict)
    result: Record | None = None

    @property
    def told(self) -> dict[str, Record]:
        """What the trials brought back, by trial."""
        return self.own | {record["trial"]: record for record in self.evaluations or ()}


@dataclass
class Records:
    """The records of a run; ``problems`` says of every file, by its path from the run, what is wrong with it, or None.

    A file with a problem is left out of the rest. ``closed`` is how many generations were closed when reading began.
    """

    problems: dict[str, str | None]
    generations: dict[int, Generation]
    closed: int


def read_records(run: Path) -> Records:
    """Read every JSON file of a run that decides something or follows from what was decided."""
    folders = sorted(path for path in (run / "generations").glob(_GENERATION) if path.is_dir())
    numbers = {int(path.name): path for path in folders}
    closed = 0  # counted first: what closes meanwhile is an open generation here
    while closed in numbers and (numbers[closed] / "result.json").exists():
        closed += 1
    records = Records({}, {}, closed)
    _read(records, run, run / "experiment.json", _Experiment)
    for number, folder in numbers.items():
        records.generations[number] = _generation(records, run, folder)
    seen = {run / name for name in records.problems}
    for pattern in ("inputs", "generations", "leases", "requests", "final", "validation"):
        for path in sorted((run / pattern).rglob("*.json")):
            if path not in seen and not any(part.startswith(".") for part in path.relative_to(run).parts):
                _read(records, run, path, None)
    return records


def _generation(records: Records, run: Path, folder: Path) -> Generation:
    found = Generation(plan=_read_lines(records, run, folder / "plan.jsonl", _Planned) or [])
    for path in sorted((folder / "evaluations").glob("*.json")):
        record = _read(records, run, path, _Evaluated)
        if record is not None:
            found.own[path.name.removesuffix(".json")] = record
    found.evaluations = _read_lines(records, run, folder / "evaluations.jsonl", _Evaluated)
    found.result = _read(records, run, folder / "result.json", _Result)
    return found


def _read(records: Records, run: Path, path: Path, schema: type[BaseModel] | None) -> Record | None:
    """Read a document, noting its problem; None where it has one or is not there."""
    try:
        content = json.loads(path.read_bytes())
        problem = _problem(content, schema)
    except FileNotFoundError:  # not written yet, or removed while we looked
        return None
    except (OSError, ValueError) as error:
        content, problem = None, f"no JSON: {error}"
    records.problems[path.relative_to(run).as_posix()] = problem
    return content if problem is None else None


def _read_lines(records: Records, run: Path, path: Path, schema: type[BaseModel]) -> list[Record] | None:
    """Read lines of JSON; those with a problem, of which the first is noted, are left out."""
    name = path.relative_to(run).as_posix()
    try:
        lines = decode_lines(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        records.problems[name] = f"no lines of JSON: {error}"
        return None
    problems = [_problem(line, schema) for line in lines]
    wrong = [f"line {number}: {problem}" for number, problem in enumerate(problems, start=1) if problem]
    records.problems[name] = wrong[0] if wrong else None
    return [line for line, problem in zip(lines, problems, strict=True) if problem is None]


def _problem(content: Any, schema: type[BaseModel] | None) -> str | None:
    if schema is None:
        return None
    if not isinstance(content, dict):
        return f"expected an object, found {type(content).__name__}"
    try:
        schema.model_validate(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, found {str(first['input'])[:60]}"
    return None
