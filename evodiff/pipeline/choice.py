"""Which member of a run's front is worth a release, if any, and why.

1. Members of the front count as they are from scratch, where they are feasible and inside the run's preference.
2. The nearest to where the search is steered comes first: that with the largest fitness, in which the objectives weigh
   alike and people's ratings count. Members that are no nearer than what serves, if that is inside the limits, are left
   out: a release of them would only be undone by the next.
3. The first that, measured again, is inside the limits still, and beats what serves beyond the standard error on at
   least one objective, is chosen. What seems best of many is so partly by luck; a second measurement owes it nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from evodiff.errors import EvodiffError
from evodiff.pipeline.identity import check_identity
from evodiff.pipeline.preference import parse_preference
from evodiff.pipeline.run import Run
from evodiff.pipeline.scratch import front_from_scratch, heirs_of_front, scratch_evaluation
from evodiff.pipeline.served_latency import as_served, latency_factor
from evodiff.pipeline.steering import preference

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.engine import Candidate, Evaluation, Objective
    from evodiff.pipeline.preference import Limit

    Remeasure = Callable[[Run, str], Evaluation]

MOST: Final = 3  # members that are measured again
WEIGHTS_GONE: Final = "weights_gone"  # the detail of values that were measured again without weights to serve

_COMPARABLE: Final = ("dataset", "feature_net", "calibration")


@dataclass(frozen=True)
class Choice:
    """A candidate to release, None for none, and the reason; ``settled`` says that the front was compared with what
    serves, so that what the run asked for before is wanted no longer."""

    candidate: str | None
    reason: str
    settled: bool = True


@dataclass(frozen=True)
class _Serving:
    """What serves, as far as this run can tell: its fitness here, and its values."""

    name: str
    fitness: float
    values: Evaluation
    measured: Evaluation
    within: bool


def choose(
    run: Run,
    serving: Mapping[str, Any] | None,
    *,
    remeasure: Remeasure | None = None,
    barred: Collection[str] = (),
) -> Choice:
    """Return what a run would release in the place of ``serving``, an entry of the release file or None.

    Args:
        run: the run.
        serving: what serves now.
        remeasure: measures a candidate of a run again; None takes the values that the search has stored.
        barred: versions, RUN/ID, that were rolled back.
    """
    limits = parse_preference(preference(run), [objective.name for objective in run.objectives])
    inside = _members(run, limits)
    members = [item for item in inside if f"{run.name}/{item.id}" not in barred]
    if inside and not members:
        return Choice(None, f"all {len(inside)} of the front that may be released were rolled back before")
    if not members:
        return Choice(None, _nobody(run, limits), settled=False)
    again = remeasure or _stored
    if serving is None:
        return _first(run, members, limits, again)
    try:
        rival = _serving(run, serving, limits, again)
    except EvodiffError as error:
        return Choice(None, f"not comparable with {_name(serving)}, which serves: {error.headline}", settled=False)
    nearer = [item for item in members if not rival.within or (item.fitness_score or 0.0) > rival.fitness]
    if not nearer:
        return Choice(None, f"{rival.name}, which serves, is as near to what is wanted as any of the front")
    return _best(run, nearer, rival, limits, again)


def promising_heir(run: Run, barred: Collection[str] = ()) -> str | None:
    """Return the member of the front to train from scratch before a release is chosen, None where none is.

    It is the nearest to what is wanted of those that inherited weights, by the values that it has with them; those that
    are no nearer than a member that is known from scratch, and may be released, can wait for the search's end.
    ``barred`` versions, RUN/ID, were rolled back.
    """
    limits = parse_preference(preference(run), [objective.name for objective in run.objectives])
    heirs, factor = heirs_of_front(run), latency_factor(run)
    free = [item for item in _members(run, limits) if f"{run.name}/{item.id}" not in barred]
    known = max((item.fitness_score or 0.0 for item in free), default=-1.0)
    waiting = [
        item
        for item in run.evolution().front()
        if item.id in heirs and item.evaluation is not None and scratch_evaluation(run, item.id) is None
        if f"{run.name}/{item.id}" not in barred
        if _inside(item.evaluation, limits, factor) and (item.fitness_score or 0.0) > known
    ]
    return max(waiting, key=lambda item: (item.fitness_score or 0.0, item.id)).id if waiting else None


def beaten_objectives(challenger: Evaluation, rival: Evaluation, objectives: Sequence[Objective]) -> list[str]:
    """Return the objectives on which a challenger is better by more than the standard error of the difference."""
    found = []
    for item in objectives:
        sign = -1.0 if item.maximise else 1.0
        gain = sign * (rival.objectives[item.name] - challenger.objectives[item.name])
        if gain > math.hypot(_error(challenger, item.name), _error(rival, item.name)):
            found.append(item.name)
    return found


def _members(run: Run, limits: Sequence[Limit]) -> list[Candidate[ArchitectureGenome]]:
    """Return the members of the front that may be released, the nearest to what is wanted first."""
    factor = latency_factor(run)
    found = [
        item
        for item in front_from_scratch(run)
        if item.evaluation is not None and _inside(item.evaluation, limits, factor)
    ]
    return sorted(found, key=lambda item: (item.fitness_score or 0.0, item.id), reverse=True)


def _inside(evaluation: Evaluation, limits: Sequence[Limit], factor: float = 1.0) -> bool:
    """Return whether values are inside the limits; ``factor`` makes predicted latency that of production."""
    return evaluation.feasible and all(limit.holds(as_served(evaluation.objectives, factor)) for limit in limits)


def _nobody(run: Run, limits: Sequence[Limit]) -> str:
    waiting = len(heirs_of_front(run)) - sum(item.id in heirs_of_front(run) for item in front_from_scratch(run))
    if waiting:
        return f"{waiting} of the front inherited weights and wait to be trained from scratch"
    wanted = " and ".join(f"{limit.name}{limit.comparison}{limit.value:g}" for limit in limits)
    return f"nobody on the front is feasible{f' with {wanted}' if wanted else ''}"


def _first(
    run: Run, members: Sequence[Candidate[ArchitectureGenome]], limits: Sequence[Limit], again: Remeasure
) -> Choice:
    said = []
    for member in members[:MOST]:
        problem = _problem(run, member.id, limits, again)[0]
        if problem is None:
            return Choice(member.id, f"{run.name}/{member.id} is the first to serve")
        said.append(problem)
    return Choice(None, "; ".join(said))


def _best(
    run: Run,
    members: Sequence[Candidate[ArchitectureGenome]],
    rival: _Serving,
    limits: Sequence[Limit],
    again: Remeasure,
) -> Choice:
    said = []
    for member in members[:MOST]:
        problem, measured = _problem(run, member.id, limits, again)
        better = [] if measured is None else beaten_objectives(measured, rival.measured, run.objectives)
        if problem is None and better:
            return Choice(member.id, f"{run.name}/{member.id} beats {rival.name} on {' and '.join(better)}")
        said.append(problem or f"{member.id} beats {rival.name} on no objective beyond the standard error")
    return Choice(None, "; ".join(said))


def _problem(
    run: Run, candidate: str, limits: Sequence[Limit], again: Remeasure
) -> tuple[str | None, Evaluation | None]:
    """Return what keeps a candidate from its release once it is measured again, and its values then."""
    try:
        measured = again(run, candidate)
    except EvodiffError as error:
        return f"{candidate} could not be measured again: {error.headline}", None
    if measured.details.get(WEIGHTS_GONE):
        return f"{candidate} cannot serve: its weights are gone", None
    broken = [limit for limit in limits if not limit.holds(measured.objectives)]
    if broken:
        values = ", ".join(f"{limit.name} {measured.objectives[limit.name]:.4g}" for limit in broken)
        return f"{candidate}, measured again, is outside the limits: {values}", measured
    return None, measured


def _serving(run: Run, entry: Mapping[str, Any], limits: Sequence[Limit], again: Remeasure) -> _Serving:
    """Return what serves in the terms of this run.

    Raises:
        EvodiffError: it is of another run whose values mean something else, or which is gone.
    """
    home = run if entry.get("run") == run.name else _other_run(run, entry)
    check_identity(home, entry)
    candidate = home.evolution().candidate(str(entry["candidate"]))
    if home is run:
        here = next((item for item in front_from_scratch(run) if item.id == candidate.id), candidate)
        fitness = here.fitness_score
    else:
        results = run.evolution().results()
        here, box = candidate, results[-1].box if results else None
        fitness = None if box is None else box.score(candidate.evaluation)
    values = here.evaluation
    if values is None or values.failure is not None:
        raise EvodiffError("it has no values.")
    measured = again(home, candidate.id)
    within = _inside(values, limits, latency_factor(home)) and _inside(measured, limits)
    return _Serving(_name(entry), fitness or 0.0, values, measured, within)


def _other_run(run: Run, entry: Mapping[str, Any]) -> Run:
    if entry.get("run") is None:
        raise EvodiffError("it was registered by hand.")
    other = Run.open(run.path.resolve().parent / str(entry["run"]))
    differing = [
        name for name in _COMPARABLE if other.settings["digests"].get(name) != run.settings["digests"].get(name)
    ]
    for name in ("evaluation", "target", "image_shape"):
        differing += [name] if other.settings[name] != run.settings[name] else []
    differing += [] if other.objectives == run.objectives else ["objectives"]
    if differing:
        raise EvodiffError(f"{other.name} has another {', '.join(differing)}.")
    return other


def _stored(run: Run, candidate: str) -> Evaluation:
    """Return the values of a candidate as the search, or its training from scratch, has stored them."""
    members = {item.id: item for item in front_from_scratch(run)}
    found = members.get(candidate) or run.evolution().candidate(candidate)
    if found.evaluation is None:
        raise EvodiffError("it has no values.")
    return found.evaluation


def _error(evaluation: Evaluation, objective: str) -> float:
    return float(evaluation.details.get(f"{objective}_standard_error") or 0.0)


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry.get('run') or entry.get('model')}/{entry.get('candidate') or entry.get('version')}"
