"""The gate of feedback: records from outside are judged line by line, and only those that make sense go on."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any, Final

from evodiff.data.dataset import write_whole
from evodiff.data.expectations import between, empty, true
from evodiff.data.gate_result import GateResult, conclude, write_lines
from evodiff.data.judging import Row, Table, judge
from evodiff.deployment.feedback.deployment_feedback import HIGHEST_RATING, LOWEST_RATING, DeploymentFeedback

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

ACCEPTED: Final = "accepted.jsonl"
REJECTED: Final = "rejected.jsonl"

_FIELDS: Final = {
    "architecture_id": str,
    "user_ratings": list,
    "performance_metrics": dict,
    "deployment_success": bool,
    "error_logs": list,
}
# Units of which there is never less than none.
_NEVER_NEGATIVE: Final = ("_ms", "_seconds", "_mb", "_bytes", "_total", "_rate", "_ratio")


def check_feedback(lines: Sequence[str], *, known: Collection[str], out: Path) -> GateResult:
    """Judge feedback records, one JSON object a line, in a folder of its own below ``out``.

    Whatever the verdict, the records that make sense are in ``accepted.jsonl`` of that folder, written anew, where
    :func:`accepted_feedback` reads them, and the lines that do not are in ``quarantine/rejected.jsonl``, as they came.
    It writes no page; for one call it by :mod:`evodiff.gates`.

    Args:
        lines: the records.
        known: ids of the architectures that there are, each RUN/ID.
        out: where the results of gates go.

    Raises:
        GateFailed: a record makes no sense; the message gives examples. The others are not lost by it.
        EvodiffError: Great Expectations is missing.
    """
    tables = _tables(lines, known)
    checks = tuple(judge(tables, _EXPECTATIONS))
    rows = {table.name: table.rows for table in tables}
    bad = {rows[check.expectation.table][index]["line"] for check in checks for index in check.offending}
    digest = hashlib.sha256(_joined(lines)).hexdigest()
    result = GateResult(
        gate="feedback",
        subject=digest[:16],
        digest=digest,
        checks=checks,
        counts={
            "records": len(lines),
            "accepted": len(lines) - len(bad),
            "rejected": len(bad),
            "ratings": len(rows["ratings"]),
            "architectures": len({row["architecture_id"] for row in rows["records"]} - {None}),
        },
        folder=out / f"feedback-{digest[:16]}",
    )
    accepted = [json.loads(line) for number, line in enumerate(lines, 1) if number not in bad]
    write_lines(result.folder / ACCEPTED, accepted)  # ASCII: whatever ends a line in some alphabet is escaped
    if bad:
        rejected = _joined(line for number, line in enumerate(lines, 1) if number in bad)
        write_whole(result.quarantine / REJECTED, rejected)
    return conclude(result, tables)


def accepted_feedback(folder: Path) -> list[DeploymentFeedback]:
    """Read the records that the gate accepted into the folder of its result."""
    lines = (folder / ACCEPTED).read_text(encoding="utf-8").splitlines()
    return [DeploymentFeedback.from_json(json.loads(line)) for line in lines]


def _joined(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")


def _tables(lines: Sequence[str], known: Collection[str]) -> list[Table]:
    records: list[Row] = []
    ratings: list[Row] = []
    metrics: list[Row] = []
    for number, line in enumerate(lines, start=1):
        record, problem = _read(line)
        architecture = record.get("architecture_id")
        records.append(
            {
                "line": number,
                "architecture_id": architecture,
                "problem": problem,
                "known": problem is not None or architecture in known,  # what cannot be read is told once
            }
        )
        if problem is None:
            ratings += [_rating(number, value) for value in record.get("user_ratings", ())]
            metrics += [_metric(number, name, value) for name, value in record.get("performance_metrics", {}).items()]
    return [
        Table("records", ("line", "architecture_id", "problem", "known"), records, key=2),
        Table("ratings", ("line", "given", "rating", "number"), ratings, key=2),
        Table("metrics", ("line", "name", "given", "finite", "possible"), metrics, key=3),
    ]


def _read(line: str) -> tuple[dict[str, Any], str | None]:
    """Return a record and what is wrong with its form, if anything."""
    try:
        record = json.loads(line)
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return {}, "text that is no Unicode: half of a surrogate pair"
    except (ValueError, RecursionError) as error:
        return {}, f"no JSON: {error}"
    if not isinstance(record, dict):
        return {}, f"expected an object, found {type(record).__name__}"
    if "architecture_id" not in record:
        return {}, "architecture_id is missing"
    for name, value in record.items():
        if name not in _FIELDS:
            return {}, f"unknown field {name}"
        if not isinstance(value, _FIELDS[name]):
            return {}, f"{name}: expected {_FIELDS[name].__name__}, found {type(value).__name__}"
    if not all(isinstance(entry, str) for entry in record.get("error_logs", ())):
        return {}, "error_logs: expected lines of text"
    return record, None


def _rating(line: int, value: Any) -> Row:
    number = _is_number(value)
    return {"line": line, "given": str(value), "rating": float(value) if number else None, "number": number}


def _metric(line: int, name: str, value: Any) -> Row:
    finite = _is_number(value)
    possible = not (finite and value < 0 and name.endswith(_NEVER_NEGATIVE))
    return {"line": line, "name": name, "given": str(value), "finite": finite, "possible": possible}


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


_SENDER: Final = "Mend whoever sends such records; the lines are set aside."

_EXPECTATIONS: Final = (
    empty(
        "readable records",
        "records",
        "problem",
        meaning="Each line is a JSON object with the fields of a DeploymentFeedback.",
        remedy=_SENDER,
    ),
    true(
        "known architectures",
        "records",
        "known",
        meaning="Each record is about an architecture that a run has tried, by RUN/ID.",
        remedy="Give the runs that these records are about, or find out where the ids come from.",
    ),
    true("ratings are numbers", "ratings", "number", meaning="Each rating is a number.", remedy=_SENDER),
    between(
        "ratings on the scale",
        "ratings",
        "rating",
        LOWEST_RATING,
        HIGHEST_RATING,
        meaning=f"Ratings are from {LOWEST_RATING} to {HIGHEST_RATING}.",
        remedy="Map ratings to that scale where they are collected.",
    ),
    true(
        "finite metrics",
        "metrics",
        "finite",
        meaning="Each metric is a finite number.",
        remedy="Leave out what was not measured.",
    ),
    true(
        "possible metrics",
        "metrics",
        "possible",
        meaning="Times, sizes, counts and shares are not negative.",
        remedy=_SENDER,
    ),
)
