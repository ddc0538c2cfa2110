"""The result of a run in a few sentences that a person understands."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evodiff.reporting.notation import enumeration, number, operator_title, short, title, with_error, with_unit
from evodiff.reporting.statistics import CONFIDENCE, best_random, best_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.reporting.view import CandidateView, ObjectiveView, ReferenceView, RunView


def champion_sentence(view: RunView) -> str:
    """Say what the champion is and what it reaches, or why there is none."""
    champion = view.candidate(view.champion)
    if champion is None:
        failed = len(view.failed)
        if view.candidates and failed == len(view.candidates):
            return f"There is no champion: all {failed} candidates failed. Their causes are listed below."
        if not view.candidates:
            return "There is no champion yet: nothing has been evaluated."
        return "There is no champion: no candidate meets every constraint."
    values = [
        f"{_phrase(objective)} {_value(champion, objective)}"
        for objective in view.objectives
        if objective.name in champion.objectives
    ]
    origin = (
        "one of the starting designs"
        if not champion.parents
        else f"made by {operator_title(champion.operator)} in generation {champion.generation}"
    )
    best = f"The best of {len(view.candidates)} architectures, {short(champion.id)} ({origin})"
    return f"{best}, reaches {enumeration(values)}."


def comparison_sentences(view: RunView) -> list[str]:
    """Compare the champion with the best hand-designed network and with the best that random search found."""
    champion = view.candidate(view.champion)
    if champion is None:
        return []
    sentences = []
    reference = best_reference(view)
    if reference is not None and dict(reference.objectives) == dict(champion.objectives):
        sentences.append(f"It is the hand-designed network {reference.name} itself: the search found nothing fitter.")
    elif reference is not None:
        versus = _versus(champion, reference, view)
        shorter = _shorter_training(reference, champion, view)
        sentences.append(f"Against {reference.name}, the best of the hand-designed networks{shorter}: {versus}.")
    random = best_random(view)
    if random is not None:
        versus = _versus(champion, random, view)
        sentences.append(f"Against the best that random search of equal budget found ({short(random.id)}): {versus}.")
    return sentences


def _shorter_training(reference: ReferenceView, champion: CandidateView, view: RunView) -> str:
    """Say where a network was left on a lower rung than the champion, which makes it look worse than it is."""
    if reference.rung >= champion.rung:
        return ""
    steps = view.rungs[reference.rung].steps
    known = f", {steps}\u00a0steps" if steps else ""
    return f", which was left on a rung of shorter training{known}"


def _phrase(objective: ObjectiveView) -> str:
    """Return the title as it stands inside a sentence: abbreviations keep their capitals."""
    name = title(objective)
    return name if name[1:].lower() != name[1:] else name.lower()


def _value(candidate: CandidateView, objective: ObjectiveView) -> str:
    value, error = candidate.objectives[objective.name], candidate.standard_errors.get(objective.name)
    return f"{with_error(value, error)}\u00a0{objective.unit}".rstrip() if error else with_unit(value, objective.unit)


def _versus(champion: CandidateView, other: CandidateView | ReferenceView, view: RunView) -> str:
    parts = [
        difference(champion.objectives, other.objectives, objective, _joint_error(champion, other, objective.name))
        for objective in view.objectives
        if objective.name in champion.objectives and objective.name in other.objectives
    ]
    return enumeration(parts)


def _joint_error(first: CandidateView, second: CandidateView | ReferenceView, name: str) -> float:
    return math.hypot(first.standard_errors.get(name, 0.0), second.standard_errors.get(name, 0.0))


def difference(
    ours: Mapping[str, float], theirs: Mapping[str, float], objective: ObjectiveView, joint_error: float
) -> str:
    """Say how one value compares with another.

    Costs with a unit are compared by ratio. Anything measured with an error, or that may be negative such as KID, is
    compared by difference, which is called noise below two standard errors.
    """
    ours_value, theirs_value = ours[objective.name], theirs[objective.name]
    name = _phrase(objective)
    gap = ours_value - theirs_value
    if joint_error == 0 and objective.unit and min(ours_value, theirs_value) > 0:
        percent = round(100 * abs(gap) / theirs_value)
        if percent == 0:
            return f"the same {name}"
        if max(ours_value, theirs_value) >= 2 * min(ours_value, theirs_value):
            factor = max(ours_value, theirs_value) / min(ours_value, theirs_value)
            return f"{number(factor, 2)} times {'less' if gap < 0 else 'more'} {name}"
        return f"{percent}\u00a0% {'less' if gap < 0 else 'more'} {name}"
    if gap == 0:
        return f"the same {name}"
    text = f"{name} {'lower' if gap < 0 else 'higher'} by {number(abs(gap), 2)}"
    if joint_error == 0:
        return text
    better = (gap > 0) == objective.maximise
    beyond = abs(gap) > CONFIDENCE * joint_error
    verdict = ("better" if better else "worse") if beyond else "no more than noise"
    return f"{text} ({verdict}; standard error {number(joint_error, 2)})"
