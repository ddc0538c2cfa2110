"""What an interval of a difference in KID says, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from evodiff.reporting.notation import MISSING, enumeration, number, with_bounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evodiff.engine.statistics import Interval

Verdict = Literal["better", "worse", "same", "open"]
VERDICTS: Final[tuple[Verdict, ...]] = ("better", "worse", "same", "open")


def verdict(difference: Interval, margin: float = 0.0) -> Verdict:
    """Return ``better`` where all of the interval is below zero, ``worse`` where all is above, else ``open``.

    Where all of it is nearer to zero than ``margin``, a difference that does not matter, it is the ``same``.
    """
    if max(abs(difference.low), abs(difference.high)) < margin:
        return "same"
    if difference.high < 0:
        return "better"
    return "worse" if difference.low > 0 else "open"


def interval_text(difference: Interval | None) -> str:
    """Return ``value [low, high]``, signs shown; a value alone where the interval is unbounded."""
    if difference is None:
        return MISSING
    return with_bounds(difference.value, difference.low, difference.high, signed=True)


def deviation_text(deviation: Interval) -> str:
    """Return ``value [low, high]`` of a standard deviation, whose interval may be many times its value."""
    return f"{number(deviation.value, 2)} [{number(deviation.low, 2)}, {number(deviation.high, 2)}]"


def grouped(
    differences: Iterable[tuple[str, Interval | None]], phrases: Mapping[Verdict, str], *, margin: float = 0.0
) -> str:
    """Say what differences come to, those of one verdict together: ``phrases`` end before the names.

    ``it beats a (-0.02 [-0.03, -0.01]) and b (...); it cannot be told apart from c (...)``. Names without a difference
    are left out.
    """
    found: dict[Verdict, list[str]] = {key: [] for key in VERDICTS}
    for name, difference in differences:
        if difference is not None:
            found[verdict(difference, margin)].append(f"{name} ({interval_text(difference)})")
    return "; ".join(f"{phrases[key]} {enumeration(names)}" for key, names in found.items() if names)
