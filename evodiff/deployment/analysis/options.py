"""What an analysis of a rollout is told beforehand: steps, limits of the guards, metrics, margins and levels."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Self

from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

METRICS: Final = ("latency", "errors", "ratings")
"""The soft metrics that are tested."""
ADVISORY: Final = "kid"
"""What is shown beside them, and decides nothing."""
DEFAULT_STEPS: Final = (1.0, 5.0, 20.0, 50.0, 100.0)


def refuse_unknown(names: Collection[str], known: Collection[str], what: str) -> None:
    """Refuse names that are not known, with the nearest that is.

    Raises:
        SettingsError: a name is unknown.
    """
    for name in names:
        if name not in known:
            near = get_close_matches(name, sorted(known), n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            raise SettingsError(
                f"{what}: expected one of {', '.join(known)}, found {name}.",
                remedy=f"{meant}Nothing is judged by a name that is not known.",
            )


def check_steps(steps: Sequence[float]) -> tuple[float, ...]:
    """Return the steps of a rollout in percent: ascending, from 0 to 100, the last 100.

    They need not divide one another. A first step of 0 is a step without traffic: a hold that only a person ends.

    Raises:
        SettingsError: the steps are not like that.
    """
    checked = tuple(float(step) for step in steps)
    ascending = all(before < after for before, after in pairwise(checked))
    if not checked or not ascending or checked[0] < 0.0 or checked[-1] != 100.0:
        raise SettingsError(
            f"Steps of a rollout: expected percentages that ascend from at least 0 to 100, found {list(steps)}.",
            remedy="Give them like 1, 5, 20, 50, 100; the last is 100.",
        )
    return checked


class _FromMapping:
    """Reading of options from a mapping that came from outside."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the options with these values; what is not named keeps its default.

        Raises:
            SettingsError: a name is unknown, or a value cannot be.
        """
        known = {field.name: field.type for field in fields(cls)}  # type: ignore[arg-type]
        refuse_unknown(values, known, cls.__name__)
        read = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        for name, value in read.items():
            if not _has_type(value, str(known[name])):
                raise SettingsError(
                    f"{cls.__name__}.{name}: expected {known[name]}, found {value!r}.",
                    remedy="Give a value of that type, or leave it out for the default.",
                )
        return cls(**read)

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"{type(self).__name__}.{name}: expected {expected}, found {getattr(self, name)}.",
                remedy="Give a value like that, or leave it out for the default.",
            )


def _has_type(value: object, annotation: str) -> bool:
    """Return whether a value that was read from JSON is what a field's annotation says."""
    if isinstance(value, bool) or annotation == "bool":
        return isinstance(value, bool) and annotation == "bool"
    if annotation.startswith("tuple"):
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    if value is None:
        return annotation.endswith("None")
    return isinstance(value, int) or (isinstance(value, float) and annotation != "int")


@dataclass(frozen=True)
class GuardLimits(_FromMapping):
    """Absolute limits of the hard guards; None switches one off, 0 is a limit of 0.

    ``error_ratio`` is the largest share of a version's last requests that may fail, ``rss_factor`` how many times the
    smoke test's peak memory a worker may have. ``p99_seconds`` is what a client may wait that keeps to the usual
    deadline: less than that, and more than the .8 of it that the queue alone may take.

    Raises:
        SettingsError: a limit cannot be.
    """

    error_ratio: float | None = 0.05
    p99_seconds: float | None = 25.0
    rss_factor: float | None = 1.5

    def __post_init__(self) -> None:
        self._expect("error_ratio", _within(self.error_ratio, 0.0, 1.0), "a share from 0 to 1")
        self._expect("p99_seconds", _within(self.p99_seconds, 0.0, math.inf), "seconds, at least 0")
        self._expect("rss_factor", _within(self.rss_factor, 1.0, math.inf), "a factor of at least 1")


def _within(value: float | None, low: float, high: float) -> bool:
    return value is None or (low <= value <= high and not math.isnan(value))


@dataclass(frozen=True)
class AnalysisOptions(_FromMapping):
    """How soft metrics are tested.

    ``alpha`` bounds the chance that a version that is no worse is rolled back by any soft metric in the whole rollout;
    it is split evenly over ``metrics``. ``shown_alpha`` bounds the chance that latency is held to be under its margin
    where it is not. ``*_margin`` is what is tolerated (shares; ``rating_margin`` in points), ``*_alternative`` what is
    to be found fast. Soft tests run where the canary has at least ``soft_from`` percent, and at the last step below 100
    whatever that is. A step passes from ``min_samples`` requests an arm on, early unless ``early_pass`` is off, and is
    inconclusive after ``step_seconds``. ``block_seconds`` is the unit of time: longer than what one worker's speed
    wanders by itself.

    Raises:
        SettingsError: a metric is unknown, or a value cannot be.
    """

    metrics: tuple[str, ...] = METRICS
    alpha: float = 0.05
    shown_alpha: float = 0.05
    soft_from: float = 20.0
    min_samples: int = 100
    step_seconds: float = 3600.0
    early_pass: bool = True
    block_seconds: float = 10.0
    latency_margin: float = 0.10
    latency_alternative: float = 0.20
    error_margin: float = 0.10
    rating_margin: float = 0.25
    rating_alternative: float = 0.5

    def __post_init__(self) -> None:
        if ADVISORY in self.metrics:
            raise SettingsError(
                f"AnalysisOptions.metrics: expected some of {', '.join(METRICS)}, found {ADVISORY}.",
                remedy=f"Leave it out: {ADVISORY} is shown as advice in any case and decides nothing.",
            )
        refuse_unknown(self.metrics, METRICS, "AnalysisOptions.metrics")
        self._expect("metrics", len(set(self.metrics)) == len(self.metrics), "each metric once")
        for name in ("alpha", "shown_alpha"):
            self._expect(name, 0.0 < getattr(self, name) < 1.0, "a probability between 0 and 1")
        self._expect("soft_from", 0.0 <= self.soft_from < 100.0, "percent from 0 to below 100")
        self._expect("min_samples", self.min_samples >= 1, "at least 1 request")
        for name in ("step_seconds", "block_seconds"):
            self._expect(name, 0.0 < getattr(self, name) < math.inf, "seconds above 0")
        for name in ("latency_margin", "error_margin"):
            self._expect(name, 0.0 <= getattr(self, name) < math.inf, "a share of at least 0")
        self._expect("rating_margin", 0.0 <= self.rating_margin < 4.0, "points from 0 to below 4")
        self._expect("latency_alternative", self.latency_alternative > self.latency_margin, "more than the margin")
        self._expect("rating_alternative", self.rating_alternative > self.rating_margin, "more than the margin")
        self._expect("latency_margin", "latency" not in self.metrics or self.latency_margin > 0.0, "a share above 0")

    @property
    def alpha_per_metric(self) -> float:
        """The level of each metric's test (Bonferroni: they share their requests)."""
        return self.alpha / max(1, len(self.metrics))
