"""An experiment of MLflow as the comparison shows it, for whoever has the server but not the run's folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from evodiff.engine.candidate import Evaluation, combine_replicates, error_name, stated_errors
from evodiff.errors import CandidateNotFound
from evodiff.reporting.notation import unit_of
from evodiff.reporting.view import CandidateView, ObjectiveView, RunView, TrialView
from evodiff.tracking.runs import search_runs
from evodiff.tracking.server import connected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def views_from_tracking(tracking_uri: str, experiments: Sequence[str]) -> list[RunView]:
    """Read experiments that :func:`~evodiff.tracking.track_run` has written: candidates with objectives and compute.

    Raises:
        CandidateNotFound: there is no such experiment, or evodiff did not write it.
        SettingsError: ``tracking_uri`` is no address of a server.
        TrackingUnreachable: the server is down.
    """
    with connected(tracking_uri) as client:
        return [_view(client, name) for name in experiments]


def _view(client: Any, name: str) -> RunView:
    experiment = client.get_experiment_by_name(name)
    settings = json.loads(experiment.tags.get("evodiff.settings", "{}")) if experiment else {}
    if "objectives" not in settings:
        raise CandidateNotFound(
            f"No experiment {name} in MLflow that evodiff wrote.",
            remedy="Track its run first: evodiff track RUN; the name is that of the run's folder.",
        )
    objectives = tuple(
        ObjectiveView(item["name"], item["maximise"], unit_of(item["name"])) for item in settings["objectives"]
    )
    digests = settings.pop("digests")
    done = "tags.evodiff.kind = 'candidate' and attributes.status != 'RUNNING'"  # what runs is not whole yet
    children = search_runs(client, experiment.experiment_id, done)
    front = _last_front(client, experiment.experiment_id)
    by_candidate: dict[str, list[tuple[int, Any]]] = {}
    for place, child in enumerate(sorted(children, key=_place)):
        by_candidate.setdefault(child.data.tags["evodiff.candidate"], []).append((place, child))
    candidates = tuple(_candidate(tried, objectives, front) for tried in by_candidate.values())
    champion = max(
        (item for item in candidates if item.on_front), key=lambda item: item.fitness_score or 0.0, default=None
    )
    return RunView(
        name=name,
        objectives=objectives,
        candidates=candidates,
        champion=champion.id if champion else None,
        settings=settings,
        digests=digests,
    )


def _place(child: Any) -> tuple[int, int]:
    return int(child.data.tags["evodiff.generation"]), int(child.data.tags["evodiff.position"])


def _last_front(client: Any, experiment: str) -> set[str]:
    found = search_runs(client, experiment, "tags.evodiff.kind = 'generation'")
    last = max(found, key=lambda item: int(item.data.tags["evodiff.generation"]), default=None)
    return set(last.data.tags["evodiff.front"].split(", ")) if last else set()


def _candidate(
    placed: Sequence[tuple[int, Any]], objectives: Sequence[ObjectiveView], front: set[str]
) -> CandidateView:
    """Return a candidate from its runs, one for each generation that tried it: the highest rung counts.

    ``placed`` has with each run where it stands among those of all candidates.
    """
    tried = [item for _, item in placed]
    first = tried[0].data
    trials = tuple(_trial(place, item) for place, item in placed)
    rung = max(trial.rung for trial in trials)
    highest = [item for trial, item in zip(trials, tried, strict=True) if trial.rung == rung]
    whole = [item for item in highest if item.info.status == "FINISHED"]
    metrics = whole[-1].data.metrics if whole else {}
    standing = combine_replicates([_evaluation(item.data.metrics, objectives) for item in whole]) if whole else None
    candidate = first.tags["evodiff.candidate"]
    return CandidateView(
        id=candidate,
        generation=int(first.tags["evodiff.generation"]),
        operator=first.tags["evodiff.operator"] or None,
        parents=tuple(filter(None, first.tags["evodiff.parents"].split(", "))),
        objectives=standing.objectives if standing else {},
        standard_errors=stated_errors(standing, standing.objectives) if standing else {},
        violations=standing.violations if standing else {},
        fitness_score=metrics.get("fitness_score"),
        on_front=candidate in front,
        failure=None if whole else highest[-1].data.tags["evodiff.failure"],
        parameters=round(first.metrics["parameters"]),
        flops=first.metrics["flops"],
        training_flops=sum(item.data.metrics["training_flops"] for item in tried),
        rung=rung,
        trials=trials,
    )


def _trial(place: int, item: Any) -> TrialView:
    return TrialView(
        place=place,
        generation=int(item.data.tags["evodiff.generation"]),
        rung=int(item.data.tags["evodiff.rung"]),
        failed=item.info.status != "FINISHED",
        training_flops=item.data.metrics["training_flops"],
    )


def _evaluation(metrics: Mapping[str, float], objectives: Sequence[ObjectiveView]) -> Evaluation:
    errors = [name for item in objectives if (name := error_name(item.name)) in metrics]
    return Evaluation(
        objectives={item.name: metrics[item.name] for item in objectives},
        violations={
            name.removeprefix("violation."): value for name, value in metrics.items() if name.startswith("violation.")
        },
        details={name: metrics[name] for name in errors},
    )
