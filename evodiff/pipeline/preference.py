"""Preferences over the front: ``latency_ms<2,memory_mb<=1.5`` narrows from which candidates the champion is taken."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_LIMIT = re.compile(r"\s*(?P<name>[a-z_]+)\s*(?P<comparison><=|>=|<|>)\s*(?P<value>[-+0-9.eE]+)\s*")


@dataclass(frozen=True)
class Limit:
    """One bound on an objective."""

    name: str
    comparison: str
    value: float

    def holds(self, objectives: Mapping[str, float]) -> bool:
        """Tell whether the objective of this name is inside the bound."""
        return _COMPARISONS[self.comparison](objectives[self.name], self.value)


def parse_preference(text: str | None, objectives: Sequence[str]) -> tuple[Limit, ...]:
    """Read comma-separated limits on ``objectives``.

    Raises:
        SettingsError: a part is no limit, or names something that is not an objective of the run.
    """
    if text is None or not text.strip():
        return ()
    return tuple(_parse_limit(part, objectives) for part in text.split(","))


def _parse_limit(part: str, objectives: Sequence[str]) -> Limit:
    match = _LIMIT.fullmatch(part)
    try:
        value = float(match["value"]) if match else None
    except ValueError:
        value = None
    if match is None or value is None:
        raise SettingsError(
            f"Not a limit: expected NAME<NUMBER (or <=, >, >=), found {part.strip()!r}.",
            remedy='Write for example --prefer "latency_ms<2".',
        )
    if match["name"] not in objectives:
        raise SettingsError(
            f"Unknown objective in a preference: expected one of {list(objectives)}, found {match['name']!r}.",
            remedy="Name an objective of the run.",
        )
    return Limit(match["name"], match["comparison"], value)
