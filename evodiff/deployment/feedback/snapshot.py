"""Take what people said and what was measured into a generation's inputs, where it is joined when that closes.

``ratings.json`` holds the weight and the preferences that steer (:mod:`evodiff.engine.ratings`), and what they rest on;
``production.json`` what every version of the run cost. Each is published once, the first one wins, and nothing is
published where there is nothing to say: such a generation is as if there were no deployment.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import shutil
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from evodiff.deployment.feedback.preferences import FEWEST_RATERS, Preference, preferences
from evodiff.deployment.feedback.records import feedback_records
from evodiff.engine.layout import input_name
from evodiff.engine.ratings import JOINED, PRODUCTION, RATINGS
from evodiff.errors import GateFailed
from evodiff.pipeline.steering import RATING_WEIGHT, steering

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from evodiff.deployment.feedback.store import FeedbackStore
    from evodiff.deployment.feedback.votes import Vote
    from evodiff.pipeline.run import Run

FORMAT = 1
_DIGITS = 6
GATES = "telemetry/gates"
GATES_KEPT = 5  # results of the gate; the votes themselves stay in the store


@dataclass(frozen=True)
class Snapshot:
    """Which inputs this call ``published`` of a generation; ``rejected`` counts records that make no sense."""

    published: tuple[str, ...]
    rejected: int = 0


def snapshot_deployment(
    run: Run,
    generation: int,
    store: FeedbackStore,
    production: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    reference: str | None = None,
    fewest: int = FEWEST_RATERS,
    failed: Collection[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Snapshot:
    """Publish ``ratings.json`` and ``production.json`` of a generation that is not closed, unless they are there.

    Args:
        run: the run.
        generation: the one that is open, or the next.
        store: the service's votes.
        production: what was measured of versions, by RUN/ID; None takes what the store has.
        reference: the version, RUN/ID, that comparisons are told against: the champion.
        fewest: sources that must have voted on a version for its votes to count.
        failed: the versions that were rolled back.
        say: gets a line for what is left out.

    Raises:
        EvodiffError: the store cannot be read, or the run is damaged.
    """
    if generation < run.ledger.closed or all(run.ledger.exists(input_name(generation, name)) for name in JOINED):
        return Snapshot(())
    measured = {name: dict(found) for name, found in (store.production() if production is None else production).items()}
    votes = store.votes()
    accepted, rejected = _accepted(run, votes, measured, failed, say)
    kept = [
        vote for vote in votes if all(_is_known(name, run, accepted) for name in (vote.version, vote.other) if name)
    ]
    weight = steering(run).rating_weight
    contents = {
        RATINGS: _ratings(run, kept, reference, RATING_WEIGHT if weight is None else weight, fewest),
        PRODUCTION: _production(run, {name: found for name, found in measured.items() if name in accepted}),
    }
    names = [name for name, content in contents.items() if content and _publish(run, generation, name, content)]
    return Snapshot(tuple(sorted(names)), rejected)


def _publish(run: Run, generation: int, name: str, content: Mapping[str, Any]) -> bool:
    """Publish an input; False where one is there, or where the generation has closed meanwhile without it."""
    place = input_name(generation, name)
    if not run.ledger.publish(place, json.dumps(content, sort_keys=True, allow_nan=False).encode() + b"\n"):
        return False
    result = run.ledger.result(generation)
    if result is not None and name not in (result.get("inputs") or {}):
        run.ledger.set_aside(place, "too late: the generation has closed without it", "the next generation gets it")
        return False
    return True


def _accepted(
    run: Run,
    votes: Sequence[Vote],
    production: Mapping[str, Mapping[str, Any]],
    failed: Collection[str],
    say: Callable[[str], None],
) -> tuple[set[str], int]:
    """Return the versions of the run whose records pass the gate of feedback, and how many records do not."""
    records = [item for item in feedback_records(votes, production, failed=failed) if _is_of(item.architecture_id, run)]
    known = {
        f"{run.name}/{row['candidate']}" for index in range(run.ledger.generations) for row in run.ledger.plan(index)
    }
    if not records:
        return set(), 0
    if importlib.util.find_spec("great_expectations") is None:
        say("Feedback is not judged: Great Expectations is not installed (pip install great-expectations)")
        accepted = {item.architecture_id for item in records} & known
        return accepted, len(records) - len(accepted)
    from evodiff import gates
    from evodiff.deployment.feedback.gate import accepted_feedback

    try:
        lines = [json.dumps(item.to_json(), sort_keys=True) for item in records]
        folder = gates.check_feedback(lines, known=known, out=run.path / GATES).folder
    except GateFailed as error:
        say(str(error))
        folder = error.folder
    accepted = {item.architecture_id for item in accepted_feedback(folder)}
    for old in sorted(folder.parent.glob("feedback-*"), key=lambda place: place.stat().st_mtime_ns)[:-GATES_KEPT]:
        shutil.rmtree(old, ignore_errors=True)  # a twin may be faster
    return accepted, len(records) - len(accepted)


def _is_of(version: str, run: Run) -> bool:
    return version.rpartition("/")[0] == run.name


def _is_known(version: str, run: Run, accepted: set[str]) -> bool:
    """Whether a version may connect others: one of another run is not ours to judge."""
    return version in accepted or not _is_of(version, run)


def _ratings(
    run: Run, votes: Sequence[Vote], reference: str | None, weight: float, fewest: int
) -> dict[str, Any] | None:
    found = {name: item for name, item in preferences(votes, reference, fewest=fewest).items() if _is_of(name, run)}
    if not found:
        return None
    lines = "".join(json.dumps(vote.to_json(), sort_keys=True) + "\n" for vote in votes)
    return {
        "format": FORMAT,
        "weight": weight,
        "preferences": {_candidate(name): round(item.value, _DIGITS) for name, item in found.items()},
        "reference": reference,
        "versions": {_candidate(name): _evidence(item) for name, item in found.items()},
        "votes": {"count": len(votes), "digest": hashlib.sha256(lines.encode()).hexdigest()},
    }


def _evidence(preference: Preference) -> dict[str, Any]:
    parts = {"score": preference.score, "rating": preference.rating}
    return {
        "raters": preference.raters,
        **{
            name: {key: round(value, _DIGITS) for key, value in asdict(part).items()}
            for name, part in parts.items()
            if part is not None
        },
    }


def _production(run: Run, measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    if not measured:
        return None
    versions = {_candidate(name): found for name, found in measured.items()}
    content = {"format": FORMAT, "versions": versions}
    factor = _latency_factor(run, versions)
    return content if factor is None else {**content, "latency_factor": round(factor, _DIGITS)}


def _latency_factor(run: Run, versions: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the geometric mean, over versions, of measured over predicted latency at the serving batch.

    None where nothing was measured on the device that the run's latencies are predicted for.
    """
    from evodiff.architecture.cost import operations
    from evodiff.architecture.graph import resolve
    from evodiff.hardware.latency import predict_ms

    table, batch = run.calibration, run.evaluation.serving_batch
    genomes = {row["candidate"]: row["genome"] for g in range(run.ledger.generations) for row in run.ledger.plan(g)}
    ratios = []
    for candidate, found in versions.items():
        here = (found.get("device"), found.get("device_name")) == (table.device, table.device_name)
        times = [
            1000 * shape["p50_seconds"] / shape["steps"]
            for shape in found.get("compute", ())
            if here and shape["batch"] == batch and not shape["guided"]
        ]
        if times:
            predicted = predict_ms(
                operations(resolve(run.space.from_json(genomes[candidate]), run.shape), batch), table
            )
            ratios.append(math.log(fmean(times) / predicted))
    return math.exp(fmean(ratios)) if ratios else None


def _candidate(version: str) -> str:
    return version.rpartition("/")[2]
