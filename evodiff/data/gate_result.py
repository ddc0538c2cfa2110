"""What a gate found, in a folder of its own: ``result.json``, and what is set aside where the data do not pass."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evodiff.data.dataset import write_whole
from evodiff.data.judging import Check, Row, Table
from evodiff.errors import GateFailed, LedgerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT: Final = "evodiff-gate-1"
RESULT: Final = "result.json"

_SHOWN = 3  # failed expectations that an error names, and examples of each
_LONGEST = 80  # characters of a value there


@dataclass(frozen=True)
class GateResult:
    """What a gate found.

    Attributes:
        gate: ``dataset``, ``feedback`` or ``run``.
        subject: what was looked at, by its name.
        digest: of what was looked at.
        checks: what became of each expectation.
        counts: numbers that a person wants to see first.
        folder: where result, page and what is set aside are.
        notes: what else is to be known.
        tables: small tables for a person, by heading.
    """

    gate: str
    subject: str
    digest: str
    checks: tuple[Check, ...]
    counts: Mapping[str, int]
    folder: Path
    notes: tuple[str, ...] = ()
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that stop the data."""
        return tuple(item for item in self.checks if not item.passed and item.expectation.severity == "critical")

    @property
    def warnings(self) -> tuple[Check, ...]:
        """The checks that failed and let the data pass."""
        return tuple(item for item in self.checks if not item.passed and item.expectation.severity == "warning")

    @property
    def passed(self) -> bool:
        """Whether the data may be used."""
        return not self.failed

    @property
    def result(self) -> Path:
        """The result as JSON."""
        return self.folder / RESULT

    @property
    def page(self) -> Path:
        """The result as a page for a person, once :func:`evodiff.reporting.gate_page.write_gate_page` wrote it."""
        return self.folder / "index.html"

    @property
    def quarantine(self) -> Path:
        """Folder of what is set aside; there where the gate failed."""
        return self.folder / "quarantine"

    def to_json(self) -> Row:
        """Return plain JSON, without the folder."""
        content = asdict(replace(self, checks=(), folder=Path()))
        del content["folder"]
        return {"format": FORMAT, "passed": self.passed, **content, "checks": [item.to_json() for item in self.checks]}

    @classmethod
    def load(cls, folder: Path) -> GateResult:
        """Read the result in a folder.

        Raises:
            LedgerError: there is none, or it is damaged or of another format.
        """
        try:
            content = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise ValueError("another format")
            del content["passed"]
            checks = tuple(Check.from_json(item) for item in content.pop("checks"))
            return cls(checks=checks, folder=folder, **{**content, "notes": tuple(content["notes"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LedgerError(
                f"Expected the result of a gate in {folder}, found none that can be read: {error}.",
                remedy="Remove the folder and run the gate again.",
            ) from error


def conclude(result: GateResult, tables: Sequence[Table]) -> GateResult:
    """Store a result; where it failed, set the rows of every table that offends aside, marked, and raise.

    Raises:
        GateFailed: an expectation that is critical is not met; the message gives examples.
    """
    if result.passed:
        shutil.rmtree(result.quarantine, ignore_errors=True)  # copies of what has been mended since
    for table in tables if not result.passed else ():
        marks: dict[int, list[str]] = {}
        for check in result.failed:
            if check.expectation.table == table.name:
                for index in check.offending:
                    marks.setdefault(index, []).append(check.expectation.name)
        if marks:
            rows = [{**row, "offends": marks.get(index, [])} for index, row in enumerate(table.rows)]
            write_lines(result.quarantine / f"{table.name}.jsonl", rows)
    write_whole(result.result, json.dumps(plain(result.to_json()), indent=1).encode() + b"\n")
    if not result.passed:
        raise _failure(result)
    return result


def stored_pass(folder: Path) -> GateResult | None:
    """Return the result in a folder if there is one that passed."""
    try:
        result = GateResult.load(folder)
    except LedgerError:
        return None
    return result if result.passed else None


def offending_rows(result: GateResult, table: str) -> list[int]:
    """Return the indices of all rows of a table that stop the data."""
    return sorted({index for check in result.failed if check.expectation.table == table for index in check.offending})


def write_lines(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as JSON, one a line, whole or not at all."""
    write_whole(path, b"".join(json.dumps(plain(row), sort_keys=True).encode() + b"\n" for row in rows))


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: a number that is not finite becomes its name."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _failure(result: GateResult) -> GateFailed:
    first = result.failed[0].expectation
    sentences = [_sentence(check) for check in result.failed[:_SHOWN]]
    if len(result.failed) > _SHOWN:
        sentences.append(f"And {len(result.failed) - _SHOWN} more.")
    opening = f"The {result.gate} {result.subject} failed {len(result.failed)} of {len(result.checks)} expectations."
    return GateFailed(
        "\n".join([opening, *sentences]),
        remedy=f"{first.remedy} What was found and set aside is in {result.folder}.",
        folder=result.folder,
    )


def _sentence(check: Check) -> str:
    expectation = check.expectation
    examples = "; ".join(_show(row) for row in check.examples[:_SHOWN])
    return (
        f"- {expectation.name}: {expectation.meaning} Found {len(check.offending)} of {check.rows} {expectation.table} "
        f"that are not so, such as {examples}."
    )


def _show(row: Row) -> str:
    return ", ".join(f"{name} {_short(str(value))}" for name, value in row.items() if value is not None)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
