"""What steers an experiment after its start: policy, ends and preference, said by requests and frozen by nobody.

Every request may change some of it; what holds is the latest word on each. A generation gets a copy of what held when
it opened, ``inputs/steering.json``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from evodiff.architecture.cost import training_flops
from evodiff.architecture.graph import resolve
from evodiff.engine.convergence import plateaued
from evodiff.errors import LedgerError, SettingsError
from evodiff.pipeline.lease import leases
from evodiff.pipeline.preference import parse_preference
from evodiff.pipeline.requests import request_path, requests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.pipeline.run import Run

TERA = 1e12
RATING_WEIGHT = 0.2
_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)


class Policy(StrEnum):
    """When a generation follows the one before."""

    CONTINUOUS = "continuous"
    CRON = "cron"
    ON_ALERT = "on alert"


@dataclass(frozen=True)
class Steering:
    """``generations`` and ``compute_budget_tflop`` (training, 10^12 multiply-adds) end a search; None is no end.

    ``extra_generations`` are granted beyond ``generations``, by alerts, and from the generation on that takes the
    request they hold whatever ends the search. ``prefer`` comes before the run's own. ``rating_weight``, in [0, 1], is
    how much people's preference counts in fitness (:mod:`evodiff.engine.ratings`); None is :data:`RATING_WEIGHT`.
    """

    policy: Policy = Policy.CONTINUOUS
    cron: str | None = None
    generations: int | None = None
    extra_generations: int = 0
    compute_budget_tflop: float | None = None
    stop_on_plateau: bool = False
    prefer: str | None = None
    rating_weight: float | None = None


_FIELDS = tuple(Steering.__dataclass_fields__)
_READER = TypeAdapter(Steering)
_UNSTEERED = Steering()


def check_steering(values: Mapping[str, Any], objectives: Sequence[str], held: Steering = _UNSTEERED) -> None:
    """Check what a request wants to change in a run over ``objectives``, for which ``held`` holds so far.

    Raises:
        SettingsError: a value is not one that can be had; the message names it.
    """
    word = _read_word(values)
    if word.cron is not None:
        _check_cron(word.cron)
    policy = word.policy if "policy" in values else held.policy
    if policy is Policy.CRON and not (word.cron or held.cron):
        raise SettingsError("Policy cron: expected a cron expression, found none.", remedy='Write cron="0 3 * * *".')
    if word.cron is not None and policy is not Policy.CRON:
        raise SettingsError(
            f"cron {word.cron!r}: expected the policy cron, found {str(policy)!r}.",
            remedy="Choose the policy cron, or leave the expression blank.",
        )
    parse_preference(word.prefer, objectives)
    if word.rating_weight is not None and not 0 <= word.rating_weight <= 1:
        raise SettingsError(
            f"rating_weight: expected a number in [0, 1], found {word.rating_weight}.",
            remedy="0 leaves people's preference out.",
        )


def steering(run: Run, further: Mapping[str, Any] | None = None) -> Steering:
    """Return what holds for a run: the latest word of its requests on each field; extra generations add up.

    ``further`` is read as one request more, to see what it would change.

    Raises:
        LedgerError: a request says what cannot be.
    """
    values: dict[str, Any] = {}
    extra = 0
    words = [(request.steering, str(request_path(run, request.id))) for request in requests(run)]
    for word, origin in [*words, (further or {}, "what is asked for")]:
        try:
            extra += _read_word(word).extra_generations
        except SettingsError as error:
            raise LedgerError(
                f"{origin} cannot be followed: {error.headline}", remedy="Remove the file and ask again."
            ) from error
        values.update(word)
    return _READER.validate_python({**values, "extra_generations": extra})


def _read_word(values: Mapping[str, Any]) -> Steering:
    """Return the fields of one request, the others as they are by default.

    Raises:
        SettingsError: a field is unknown, or its value of another kind; the message names it.
    """
    unknown = set(values) - set(_FIELDS)
    if unknown:
        raise SettingsError(
            f"Expected steering by {', '.join(_FIELDS)}; found {', '.join(sorted(unknown))}.",
            remedy="Leave the others out; what is frozen needs a new experiment.",
        )
    try:
        return _READER.validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{name}: {first['msg']}; found {first['input']!r}.", remedy="Correct it.") from error


def preference(run: Run) -> str | None:
    """Return the limits that narrow from which part of the front a run's champion is taken, None where there are none.

    What a request said comes before what the run froze.
    """
    frozen: str | None = run.settings["prefer"]
    return steering(run).prefer or frozen


def record_steering(run: Run, generation: int) -> None:
    """Give a generation its copy of what holds, unless it has one; ``alerts`` are those that it was taken for."""
    taken = {request for lease in leases(run) if lease.generation == generation for request in lease.requests}
    alerts = [dict(item.cause) for item in requests(run) if item.id in taken and "alert" in item.cause]
    held = asdict(steering(run))
    if held["rating_weight"] is None:  # as in runs that nobody rates
        del held["rating_weight"]
    content = json.dumps({**held, "alerts": alerts}, sort_keys=True).encode() + b"\n"
    run.ledger.publish(f"generations/{generation:04d}/inputs/steering.json", content)


def record_exhausted(run: Run, generation: int) -> None:
    """Put on record that no trial could be planned for a generation."""
    run.ledger.publish(_exhausted_file(generation), b'{"exhausted": true}\n')


def is_exhausted(run: Run) -> bool:
    """Return whether the space has nothing left to try, as far as somebody tried to plan the next generation."""
    generation = run.ledger.closed
    return run.ledger.exists(_exhausted_file(generation)) and not run.ledger.plan(generation)


def _exhausted_file(generation: int) -> str:
    return f"generations/{generation:04d}/inputs/exhausted.json"


def end_reason(run: Run, steered: Steering) -> str | None:
    """Return why no further generation is wanted, None while one is."""
    if is_exhausted(run):
        return "nothing is left to try"
    if steered.extra_generations and _is_granted(run):
        return None
    closed = run.ledger.closed
    if steered.generations is not None and closed >= steered.generations + steered.extra_generations:
        return f"{closed} generations are done, as asked for"
    if steered.compute_budget_tflop is not None and (spent := spent_tflop(run)) >= steered.compute_budget_tflop:
        return f"{spent:.3g} TFLOP of training are spent, of {steered.compute_budget_tflop:.3g}"
    if steered.stop_on_plateau and plateaued(run.evolution().history()):
        return f"the search has converged after {closed} generations"
    return None


def _is_granted(run: Run) -> bool:
    """Return whether generations are still to come that requests granted beyond every end.

    A grant begins with the generation that consumes its request, or where an earlier one leaves off.
    """
    grants = {request.id: int(request.steering.get("extra_generations", 0)) for request in requests(run)}
    until = 0
    for lease in leases(run):
        extra = sum(grants.pop(request, 0) for request in lease.requests)
        if extra:
            until = max(until, lease.generation) + extra
    return any(grants.values()) or run.ledger.closed < until


def spent_tflop(run: Run) -> float:
    """Return the training that the plans of a run asked for so far, in 10^12 multiply-adds."""
    batch = run.training.batch_size
    return (
        sum(
            training_flops(resolve(run.space.from_json(row["genome"]), run.shape), batch) * run.added_steps(row)
            for generation in range(run.ledger.generations)
            for row in run.ledger.plan(generation)
        )
        / TERA
    )


def last_tick(expression: str, now: datetime) -> datetime:
    """Return when a cron expression, in UTC, was last met.

    Raises:
        SettingsError: it is none, or never met.
    """
    from croniter import croniter

    try:
        tick: datetime = croniter(expression, now.astimezone(UTC)).get_prev(datetime)
    except (ValueError, KeyError) as error:
        raise SettingsError(
            f"Not a cron expression with a tick: {expression!r}: {error}.",
            remedy='Write five fields, such as "0 3 * * *" for 3 a.m. (UTC).',
        ) from error
    return tick


def _check_cron(expression: str) -> None:
    if len(expression.split()) != 5:
        raise SettingsError(
            f"Not a cron expression: expected five fields, found {expression!r}.",
            remedy='Write minute, hour, day, month and weekday, such as "0 3 * * *" for 3 a.m. (UTC).',
        )
    last_tick(expression, _ANY_TIME)
