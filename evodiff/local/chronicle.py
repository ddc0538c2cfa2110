"""A time line: what happened when, told as it happens and once more at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Moment:
    """Something that happened ``at`` so many seconds after the beginning, in an act."""

    at: float
    act: str
    text: str


@dataclass
class Chronicle:
    """The moments so far, each printed when it is noted."""

    console: Console = field(default_factory=Console)
    clock: Callable[[], float] = time.monotonic
    moments: list[Moment] = field(default_factory=list)
    act: str = ""

    def __post_init__(self) -> None:
        self._began = self.clock()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return self.clock() - self._began

    def begin(self, act: str) -> None:
        """Begin an act."""
        self.act = act
        self.console.print(Text(f"\n{act}", style="bold"))

    def note(self, text: str) -> None:
        """Note what happened now."""
        moment = Moment(self.seconds, self.act, text)
        self.moments.append(moment)
        self.console.print(Text.assemble((f"{moment.at:7.1f} s  ", "cyan"), text))

    def tables(self, facts: Mapping[str, str]) -> list[Table]:
        """Return the time line as a table, and what it comes to as another."""
        line = Table(title="Time line", title_justify="left")
        for name in ("s", "act", "what happened"):
            line.add_column(name, justify="right" if name == "s" else "left")
        act = None
        for moment in self.moments:
            line.add_row(f"{moment.at:.0f}", moment.act if moment.act != act else "", Text(moment.text))
            act = moment.act
        found = Table(title="What it comes to", title_justify="left", show_header=False)
        for name, value in facts.items():
            found.add_row(name, Text(value))
        return [line, found]
