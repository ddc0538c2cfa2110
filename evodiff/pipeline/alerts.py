"""What an alert on the deployment asks of a search: one generation more, of the run whose champion serves.

Only the stable variant counts: a canary that degrades is rolled back, which mends it. An alert is known by its
fingerprint and start, so that however often it is told it is one request, in one run, also when the champion has
changed since. One that ends and begins again within the cooldown waits for the end of it; a different one does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from evodiff.errors import EvodiffError, LedgerError
from evodiff.pipeline.chain import experiments, successor
from evodiff.pipeline.control import next_step
from evodiff.pipeline.identity import is_of
from evodiff.pipeline.opening import experiment_folder
from evodiff.pipeline.preference import parse_preference
from evodiff.pipeline.release import read_release
from evodiff.pipeline.requests import request_id, requests, submit
from evodiff.pipeline.run import Run
from evodiff.pipeline.scratch import front_from_scratch
from evodiff.pipeline.served_latency import as_served, latency_factor
from evodiff.pipeline.steering import RATING_WEIGHT, preference, steering

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from evodiff.engine import Evaluation
    from evodiff.monitoring.alerts import Alert
    from evodiff.pipeline.chain import Scheduler
    from evodiff.settings import Settings

STABLE: Final = "stable"
DEGRADED: Final = "degraded"  # label of alerts that a new architecture can mend; its value says what degraded
RATING: Final = "rating"
LATENCY_MS: Final = "latency_ms"
LIMITED: Final = {"latency": LATENCY_MS, "quality": "kid"}  # what degraded, and the objective that is limited then
TIGHTENING: Final = 0.8  # of the latency of what serves
COOLDOWN: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Answer:
    """What came of an alert.

    ``settled`` says that it need not be told again, ``request`` is the request that it made, now or before;
    ``run_id`` names the scheduler's run that is to be started for ``experiment``, None where none is.
    """

    alert: str
    settled: bool
    reason: str
    request: str | None = None
    experiment: str | None = None
    run_id: str | None = None
    failed: bool = False


def answer_alerts(
    alerts: Iterable[Alert],
    settings: Settings,
    *,
    now: datetime,
    scheduler: Scheduler,
    cooldown: timedelta = COOLDOWN,
) -> list[Answer]:
    """Write the request of each alert that counts, once, and say which runs of the scheduler are to be started.

    One alert that cannot be answered holds up no other.
    """
    answers = []
    for alert in {alert.identity: alert for alert in alerts}.values():
        try:
            answers.append(_answer(alert, settings, now, scheduler, cooldown))
        except EvodiffError as error:
            answers.append(Answer(alert.identity, False, f"{alert.name}: {error}", failed=True))
    return answers


def alert_cause(alert: Alert) -> dict[str, Any]:
    """Return the cause of the request that an alert writes; a fingerprint stands for its labels."""
    return {
        "alert": alert.name,
        "fingerprint": alert.fingerprint,
        "starts_at": alert.starts_at,
        "labels": dict(alert.labels),
    }


def _answer(alert: Alert, settings: Settings, now: datetime, scheduler: Scheduler, cooldown: timedelta) -> Answer:
    if alert.labels.get("arm") != STABLE or not alert.labels.get(DEGRADED):
        return Answer(alert.identity, True, f"{alert.name}: not about what the stable variant is like")
    cause = alert_cause(alert)
    run = _answered_by(request_id(cause), settings.runs_dir)
    if run is None:
        run = _champions_run(settings)
        wait = _cooling(run, alert, now, cooldown)
        if wait is not None:
            return Answer(alert.identity, False, f"{alert.name}: {wait}")
        submit(run, cause, _steering(run, alert, settings), now)
    step = next_step(run, now)
    run_id, reason = successor(run, scheduler) if step.wanted else (None, step.reason)
    request = request_id(cause)
    return Answer(
        alert.identity, True, f"{alert.name}: request {request} of {run.name}; {reason}", request, run.name, run_id
    )


def _answered_by(request: str, runs_dir: Path) -> Run | None:
    """Return the run that has the request, whichever it is: the champion may come from another by now."""
    for path in experiments(runs_dir):
        if (path / "requests" / f"{request}.json").exists():
            return Run.open(path)
    return None


def _champions_run(settings: Settings) -> Run:
    serving = read_release(settings.release_file)["champion"]
    if serving is None:
        raise LedgerError(
            f"{settings.release_file} says that nothing serves, so no search is known to go on with.",
            remedy="Release a champion first.",
        )
    name = str(serving.get("run") or serving.get("model"))  # a registered model is named for its run
    path = experiment_folder(name, settings)
    if not (path / "experiment.json").exists():
        raise LedgerError(
            f"A version of {name} serves; expected its run in {path}, found none.",
            remedy="Bring the run back, or name its folder by EVODIFF_RUNS_DIR.",
        )
    run = Run.open(path)
    if serving.get("experiment") not in (None, run.identity):
        raise LedgerError(
            f"A version of another run of the name {name} serves than of the one in {path}.",
            remedy="Bring that run back, or name its folder by EVODIFF_RUNS_DIR.",
        )
    return run


def _cooling(run: Run, alert: Alert, now: datetime, cooldown: timedelta) -> str | None:
    """Return why an alert has to wait; None where the same one has not begun before, or long enough ago."""
    before = [item.at for item in requests(run) if item.cause.get("fingerprint") == alert.fingerprint]
    if not before:
        return None
    until = datetime.fromisoformat(max(before)) + cooldown
    return f"it had a generation already and waits until {until.isoformat(timespec='seconds')}" if now < until else None


def _steering(run: Run, alert: Alert, settings: Settings) -> dict[str, Any]:
    """Return what the alert changes: one generation beyond every end, and where the search is steered from then on.

    - latency: to a tighter limit than the latency of what serves;
    - quality: to a KID no larger than that of what serves, so that none is traded for anything else;
    - rating: people's preference counts twice as much, at most 1; 0, which leaves it out, stays.
    """
    word: dict[str, Any] = {"extra_generations": 1}
    degraded = alert.labels[DEGRADED]
    if degraded in LIMITED:
        serving = read_release(settings.release_file)["champion"]
        tightened = tightened_preference(run, serving, LIMITED[degraded])
        if tightened is not None:
            word["prefer"] = tightened
    elif degraded == RATING:
        held = steering(run).rating_weight
        word["rating_weight"] = min(1.0, 2 * (RATING_WEIGHT if held is None else held))
    return word


def tightened_preference(run: Run, serving: Mapping[str, Any] | None, objective: str = LATENCY_MS) -> str | None:
    """Return the run's preference with an objective limited to what the serving candidate has, for latency to less.

    Latencies are those of production. The limit is never below the best of the front inside all other limits: one that
    nobody meets would leave no champion. None where the run has no such objective, nothing is known of that candidate,
    it is of another machine's run of the same name, or nobody is inside.
    """
    names = [item.name for item in run.objectives]
    held = parse_preference(preference(run), names)
    others = [item for item in held if item.name != objective or item.comparison in (">", ">=")]
    factor = latency_factor(run)
    front = {item.id: item.evaluation for item in front_from_scratch(run)}
    known = serving is not None and objective in names and is_of(run, serving)
    found = _values(run, front, str(serving.get("candidate"))) if serving and known else None
    served = [as_served(item.objectives, factor) for item in front.values() if item is not None and item.feasible]
    inside = [values[objective] for values in served if objective in names and all(one.holds(values) for one in others)]
    if found is None or not inside:
        return None
    limits = [item.value for item in held if item not in others]
    wanted = min([as_served(found, factor)[objective], *limits]) * (TIGHTENING if objective == LATENCY_MS else 1.0)
    kept = [f"{item.name}{item.comparison}{item.value!r}" for item in others]
    return ",".join([*kept, f"{objective}<={max(min(inside), wanted)!r}"])


def _values(run: Run, front: Mapping[str, Evaluation | None], candidate: str) -> Mapping[str, float] | None:
    """Return the values of a candidate as the front has them, else on the highest rung that it was tried on."""
    known = front.get(candidate)
    if known is not None and known.failure is None:
        return known.objectives
    best: tuple[int, Mapping[str, float]] | None = None
    for generation in range(run.ledger.closed):
        evaluations = run.ledger.evaluations(generation)
        for row in run.ledger.plan(generation):
            told = evaluations.get(row["id"])
            if row["candidate"] != candidate or told is None or told.failure is not None:
                continue
            if best is None or row["rung"] > best[0]:
                best = row["rung"], told.objectives
    return None if best is None else best[1]
