"""Tables for the terminal fit 80 columns and say what the view says."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from report_examples import plain_view
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from evodiff.reporting import ObjectiveView, RunView, comparison_table, front_table, leaderboard_table
from evodiff.reporting.notation import number, with_error

LONG = ObjectiveView("a_very_long_name_of_an_objective_that_goes_on_ms", unit="ms")


def printed(table: Table, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_tables_fit_80_columns(view: RunView) -> None:
    for table in (leaderboard_table(view), front_table(view), comparison_table([view, view])):
        for line in printed(table, width=200).splitlines():
            assert cell_len(line.rstrip()) <= 80, line


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_long_names_and_many_objectives_fit_as_well(objectives: int) -> None:
    named = [replace(LONG, name=f"{LONG.name[:-3]}_{index}_ms") for index in range(objectives)]
    row = {"objectives": {item.name: -1.23456e-3 for item in named}, "operator": "crossover+" * 6, "on_front": True}
    view = plain_view(named, [row] * 3, name="run [bold]" * 30)
    for table in (leaderboard_table(view), front_table(view), comparison_table([view])):
        assert all(cell_len(line.rstrip()) <= 80 for line in printed(table, width=200).splitlines())


def test_no_number_is_cut(view: RunView) -> None:
    text = printed(front_table(view))
    for item in view.front:
        assert item.id[:8] in text
        assert with_error(item.objectives["kid"], item.standard_errors["kid"]).replace(" ± ", "±") in text
        assert number(item.objectives["latency_ms"]) in text
        assert number(item.objectives["memory_mb"]) in text


def test_the_champion_is_starred_and_the_zoo_is_listed(view: RunView) -> None:
    text = printed(leaderboard_table(view, rows=3))
    assert f"★ {(view.champion or '')[:8]}" in text
    assert all(reference.name in text for reference in view.references)


def test_a_failed_candidate_shows_its_cause() -> None:
    view = plain_view([ObjectiveView("kid")], [{"failure": "non-finite loss: at step 3"}])
    assert "non-finite loss" in printed(leaderboard_table(view))


def test_an_infeasible_candidate_shows_what_it_breaks() -> None:
    row = {"objectives": {"kid": 1.0}, "violations": {"memory": 0.5, "width": 0.0}}
    text = printed(leaderboard_table(plain_view([ObjectiveView("kid")], [row])))
    assert "breaks memory" in text
    assert "width" not in text


def test_names_are_not_read_as_markup() -> None:
    view = plain_view([ObjectiveView("kid")], [{"objectives": {"kid": 1.0}}], name="[red]run[/red]")
    assert "[red]run[/red]" in printed(leaderboard_table(view))
    assert "[red]run[/red]" in printed(comparison_table([view]))
