"""A run as tables of plain rows, for its audit."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from evodiff.architecture.genome import ArchitectureGenome
from evodiff.data.judging import Row, Table
from evodiff.engine.candidate import candidate_id, read_inheritance, trial_id
from evodiff.engine.randomness import trial_seed
from evodiff.errors import InvalidGenome, LedgerError
from evodiff.pipeline.create import file_digest
from evodiff.pipeline.replay import replay, replayable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from evodiff.pipeline.records import Records
    from evodiff.pipeline.run import Run

# A parent in another run, by that run's name: nothing here can say whether it exists.
_ELSEWHERE: Final = re.compile(r".+/[0-9a-f]{16}")


def audit_tables(run: Run, records: Records) -> list[Table]:
    """Describe a run by its records, whatever is wrong with them; the last table is what a replay brought, if any."""
    tables = [
        Table(
            "files", ("file", "problem"), [{"file": name, "problem": text} for name, text in records.problems.items()]
        ),
        _table("inputs", ("file", "expected", "found"), _inputs(run)),
        _table("trials", _TRIAL, _trials(run, records), key=2),
        _table("evaluations", _EVALUATION, _evaluations(run, records), key=2),
        _table("values", ("generation", "trial", "name", "value", "finite"), _values(records), key=3),
        _table("generations", _GENERATION, _generations(records)),
        _table("weights", _WEIGHTS, _weights(run, records)),
        _table("needed", ("candidate", "generation", "present"), _needed(run, records)),
    ]
    sound = not any(records.problems.values()) and all(row["expected"] == row["found"] for row in tables[1].rows)
    if sound and replayable(run):
        replayed = replay(run, records.closed)
        tables.append(_table("replay", ("file", "replayed"), _named("file", "replayed", replayed)))
    return tables


_TRIAL: Final = (
    "generation",
    "trial",
    "trial_expected",
    "candidate",
    "candidate_found",
    "seed",
    "seed_expected",
    "plan",
    "stray_parent",
    "stray_source",
)
_EVALUATION: Final = ("generation", "trial", "planned", "agrees", "missing", "judged_by", "search_net")
_GENERATION: Final = (
    "generation",
    "trials",
    "evaluations",
    "failed",
    "state",
    "untold",
    "in_turn",
    "in_order",
    "stray",
    "own_number",
)
_WEIGHTS: Final = ("folder", "damage", "named", "found")


def _table(name: str, columns: tuple[str, ...], rows: Iterator[Row], *, key: int = 1) -> Table:
    return Table(name, columns, list(rows), key)


def _named(first: str, second: str, values: Mapping[str, Any]) -> Iterator[Row]:
    return ({first: name, second: value} for name, value in values.items())


def _inputs(run: Run) -> Iterator[Row]:
    files = {path.stem: path for path in run.inputs.glob("*") if path.is_file()}
    expected = dict(run.settings["digests"])
    warm_start = run.experiment.get("warm_start")
    if warm_start:
        expected[f"warm_start-{warm_start[:12]}"] = warm_start
    for name, digest in expected.items():
        found = file_digest(files[name]) if name in files else "no file"
        yield {"file": name, "expected": digest, "found": found}


def _trials(run: Run, records: Records) -> Iterator[Row]:
    candidates: set[str] = set()  # of the generations before
    trials: set[str] = set()
    for number, generation in records.generations.items():
        for row in generation.plan:
            candidate = row["candidate"]
            yield {
                "generation": number,
                "trial": row["id"],
                "trial_expected": trial_id(candidate, row["rung"], row["replicate"], row["protocol"]),
                "candidate": candidate,
                "candidate_found": _identity(row["genome"]),
                "seed": str(row["seed"]),
                "seed_expected": str(trial_seed(run.experiment["seed"], candidate, row["replicate"])),
                "plan": row["generation"],
                "stray_parent": next((item for item in row["parents"] if not _known(item, candidates)), None),
                "stray_source": next((item for item in _sources(row) if not _known(item, trials)), None),
            }
        candidates |= {row["candidate"] for row in generation.plan}
        trials |= {row["id"] for row in generation.plan}


def _sources(row: Mapping[str, Any]) -> tuple[str, ...]:
    return read_inheritance(row["inherits_from"])


def _known(name: str, before: set[str]) -> bool:
    return name in before or _ELSEWHERE.fullmatch(name) is not None


def _identity(genome: Mapping[str, Any]) -> str:
    try:
        return candidate_id(ArchitectureGenome.from_json(genome).canonical())
    except (InvalidGenome, ValueError, KeyError, TypeError) as error:
        return f"no genome: {error}"[:100]


def _evaluations(run: Run, records: Records) -> Iterator[Row]:
    net = run.settings["digests"].get("feature_net")
    wanted = [objective.name for objective in run.objectives]
    for number, generation in records.generations.items():
        planned = {row["id"] for row in generation.plan}
        closed = {record["trial"]: record for record in generation.evaluations or ()}
        for trial, record in generation.told.items():
            own = generation.own.get(trial, record)
            missing = [name for name in wanted if name not in record["objectives"]] if not record["failure"] else []
            yield {
                "generation": number,
                "trial": trial,
                "planned": trial in planned,
                "agrees": own["trial"] == trial and own == closed.get(trial, own),
                "missing": ", ".join(missing) or None,
                "judged_by": record["details"].get("feature_net", net),
                "search_net": net,
            }


def _values(records: Records) -> Iterator[Row]:
    for number, generation in records.generations.items():
        for trial, record in generation.told.items():
            for name, value in (*record["objectives"].items(), *record["violations"].items()):
                finite = math.isfinite(value)
                yield {"generation": number, "trial": trial, "name": name, "value": value, "finite": finite}


def _generations(records: Records) -> Iterator[Row]:
    tried: set[str] = set()
    for number, generation in records.generations.items():
        tried |= {row["candidate"] for row in generation.plan}
        order = [row["id"] for row in generation.plan]
        told, result = generation.told, generation.result or {}
        chosen = [*result.get("survivors", ()), *result.get("front", ())]
        lines = [record["trial"] for record in generation.evaluations or ()]
        yield {
            "generation": number,
            "trials": len(order),
            "evaluations": len(told),
            "failed": sum(record["failure"] is not None for record in told.values()),
            "state": "closed" if number < records.closed else "open",
            "untold": next((trial for trial in order if trial not in told), None) if number < records.closed else None,
            "in_turn": number <= records.closed,
            "in_order": generation.evaluations is None or lines == order,
            "stray": next((item for item in chosen if item not in tried), None),
            "own_number": result.get("generation", number),
        }


def _weights(run: Run, records: Records) -> Iterator[Row]:
    from evodiff.training.digests import weights_damage, weights_digest

    for number, candidate, folder in run.ledger.weights_folders():
        damage = weights_damage(folder)
        try:
            found = None if damage else weights_digest(folder)
        except LedgerError:
            continue
        if not folder.exists():  # pruned while we looked; that takes a folder away at once
            continue
        rung = folder.name.partition(".r")[2]
        told = records.generations[number].told if number in records.generations else {}
        named = next((told[trial]["weights"] for trial in told if trial.startswith(f"{candidate}.r{rung}.")), None)
        yield {
            "folder": folder.relative_to(run.path).as_posix(),
            "damage": damage or None,
            "named": named or found or "",  # a trial that is trained and not judged names none
            "found": found or named or "",  # what is damaged is told once
        }


def _needed(run: Run, records: Records) -> Iterator[Row]:
    """Candidates of the last front and its survivors whose weights an evaluation names, each in its last generation."""
    last = records.generations[records.closed - 1].result if records.closed else None
    wanted = dict.fromkeys([*last["front"], *last["survivors"]]) if last else {}
    present = {(number, candidate) for number, candidate, _ in run.ledger.weights_folders()}
    for candidate in wanted:
        homes = [
            number
            for number, generation in records.generations.items()
            if number < records.closed
            for trial, record in generation.told.items()
            if trial.startswith(f"{candidate}.") and record["weights"]
        ]
        if homes:
            yield {"candidate": candidate, "generation": homes[-1], "present": (homes[-1], candidate) in present}
