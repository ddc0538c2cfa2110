"""Tables judged by expectations: the one place that knows Great Expectations, which takes seconds to import."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from evodiff.data.expectations import Expectation
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

Row = dict[str, Any]

EXAMPLES: Final = 5


@dataclass(frozen=True)
class Table:
    """Rows of plain values, each with every one of ``columns``, of which the first ``key`` say which row it is.

    None stands for what is not there.
    """

    name: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    key: int = 1


@dataclass(frozen=True)
class Check:
    """What became of an expectation.

    ``rows`` counts the rows of the table, ``offending`` are the indices of those that are not as expected, which there
    may be some of where the expectation is of most rows only; ``examples`` are the first of them, with the columns that
    name a row and those that the expectation is about.
    """

    expectation: Expectation
    passed: bool
    rows: int
    offending: tuple[int, ...] = ()
    examples: tuple[Row, ...] = ()

    def to_json(self) -> Row:
        """Return plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Check:
        """Read what :meth:`to_json` wrote."""
        return cls(
            expectation=Expectation(**data["expectation"]),
            passed=data["passed"],
            rows=data["rows"],
            offending=tuple(data["offending"]),
            examples=tuple(data["examples"]),
        )


def judge(tables: Sequence[Table], expectations: Sequence[Expectation]) -> list[Check]:
    """Judge every expectation by the rows of its table, in the order given; a table without rows meets all.

    Raises:
        EvodiffError: the library is missing, or cannot judge an expectation.
    """
    library = _great_expectations()
    context = library.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    source = context.data_sources.add_pandas("evodiff")
    checks: dict[str, Check] = {}
    for table in tables:
        wanted = [expectation for expectation in expectations if expectation.table == table.name]
        if wanted and table.rows:
            checks |= _judge_table(library, context, source, table, wanted)
        checks |= {item.name: Check(item, True, 0) for item in wanted if not table.rows}
    return [checks[expectation.name] for expectation in expectations]


def _judge_table(
    library: ModuleType, context: Any, source: Any, table: Table, expectations: Sequence[Expectation]
) -> dict[str, Check]:
    import pandas as pd
    from great_expectations.expectations.metadata_types import FailureSeverity
    from great_expectations.expectations.registry import get_expectation_impl

    batch = source.add_dataframe_asset(table.name).add_batch_definition_whole_dataframe(table.name)
    suite = library.ExpectationSuite(
        name=table.name,
        expectations=[
            get_expectation_impl(item.kind)(
                **item.arguments, severity=FailureSeverity(item.severity), meta={"name": item.name}
            )
            for item in expectations
        ],
    )
    validation = library.ValidationDefinition(name=table.name, data=batch, suite=context.suites.add(suite))
    found = context.validation_definitions.add(validation).run(
        batch_parameters={"dataframe": pd.DataFrame.from_records(table.rows, columns=list(table.columns))},
        result_format={"result_format": "COMPLETE"},
    )
    by_name = {item.name: item for item in expectations}
    checks = [_check(by_name[item.expectation_config.meta["name"]], item, table) for item in found.results]
    return {check.expectation.name: check for check in checks}


def _check(expectation: Expectation, found: Any, table: Table) -> Check:
    if "unexpected_index_list" not in found.result:
        raise EvodiffError(
            f"Expectation {expectation.name} of table {table.name} could not be judged: {found.exception_info}"[:1000],
            remedy="Install the versions in constraints.txt; this is no fault of the data.",
        )
    offending = tuple(sorted(int(index) for index in found.result["unexpected_index_list"]))
    about = [value for name, value in expectation.arguments.items() if name.startswith("column")]
    shown = dict.fromkeys([*table.columns[: table.key], *about])
    examples = tuple({name: table.rows[index][name] for name in shown} for index in offending[:EXAMPLES])
    return Check(expectation, bool(found.success), len(table.rows), offending, examples)


def _great_expectations() -> ModuleType:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read once, at the import
    try:
        import great_expectations
    except ImportError as error:
        raise EvodiffError(
            f"Gates need Great Expectations, which cannot be imported: {error}.",
            remedy="Install it: pip install 'evodiff-pipeline[pipeline]'.",
        ) from error
    library: ModuleType = great_expectations
    return library
