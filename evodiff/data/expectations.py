"""What the rows of a table are to be like, stated as data in the words of Great Expectations.

::

    between("brightest pixel", "images", "highest", high=255, meaning="No pixel is above 255.", remedy="Scale them.")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict, Unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Expectation:
    """What the rows of a table are to be like.

    Attributes:
        name: how the gate calls it; unique in the gate.
        table: the table that it is about.
        kind: the library's name of it, such as ``expect_column_values_to_be_between``; of those that judge row by row.
        arguments: the library's arguments, such as the column.
        meaning: a sentence that holds where it is met.
        remedy: what to do where it is not.
        severity: a ``warning`` is shown, and lets the data pass.
    """

    name: str
    table: str
    kind: str
    arguments: Mapping[str, Any]
    meaning: str
    remedy: str
    severity: Severity = "critical"


class Words(TypedDict, total=False):
    """What every expectation says beside its rule; ``mostly`` is the share of rows that must keep it."""

    meaning: Required[str]
    remedy: Required[str]
    severity: Severity
    mostly: float


def empty(name: str, table: str, column: str, **words: Unpack[Words]) -> Expectation:
    """Expect a column to hold nothing."""
    return _expectation(name, table, "expect_column_values_to_be_null", {"column": column}, words)


def true(name: str, table: str, column: str, **words: Unpack[Words]) -> Expectation:
    """Expect a column to be true."""
    return among(name, table, column, [True], **words)


def among(name: str, table: str, column: str, values: Sequence[Any], **words: Unpack[Words]) -> Expectation:
    """Expect a column to hold nothing but these values."""
    arguments = {"column": column, "value_set": list(values)}
    return _expectation(name, table, "expect_column_values_to_be_in_set", arguments, words)


def equal(name: str, table: str, first: str, second: str, **words: Unpack[Words]) -> Expectation:
    """Expect two columns to be the same."""
    arguments = {"column_A": first, "column_B": second}
    return _expectation(name, table, "expect_column_pair_values_to_be_equal", arguments, words)


def unique(name: str, table: str, column: str, **words: Unpack[Words]) -> Expectation:
    """Expect a column to hold each value once."""
    return _expectation(name, table, "expect_column_values_to_be_unique", {"column": column}, words)


def between(
    name: str,
    table: str,
    column: str,
    low: float | None = None,
    high: float | None = None,
    **words: Unpack[Words],
) -> Expectation:
    """Expect the numbers of a column to be from ``low`` to ``high``, both allowed."""
    limits = {"min_value": low, "max_value": high}
    arguments = {"column": column, **{end: value for end, value in limits.items() if value is not None}}
    return _expectation(name, table, "expect_column_values_to_be_between", arguments, words)


def above(name: str, table: str, column: str, low: float, **words: Unpack[Words]) -> Expectation:
    """Expect the numbers of a column to be larger than ``low``."""
    arguments = {"column": column, "min_value": low, "strict_min": True}
    return _expectation(name, table, "expect_column_values_to_be_between", arguments, words)


def _expectation(name: str, table: str, kind: str, arguments: Mapping[str, Any], words: Words) -> Expectation:
    share = {"mostly": words["mostly"]} if "mostly" in words else {}
    return Expectation(
        name=name,
        table=table,
        kind=kind,
        arguments={**arguments, **share},
        meaning=words["meaning"],
        remedy=words["remedy"],
        severity=words.get("severity", "critical"),
    )
