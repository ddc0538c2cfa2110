"""Every trial of a run, as a table or as comma-separated values."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from evodiff.reporting.notation import number, operator_title

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evodiff.pipeline.run import Run


def trial_rows(run: Run) -> Iterator[dict[str, Any]]:
    """Yield the trials in the order of the plans; values are empty where a trial has none."""
    names = [objective.name for objective in run.objectives]
    for generation in range(run.ledger.generations):
        evaluations = run.ledger.evaluations(generation)
        for row in run.ledger.plan(generation):
            found = evaluations.get(row["id"])
            failure = found.failure.cause if found and found.failure else ""
            values = {name: found.objectives.get(name, "") if found else "" for name in names}
            errors = {
                f"{name}_standard_error": found.details[f"{name}_standard_error"] if found else ""
                for name in names
                if found is None or f"{name}_standard_error" in found.details
            }
            yield {
                "trial": row["id"],
                "candidate": row["candidate"],
                "generation": generation,
                "rung": row["rung"],
                "replicate": row["replicate"],
                "protocol": row["protocol"],
                "operator": row["operator"] or "",
                "parents": " ".join(row["parents"]),
                "state": failure or ("done" if found else "pending"),
                **values,
                **errors,
                "weights": (found.weights or "") if found else "",
            }


def trials_csv(run: Run) -> str:
    """Return the trials as comma-separated values with a header, numbers in full precision."""
    rows = list(trial_rows(run))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def trials_table(run: Run) -> Table:
    """Return the trials as a table for a terminal."""
    table = Table(title=f"Trials of {run.name}", box=box.SIMPLE_HEAD, title_justify="left")
    names = [objective.name for objective in run.objectives]
    for title in ("trial", "generation", "from", "state"):
        table.add_column(title)
    for name in names:
        table.add_column(name, justify="right")
    for row in trial_rows(run):
        values = [number(row[name]) if row[name] != "" else "" for name in names]
        table.add_row(row["trial"], str(row["generation"]), operator_title(row["operator"]), row["state"], *values)
    return table
