"""The audit of a whole run: is what is on record whole, linked, finite, and what its digests say?

:func:`audit_run` reads only, so that it may look at a run that is being worked on. It writes no page; for one call it
by :mod:`evodiff.gates`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from evodiff.data.expectations import empty, equal, true, unique
from evodiff.data.gate_result import GateResult, conclude
from evodiff.data.judging import judge
from evodiff.pipeline.audit_tables import audit_tables
from evodiff.pipeline.create import file_digest
from evodiff.pipeline.records import read_records

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evodiff.data.judging import Table
    from evodiff.pipeline.records import Records
    from evodiff.pipeline.run import Run

_SHOWN: Final = {
    "generations": ("generation", "state", "trials", "evaluations", "failed"),
    "inputs": ("file", "expected"),
}


def audit_run(run: Run, *, out: Path | None = None) -> GateResult:
    """Audit a run; result and what offends are in ``out``, by default ``RUN/report/audit``.

    Closed generations are decided once more from their evaluations and compared byte for byte, where the code is that
    which the run was begun with and its files can be read. Nothing in the run is changed.

    Raises:
        GateFailed: something is not as expected; the message gives examples.
        EvodiffError: Great Expectations is missing.
    """
    records = read_records(run.path)
    tables = {table.name: table for table in audit_tables(run, records)}
    result = GateResult(
        gate="run",
        subject=run.name,
        digest=file_digest(run.path / "experiment.json"),
        checks=tuple(judge(list(tables.values()), [item for item in _EXPECTATIONS if item.table in tables])),
        counts={
            "generations closed": records.closed,
            "trials": len(tables["trials"].rows),
            "evaluations": len(tables["evaluations"].rows),
            "failed trials": sum(row["failed"] for row in tables["generations"].rows),
            "weights": len(tables["weights"].rows),
            "files": len(tables["files"].rows),
        },
        folder=run.path / "report" / "audit" if out is None else out,
        notes=tuple(_notes(tables, records)),
        tables={
            name.capitalize(): [{column: row[column] for column in columns} for row in tables[name].rows]
            for name, columns in _SHOWN.items()
        },
    )
    return conclude(result, list(tables.values()))


def _notes(tables: Mapping[str, Table], records: Records) -> list[str]:
    notes = [f"Looked at on {datetime.now(UTC):%d %B %Y, %H:%M} UTC."]
    if "replay" in tables:
        notes.append(
            f"All decisions of {records.closed} closed generations were made once more from their evaluations."
        )
    else:
        notes.append("Decisions were not made once more: files are damaged, or another version began the run.")
    lost = [
        trial
        for generation in records.generations.values()
        for trial in (generation.result or {}).get("environment_failures", ())
    ]
    if lost:
        notes.append(f"Not exactly reproducible: {len(lost)} trials were given up for their environment ({lost[0]}).")
    return notes


_RESTORE: Final = "Restore the file from the archive or a copy."
_AGAIN: Final = "Move it and later generations away and resume: what is missing is computed again."


_EXPECTATIONS: Final = (
    empty("readable files", "files", "problem", meaning="Every file is JSON of its schema.", remedy=_RESTORE),
    equal(
        "inputs as frozen", "inputs", "found", "expected", meaning="Inputs have their frozen digests.", remedy=_RESTORE
    ),
    unique("each trial once", "trials", "trial", meaning="No trial is planned twice.", remedy=_AGAIN),
    equal(
        "names of trials",
        "trials",
        "trial",
        "trial_expected",
        meaning="A trial is named by what it is.",
        remedy=_RESTORE,
    ),
    equal(
        "names of candidates",
        "trials",
        "candidate",
        "candidate_found",
        meaning="A candidate's id is the digest of its genome.",
        remedy=_RESTORE,
    ),
    equal("seeds", "trials", "seed", "seed_expected", meaning="Seeds follow from the run's seed.", remedy=_RESTORE),
    equal(
        "trials in place",
        "trials",
        "plan",
        "generation",
        meaning="A trial is planned in its own generation.",
        remedy=_RESTORE,
    ),
    empty(
        "closed lineage",
        "trials",
        "stray_parent",
        meaning="Every parent was tried in an earlier generation.",
        remedy=_RESTORE,
    ),
    empty("known origin", "trials", "stray_source", meaning="Weights come from an earlier trial.", remedy=_RESTORE),
    true(
        "planned evaluations",
        "evaluations",
        "planned",
        meaning="Every evaluation is of a planned trial.",
        remedy=_RESTORE,
    ),
    true(
        "evaluations agree",
        "evaluations",
        "agrees",
        meaning="A trial's own file says what its generation says.",
        remedy=_RESTORE,
    ),
    empty(
        "whole evaluations",
        "evaluations",
        "missing",
        meaning="A trial has every objective, or failed.",
        remedy=_RESTORE,
    ),
    equal(
        "judged by the run's net",
        "evaluations",
        "judged_by",
        "search_net",
        meaning="Evaluations name the feature net that the run froze.",
        remedy=_RESTORE,
    ),
    true(
        "finite objectives",
        "values",
        "finite",
        meaning="Every objective and violation is a finite number.",
        remedy=_RESTORE,
    ),
    true(
        "generations in turn",
        "generations",
        "in_turn",
        meaning="A generation begins once the one before has closed.",
        remedy=_AGAIN,
    ),
    equal(
        "results in place",
        "generations",
        "own_number",
        "generation",
        meaning="A result is of its own generation.",
        remedy=_RESTORE,
    ),
    empty(
        "every trial told",
        "generations",
        "untold",
        meaning="A closed generation has every evaluation.",
        remedy=_RESTORE,
    ),
    true(
        "in the plan's order",
        "generations",
        "in_order",
        meaning="Evaluations are in the order of the plan.",
        remedy=_RESTORE,
    ),
    empty("known survivors", "generations", "stray", meaning="Survivors and front were tried.", remedy=_RESTORE),
    empty(
        "whole weights",
        "weights",
        "damage",
        meaning="Weights have the digests they were published with.",
        remedy=_RESTORE,
    ),
    equal(
        "weights as judged",
        "weights",
        "found",
        "named",
        meaning="Evaluations name the weights that are there.",
        remedy=_RESTORE,
    ),
    true(
        "weights kept",
        "needed",
        "present",
        meaning="Front and survivors have their weights.",
        remedy="Pull them from the archive where they are wanted; a search goes on without.",
        severity="warning",
    ),
    empty(
        "decisions replay",
        "replay",
        "replayed",
        meaning="Decided once more, everything is the same bytes.",
        remedy=_AGAIN,
    ),
)
