"""Numbers and names as a person reads them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evodiff.engine.convergence import Convergence
    from evodiff.engine.statistics import Interval
    from evodiff.reporting.view import ObjectiveView

MISSING = "–"
_TITLES = {
    "kid": "KID",
    "latency_ms": "Latency",
    "memory_mb": "Memory",
    "denoising_loss": "Denoising loss",
    "parameters": "Parameters",
    "flops": "FLOPs",
}
_UNITS = {"ms": "ms", "mb": "MB", "seconds": "s"}
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def unit_of(name: str) -> str:
    """Return the unit that the end of an objective's name says, or an empty string."""
    return _UNITS.get(name.rsplit("_", 1)[-1], "")


def title(objective: ObjectiveView | str) -> str:
    """Return what an objective or metric is called in text."""
    name = objective if isinstance(objective, str) else objective.name
    if name in _TITLES:
        return _TITLES[name]
    words = [word for word in name.split("_") if word]
    if len(words) > 1 and words[-1] in _UNITS:
        words.pop()
    text = " ".join(words) or name
    return text[:1].upper() + text[1:]


def axis_title(objective: ObjectiveView) -> str:
    """Return the title with the unit."""
    return f"{title(objective)} ({objective.unit})" if objective.unit else title(objective)


def number(value: float | None, digits: int = 3) -> str:
    """Return ``value`` with about ``digits`` significant digits, without an exponent where that stays short."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    magnitude = _magnitude(value, digits)
    if magnitude >= 6 or magnitude < -5:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - magnitude)
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "−")


def _magnitude(value: float, digits: int) -> int:
    """Return the power of ten of the first digit that is left once ``value`` is rounded."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])


def with_unit(value: float | None, unit: str, digits: int = 3) -> str:
    """Return the number and its unit, joined by a no-break space."""
    text = number(value, digits)
    return f"{text}\u00a0{unit}" if unit and text != MISSING else text


def with_error(value: float | None, error: float | None) -> str:
    """Return ``value ± error`` with as many decimals as the error's two first digits ask for."""
    if value is None or not math.isfinite(value):
        return MISSING
    if error is None or not math.isfinite(error) or error <= 0:
        return number(value)
    decimals = _decimals(error)
    return f"{value:,.{decimals}f} ± {error:.{decimals}f}".replace("-", "−")


def with_bounds(value: float, low: float, high: float, *, signed: bool = False) -> str:
    """Return ``value [low, high]`` with as many decimals as half of the interval asks for; without finite bounds, the
    value alone. ``signed`` puts a plus before what is above zero."""
    half = (high - low) / 2
    if not math.isfinite(half) or half <= 0:
        text = number(value, 2)
        return f"+{text}" if signed and value > 0 else text
    form = f"{'+' if signed else ''},.{_decimals(half)}f"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]".replace("-", "−")


def _decimals(error: float) -> int:
    """Return how many decimals show two digits of an error."""
    return min(6, max(0, 1 - _magnitude(error, 2)))


def interval_text(interval: Interval) -> str:
    """Return ``value [low, high]``."""
    return f"{number(interval.value)} [{number(interval.low)}, {number(interval.high)}]"


def convergence_text(convergence: Convergence) -> str:
    """Return the verdict with the gain that it rests on, in percent."""
    if convergence.gain is None:
        return convergence.verdict
    value, low, high = (
        f"{100 * item:.2g}".replace("-", "−")
        for item in (convergence.gain.value, convergence.gain.low, convergence.gain.high)
    )
    return f"{convergence.verdict}: {value} % [{low}, {high}]"


def count(value: float | None) -> str:
    """Return a large count with a decimal prefix: 1.23 M."""
    if value is None or not math.isfinite(value):
        return MISSING
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return f"{number(value / factor)}\u00a0{prefix}"
    return f"{value:,.0f}"


def short(identifier: str) -> str:
    """Return the first eight characters of an id, behind the name of its run where it comes with one (``RUN/ID``)."""
    run, slash, candidate = identifier.rpartition("/")
    return f"{run}{slash}{candidate[:8]}"


def operator_title(operator: str | None) -> str:
    """Return what a child's operator is called in text."""
    return operator.replace("_", " ").replace("+", " + ") if operator else "start"


def enumeration(parts: list[str]) -> str:
    """Return ``a, b and c``."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
