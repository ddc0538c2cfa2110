"""Options of strategies that came after the first runs were frozen.

A run freezes an option where its value is not what everybody had before there was one. So a run that was started before
and one that has it off are frozen alike, and a run that goes on replays the same decisions whatever the default is now.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final

from evodiff.errors import SettingsError

_BEFORE: Final = "before"


def option(default: Any, *, before: Any) -> Any:
    """Return a dataclass field with a default for new runs; runs that froze no value have ``before``."""
    return field(default=default, metadata={_BEFORE: before})


def frozen_options(strategy: Any) -> dict[str, Any]:
    """Return the settings of a strategy that a run freezes; none where it is no dataclass."""
    if not is_dataclass(strategy):
        return {}
    values = {item.name: (getattr(strategy, item.name), item.metadata) for item in fields(strategy)}
    return {
        name: value
        for name, (value, metadata) in values.items()
        if _BEFORE not in metadata or value != metadata[_BEFORE]
    }


def options_before(kind: Any) -> dict[str, Any]:
    """Return what runs have that froze no value of the options of a strategy class."""
    if not is_dataclass(kind):
        return {}
    return {item.name: item.metadata[_BEFORE] for item in fields(kind) if _BEFORE in item.metadata}


@dataclass(frozen=True, kw_only=True)
class VariationOptions:
    """How children are made, beyond what is crossed and how often.

    In the ablation (``benchmarks/operator_ablation.py``) choice by gain was ahead of uniform choice on one table, for
    NSGA-II alone and late, and nowhere else; so the default is uniform. Informed mutations have not been measured, and
    are off. Growing complexity is on: on digits fronts are level with it and without, which takes 1.46 [1.07, 1.85]
    times the training compute (benchmarks/RESULTS.md).

    Attributes:
        operator_floor: the share of the uniform probability that every mutation keeps; the rest goes by what the
            children of each gained (:mod:`evodiff.engine.credit`). 1 is uniform choice.
        informed: how often a mutation reads what the evaluation of the parent found out (``space.mutate_informed``),
            where the space has such mutations. 0 is never.
        growing: whether ``space.within`` caps the complexity of early generations.
    """

    operator_floor: float = option(1.0, before=1.0)
    informed: float = option(0.0, before=0.0)
    growing: bool = option(True, before=True)

    def __post_init__(self) -> None:
        for name in ("operator_floor", "informed"):
            check_share(name, getattr(self, name))
        check_flag("growing", self.growing)


def check_share(name: str, value: object) -> None:
    """Check an option that is a share.

    Raises:
        SettingsError: it is no number from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SettingsError(f"{name}: expected a number from 0 to 1, found {value!r}.", remedy="Give a share.")


def check_flag(name: str, value: object) -> None:
    """Check an option that is on or off.

    Raises:
        SettingsError: it is neither true nor false.
    """
    if not isinstance(value, bool):
        raise SettingsError(f"{name}: expected true or false, found {value!r}.", remedy="Give one of them.")
