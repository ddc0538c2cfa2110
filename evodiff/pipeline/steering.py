"""What steers an experiment after its start: policy, ends and preference, said by requests and frozen by nobody.

Every request may change some of it; what holds is the latest word on each. A generation gets a copy of what held when
it opened, ``inputs/steering.json``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from evodiff.architecture.cost import training_flops
from evodiff.architecture.graph import resolve
from evodiff.engine.convergence import plateaued
from evodiff.errors import SettingsError
from evodiff.pipeline.preference import parse_preference
from evodiff.pipeline.requests import requests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.pipeline.run import Run

TERA = 1e12


class Policy(StrEnum):
    """When a generation follows the one before."""

    CONTINUOUS = "continuous"
    CRON = "cron"
    ON_ALERT = "on alert"


@dataclass(frozen=True)
class Steering:
    """``generations`` and ``compute_budget_tflop`` (training, 10^12 multiply-adds) end a search; None is no end.

    ``extra_generations`` are granted beyond ``generations``, by alerts. ``prefer`` comes before the run's own.
    """

    policy: Policy = Policy.CONTINUOUS
    cron: str | None = None
    generations: int | None = None
    extra_generations: int = 0
    compute_budget_tflop: float | None = None
    stop_on_plateau: bool = False
    prefer: str | None = None


def check_steering(values: Mapping[str, Any], objectives: Sequence[str]) -> None:
    """Check what a request wants to change in a run over ``objectives``.

    Raises:
        SettingsError: a value is not one that can be had; the message names it.
    """
    unknown = set(values) - {*Steering.__dataclass_fields__}
    if unknown:
        raise SettingsError(
            f"Expected steering by {', '.join(Steering.__dataclass_fields__)}; found {', '.join(sorted(unknown))}.",
            remedy="Leave the others out; what is frozen needs a new experiment.",
        )
    policy = values.get("policy")
    if policy is not None and policy not in list(Policy):
        raise SettingsError(f"Expected a policy of {', '.join(Policy)}; found {policy!r}.", remedy="Take one of these.")
    if policy == Policy.CRON and not values.get("cron"):
        raise SettingsError("Policy cron: expected a cron expression, found none.", remedy='Write cron="0 3 * * *".')
    if values.get("cron"):
        _check_cron(values["cron"])
    parse_preference(values.get("prefer"), objectives)


def steering(run: Run, further: Mapping[str, Any] | None = None) -> Steering:
    """Return what holds for a run: the latest word of its requests on each field; extra generations add up.

    ``further`` is read as one request more, to see what it would change.
    """
    words = [request.steering for request in requests(run)] + [further or {}]
    values: dict[str, Any] = {}
    for word in words:
        values.update(word)
    values["extra_generations"] = sum(int(word.get("extra_generations", 0)) for word in words)
    return Steering(**{**values, "policy": Policy(values.get("policy", Policy.CONTINUOUS))})


def preference(run: Run) -> str | None:
    """Return the limits that narrow from which part of the front a run's champion is taken, None where there are none.

    What a request said comes before what the run froze.
    """
    frozen: str | None = run.settings["prefer"]
    return steering(run).prefer or frozen


def record_steering(run: Run, generation: int) -> None:
    """Give a generation its copy of what holds, unless it has one."""
    content = json.dumps(asdict(steering(run)), sort_keys=True).encode() + b"\n"
    run.ledger.publish(f"generations/{generation:04d}/inputs/steering.json", content)


def end_reason(run: Run, steered: Steering) -> str | None:
    """Return why no further generation is wanted, None while one is."""
    closed = run.ledger.closed
    if steered.generations is not None and closed >= steered.generations + steered.extra_generations:
        return f"{closed} generations are done, as asked for"
    if steered.compute_budget_tflop is not None and (spent := spent_tflop(run)) >= steered.compute_budget_tflop:
        return f"{spent:.3g} TFLOP of training are spent, of {steered.compute_budget_tflop:.3g}"
    if steered.stop_on_plateau and plateaued(run.evolution().history()):
        return f"the search has converged after {closed} generations"
    return None


def spent_tflop(run: Run) -> float:
    """Return the training that the plans of a run asked for so far, in 10^12 multiply-adds."""
    batch = run.training.batch_size
    return (
        sum(
            training_flops(resolve(run.space.from_json(row["genome"]), run.shape), batch) * run.steps(row["rung"])
            for generation in range(run.ledger.generations)
            for row in run.ledger.plan(generation)
        )
        / TERA
    )


def _check_cron(expression: str) -> None:
    from croniter import croniter

    if not croniter.is_valid(expression):
        raise SettingsError(
            f"Not a cron expression: {expression!r}.", remedy='Write five fields, such as "0 3 * * *" for 3 a.m. (UTC).'
        )
