"""What a contest says, in sentences and in the cells of tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evodiff.pipeline.rivals import BUDGETS, CHAMPION, Budget
from evodiff.reporting.notation import MISSING, enumeration, number, with_error
from evodiff.reporting.smoke import duration
from evodiff.reporting.verdicts import Verdict, deviation_text, grouped, interval_text, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evodiff.evaluation.over_seeds import Spread
    from evodiff.pipeline.rivals import Contest
    from evodiff.reporting.rivals_view import RivalsView, RivalView

HEADINGS: Final[dict[Budget, str]] = {"equal_steps": "Equal steps", "equal_compute": "Equal training compute"}

_REMARKS: Final[dict[Verdict, str]] = {"better": "better", "worse": "worse", "open": "unclear"}


def announcement(contest: Contest, workers: int) -> str:
    """Say what a contest will do, and about how long it takes."""
    left = contest.open_trainings()
    who = f"{contest.rivals[0].name} and {len(contest.rivals) - 1} rivals"
    each = f"{contest.seeds} seed{'' if contest.seeds == 1 else 's'} each"
    if not left:
        return f"{who}: all trainings are done and judged."
    return (
        f"{who}, {each}, from scratch for {contest.steps} steps and for as much compute: "
        f"{len(left)} trainings to go, about {duration(contest.predicted_seconds(workers))} on {workers} "
        f"worker{'' if workers == 1 else 's'}. Ctrl-C stops; the same command goes on."
    )


def subject(view: RivalsView) -> str:
    """Return what the candidate in question is called inside a sentence."""
    return f"the {CHAMPION}" if view.champion.name == CHAMPION else view.champion.name


def sentences(view: RivalsView) -> list[str]:
    """Say whom the champion beats under each budget, how stable trainings are, and what is missing."""
    return list(_sentences(view))


def _sentences(view: RivalsView) -> Iterator[str]:
    for budget in BUDGETS:
        if text := _budget_sentence(view, budget):
            yield f"At {HEADINGS[budget].lower()}, {text}."
    if text := _stability_sentence(view):
        yield text
    if view.left_out:
        yield f"Left out: {enumeration([f'{name} ({why})' for name, why in view.left_out.items()])}."
    if view.lost:
        lost = enumeration([f"{training} ({why})" for training, why in view.lost.items()])
        yield f"Lost, and tried again by the same command: {lost}."
    failed = [
        f"{network.name} ({showing.problem})"
        for network in view.networks
        for showing in network.showings.values()
        if showing.problem
    ]
    if failed:
        yield f"Trainings that failed: {enumeration(list(dict.fromkeys(failed)))}."


def _budget_sentence(view: RivalsView, budget: Budget) -> str:
    differences = [(rival.name, view.difference(rival, budget)) for rival in view.rivals]
    if view.seeds == 1:
        known = [f"{name} {interval_text(found)}" for name, found in differences if found is not None]
        minus = f"{subject(view)}'s KID minus that of its rivals: {enumeration(known)}"
        return f"{minus}; one seed makes no interval" if known else ""
    return grouped(
        differences,
        {
            "better": f"{subject(view)} beats",
            "worse": f"{subject(view)} is beaten by",
            "open": f"{subject(view)} is not told apart from",
        },
    )


def _stability_sentence(view: RivalsView) -> str:
    spreads = {
        network.name: found.deviation
        for network in view.networks
        if (found := network.showings["equal_steps"].spread) is not None and found.count > 1
    }
    ours = spreads.get(view.champion.name)
    if ours is None:
        return ""
    text = (
        f"Over {view.seeds} seeds, at equal steps, the standard deviation of {subject(view)}'s KID is "
        f"{deviation_text(ours)}"
    )
    if len(spreads) < 2:
        return f"{text}."
    ordered = sorted(spreads, key=lambda name: (spreads[name].value, name))
    least, most = (f"{name} ({number(spreads[name].value, 2)})" for name in (ordered[0], ordered[-1]))
    return f"{text}; of all it is smallest for {least} and largest for {most}."


def cells(view: RivalsView, network: RivalView, budget: Budget) -> list[str]:
    """Return steps, KID, range, standard deviation, the champion's KID minus this one's, and what that comes to."""
    showing = network.showings[budget]
    found = showing.spread
    if found is None:
        return [f"{showing.steps:,}", MISSING, MISSING, MISSING, MISSING, showing.problem or "lost"]
    difference = None if network is view.champion else view.difference(network, budget)
    return [
        f"{showing.steps:,}",
        with_error(found.mean, found.standard_error),
        *_spread_cells(found),
        interval_text(difference),
        "" if difference is None or view.seeds == 1 else _REMARKS[verdict(difference)],
    ]


def _spread_cells(found: Spread) -> list[str]:
    if found.count == 1:
        return [MISSING, MISSING]
    return [f"{number(found.smallest)} to {number(found.largest)}", deviation_text(found.deviation)]
