"""What a terminal shows of a validated candidate: its metrics, its robustness, its rivals, and what these come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from evodiff.reporting import rivals_words, robustness
from evodiff.reporting.result import validation_table
from evodiff.reporting.rivals import rivals_tables
from evodiff.reporting.rivals_view import read_rivals
from evodiff.reporting.robustness_view import read_robustness
from evodiff.reporting.run_view import validation_metrics

if TYPE_CHECKING:
    from rich.console import RenderableType

    from evodiff.pipeline.run import Run


def validation_tables(run: Run, candidate: str) -> list[RenderableType]:
    """Return the tables of everything that was validated of a candidate, with the sentences below them."""
    found: list[RenderableType] = [validation_table(validation_metrics(run, candidate))]
    borne = read_robustness(run, candidate)
    if borne is not None:
        found += [robustness.robustness_table(borne), _said(robustness.sentences(borne))]
    contest = read_rivals(run, candidate)
    if contest is not None:
        found += [*rivals_tables(contest), _said(rivals_words.sentences(contest))]
    return found


def _said(sentences: list[str]) -> RenderableType:
    return Group(*(Text(f"{sentence}\n") for sentence in sentences))
