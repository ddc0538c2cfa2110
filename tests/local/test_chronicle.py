"""The time line of the story: told once as it happens, and once more at the end."""

from __future__ import annotations

import io

from rich.console import Console

from evodiff.local.chronicle import Chronicle, Moment


def test_moments_are_told_when_they_happen_and_in_order_at_the_end() -> None:
    times = iter([100.0, 101.5, 103.0])
    console = Console(file=io.StringIO(), width=100)
    chronicle = Chronicle(console, clock=lambda: next(times))
    chronicle.begin("First act")
    chronicle.note("it begins [sic]")
    assert "1.5 s  it begins [sic]" in console.file.getvalue()
    chronicle.begin("Second act")
    chronicle.note("it ends")
    assert chronicle.moments == [
        Moment(1.5, "First act", "it begins [sic]"),
        Moment(3.0, "Second act", "it ends"),
    ]

    console.file = io.StringIO()
    console.print(*chronicle.tables({"requests": "7 sent [all]"}))
    shown = console.file.getvalue()
    assert shown.index("it begins [sic]") < shown.index("it ends") < shown.index("7 sent [all]")
