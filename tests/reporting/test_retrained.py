"""Page and terminal show what members of the front that inherited reach from scratch."""

from __future__ import annotations

import io
from dataclasses import replace

from page_reading import read_page
from rich.console import Console

from evodiff.reporting import CandidateView, ObjectiveView, RetrainedView, RunView
from evodiff.reporting.report import report_html
from evodiff.reporting.result import result_tables

ONE, OTHER = "a" * 16, "b" * 16
VIEW = RunView(
    name="run",
    objectives=(ObjectiveView("kid"), ObjectiveView("memory_mb", unit="MB")),
    candidates=(
        CandidateView(ONE, 1, objectives={"kid": 0.0123, "memory_mb": 5.0}, fitness_score=0.9, on_front=True),
        CandidateView(OTHER, 1, objectives={"kid": 0.0234, "memory_mb": 3.0}, fitness_score=0.7, on_front=True),
    ),
    champion=OTHER,
    retrained=(
        RetrainedView(OTHER, {"kid": 0.0345, "memory_mb": 3.0}, {"kid": 0.001}, 0.612),
        RetrainedView(ONE, failure="non_finite_loss"),
    ),
)


def printed(view: RunView) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    for table in result_tables(view):
        console.print(table)
    return stream.getvalue()


def test_the_page_shows_both_values_of_each_member_and_only_of_objectives_that_depend_on_weights() -> None:
    page = read_page(report_html(VIEW))
    assert "retrained" in page.ids
    section = page.text[page.text.index("The front from scratch") :]
    for shown in ("0.0234", "0.0345", "0.7", "0.612", "non_finite_loss", "0.9"):
        assert shown in section
    assert "Memory, scratch" not in page.text
    assert page.data["run"]["retrained"][OTHER] == {
        "objectives": {"kid": 0.0345, "memory_mb": 3.0},
        "fitness_score": 0.612,
        "failure": None,
    }


def test_the_terminal_shows_both_values_of_each_member() -> None:
    text = printed(VIEW)
    assert "The front from scratch" in text
    table = text[text.index("The front from scratch") :]
    assert "0.0234" in table
    assert "0.0345" in table
    assert "0.612" in table
    assert "non_finite_loss" in table


def test_a_run_without_inheritance_shows_neither() -> None:
    view = replace(VIEW, retrained=())
    assert "retrained" not in read_page(report_html(view)).ids
    assert "from scratch" not in printed(view)
