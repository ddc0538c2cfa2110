"""A champion's contest as the report shows it: who took part, what each training scored, and the differences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evodiff.evaluation.over_seeds import Spread, paired_difference, spread
from evodiff.pipeline.rivals import BUDGETS, Budget, contest_file, stored_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.engine.statistics import Interval
    from evodiff.pipeline.run import Run


@dataclass(frozen=True)
class Showing:
    """What a network showed under one budget: KID to test images by seed, None where a training failed or was lost.

    ``problem`` is the cause of the first that failed.
    """

    steps: int
    kids: tuple[float | None, ...]
    problem: str = ""

    @property
    def spread(self) -> Spread | None:
        """How KID spreads over the seeds; None where every training failed."""
        known = [kid for kid in self.kids if kid is not None]
        return spread(known) if known else None

    def minus(self, other: Showing) -> Interval | None:
        """Return by how much KID differs from another network's, paired by seed; None where no pair is whole."""
        pairs = [
            (ours, theirs)
            for ours, theirs in zip(self.kids, other.kids, strict=True)
            if ours is not None and theirs is not None
        ]
        return paired_difference(*zip(*pairs, strict=True)) if pairs else None


@dataclass(frozen=True)
class RivalView:
    """A network of a contest. ``measured_ms``, with quartiles ``low_ms`` and ``high_ms``, is None if not measured."""

    name: str
    candidate: str
    stock: bool
    parameters: int
    memory_mb: float
    predicted_ms: float
    measured_ms: float | None
    low_ms: float | None
    high_ms: float | None
    step_flops: float
    showings: Mapping[Budget, Showing]

    @property
    def label(self) -> str:
        """The name, with a remark for a network that is a stock one of diffusers."""
        return f"{self.name} (stock)" if self.stock else self.name


@dataclass(frozen=True)
class RivalsView:
    """A contest; the candidate in question comes first. ``floor`` is the KID of real training images, if known."""

    networks: tuple[RivalView, ...]
    steps: int
    seeds: int
    samples: int
    budget_flops: float
    target: str
    left_out: Mapping[str, str]
    lost: Mapping[str, str]
    floor: float | None

    @property
    def champion(self) -> RivalView:
        """The candidate in question."""
        return self.networks[0]

    @property
    def rivals(self) -> tuple[RivalView, ...]:
        """The others."""
        return self.networks[1:]

    def ranked(self, budget: Budget) -> list[RivalView]:
        """Return all networks, the smallest mean KID first, those without any last."""

        def mean(network: RivalView) -> float:
            found = network.showings[budget].spread
            return math.inf if found is None else found.mean

        return sorted(self.networks, key=lambda network: (mean(network), network.name))

    def difference(self, rival: RivalView, budget: Budget) -> Interval | None:
        """Return the champion's KID minus a rival's: below zero the champion is better."""
        return self.champion.showings[budget].minus(rival.showings[budget])


def read_rivals(run: Run, candidate: str) -> RivalsView | None:
    """Read the contest of a candidate, None where there was none.

    Raises:
        LookupError, TypeError, ValueError: the file is damaged.
    """
    if not run.ledger.exists(contest_file(candidate)):
        return None
    found = stored_document(run, contest_file(candidate))
    floor = stored_document(run, run.final_folder(candidate) / "validation.json").get("kid_floor")
    return RivalsView(
        networks=tuple(_network(item) for item in found["networks"]),
        steps=int(found["steps"]),
        seeds=int(found["seeds"]),
        samples=int(found["samples"]),
        budget_flops=float(found["budget_flops"]),
        target=str(found["target"]),
        left_out=dict(found["left_out"]),
        lost=dict(found["lost"]),
        floor=float(floor["value"]) if isinstance(floor, dict) else None,
    )


def _network(item: Mapping[str, Any]) -> RivalView:
    measured = item["measured"] or {}
    return RivalView(
        name=str(item["name"]),
        candidate=str(item["candidate"]),
        stock=bool(item["stock"]),
        parameters=int(item["parameters"]),
        memory_mb=float(item["memory_mb"]),
        predicted_ms=float(item["predicted_ms"]),
        measured_ms=measured.get("median_ms"),
        low_ms=measured.get("low_ms"),
        high_ms=measured.get("high_ms"),
        step_flops=float(item["step_flops"]),
        showings={budget: _showing(item["budgets"][budget]) for budget in BUDGETS},
    )


def _showing(item: Mapping[str, Any]) -> Showing:
    trainings = item["trainings"]
    problems = [training["failure"]["cause"] for training in trainings if training and "failure" in training]
    return Showing(
        steps=int(item["steps"]),
        kids=tuple(float(training["kid"]) if training and "kid" in training else None for training in trainings),
        problem=str(problems[0]) if problems else "",
    )
