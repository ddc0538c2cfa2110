"""A candidate measured again before its release: the weights that would serve, from noise that the search never saw."""

from __future__ import annotations

import hashlib
import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from evodiff.engine import Evaluation
from evodiff.engine.encoding import encode_document
from evodiff.errors import LedgerError
from evodiff.pipeline.choice import WEIGHTS_GONE
from evodiff.pipeline.export import trained_folder
from evodiff.pipeline.final import run_one, trial_row
from evodiff.pipeline.generation import QUIET
from evodiff.pipeline.inputs import PATIENCE_SECONDS
from evodiff.pipeline.rivals import stored_document
from evodiff.pipeline.run import PRICED, SCORED
from evodiff.pipeline.scratch import evaluation_from_scratch
from evodiff.training.digests import weights_digest
from evodiff.workers import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from evodiff.architecture.network import EvolvedNetwork
    from evodiff.pipeline.run import Run
    from evodiff.settings import Settings
    from evodiff.workers import WorkerContext, WorkerPool

FOLDER: Final = "remeasured"
LOCAL: Final = "local"  # the target whose latency can be timed here

_REMEASURE: Final = "evodiff.pipeline.remeasure:remeasure_candidate"
_DETAILS: Final = ("kid_standard_error", "label_accuracy", "images")
_QUARTILES_APART: Final = 1.349  # in standard deviations of a normal distribution


@contextmanager
def remeasuring(settings: Settings, say: Callable[[str], None]) -> Iterator[Callable[[Run, str], Evaluation]]:
    """Give a function that measures a candidate of a run again; a worker is opened when it is first needed.

    Values of a candidate whose weights are gone have the detail :data:`~evodiff.pipeline.choice.WEIGHTS_GONE`.
    """
    from contextlib import ExitStack

    from evodiff.pipeline.session import open_workers

    with ExitStack() as stack:
        pools: list[WorkerPool] = []

        def remeasure(run: Run, candidate: str) -> Evaluation:
            known = _known(run, candidate)
            if known is None:
                if not pools:
                    pools.append(stack.enter_context(open_workers(settings, say, at_most=1)))
                payload = {"run": str(run.path.resolve()), "trial": trial_row(run, candidate)}
                task = Task(f"{candidate} again", _REMEASURE, payload, predicted_seconds=PATIENCE_SECONDS)
                known = run_one(run, pools[0], task, QUIET)
                say(f"{run.name}/{candidate} measured again: {known['evaluation']['objectives']}")
            evaluation = Evaluation.from_json(known["evaluation"])
            gone = {} if _weights(run, candidate) else {WEIGHTS_GONE: True}
            return replace(evaluation, details={**evaluation.details, **gone})

        yield remeasure


def remeasure_candidate(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Score a candidate's longest training from other noise, time it where this machine is the target, store both.

    Latency and memory are the architecture's. Where the weights are gone they are measured of a network that was never
    trained, which the record says by ``fresh_weights``, and the score is the one on record.

    Raises:
        LedgerError: there are no weights, and no score from scratch.
    """
    from evodiff.evaluation.latency import measure_latency_ms
    from evodiff.pipeline.judge import LATENCY_REPEATS
    from evodiff.pipeline.run import Run

    run, candidate = Run.open(payload["run"]), payload["trial"]["candidate"]
    judged = _judged(run, payload["trial"], context)
    network, details = judged.network, dict(judged.details)
    wanted = {objective.name for objective in run.objectives}
    costs = run.space.costs(network.genome)
    objectives = {name: costs[name] for name in PRICED if name in wanted}
    objectives |= {name: judged.values[name] for name in SCORED if name in wanted}
    if "latency_ms" in wanted and run.settings["target"] == LOCAL:
        timed = measure_latency_ms(
            network, run.shape, run.evaluation.serving_batch, context.device, repeats=LATENCY_REPEATS
        )
        objectives["latency_ms"] = timed.median_ms
        spread = (timed.high_ms - timed.low_ms) / _QUARTILES_APART
        details["latency_ms_standard_error"] = spread / math.sqrt(timed.repeats)
    evaluation = Evaluation(objectives, run.violations(network.genome), judged.weights, details)
    content = {"candidate": candidate, "steps": judged.steps, "evaluation": evaluation.to_json()}
    if judged.weights is None:
        content["fresh_weights"] = True
    run.ledger.replace(_file(candidate), encode_document(content))
    return content


@dataclass(frozen=True)
class _Judged:
    """A network to time, what its training is worth, and the digest of its weights, None where they are gone."""

    network: EvolvedNetwork
    values: Mapping[str, float]
    details: Mapping[str, Any]
    weights: str | None
    steps: int


def _judged(run: Run, trial: Mapping[str, Any], context: WorkerContext) -> _Judged:
    from evodiff.evaluation.score import score, scoring_inputs
    from evodiff.pipeline.trial import load_network

    try:
        folder = trained_folder(run, trial["candidate"])
    except LedgerError:
        stored = evaluation_from_scratch(run, trial)
        if stored is None:
            raise
        return _judged_before(run, trial, stored)
    network, config = load_network(folder)
    found = score(
        network,
        scoring_inputs(run.dataset(), run.feature_net()),
        training=run.training,
        evaluation=run.evaluation,
        seed=other_seed(run),
        device=context.device,
    ).to_json()
    details = {name: found[name] for name in _DETAILS}
    return _Judged(network, found, details, weights_digest(folder), int(config["steps"]))


def _judged_before(run: Run, trial: Mapping[str, Any], stored: Evaluation) -> _Judged:
    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.architecture.network import build_network

    network = build_network(ArchitectureGenome.from_json(trial["genome"]), run.shape, seed=trial["seed"])
    details = {name: stored.details[name] for name in _DETAILS if name in stored.details}
    return _Judged(network, stored.objectives, details, None, run.steps(trial["rung"]))


def other_seed(run: Run) -> int:
    """Return a seed that no trial of a run was scored with; all that are measured again share its noise."""
    digest = hashlib.sha256(f"release {run.experiment['seed']}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def _known(run: Run, candidate: str) -> dict[str, Any] | None:
    """Return what was measured of the weights that would serve, None where that is to be done."""
    stored = stored_document(run, _file(candidate))
    weights = _weights(run, candidate)
    if weights is None:  # what was measured while there were any is worth more than anything without
        return stored or None
    return stored if stored and stored.get("evaluation", {}).get("weights") == weights else None


def _weights(run: Run, candidate: str) -> str | None:
    """Return the digest of the weights that would serve, None where they are gone."""
    try:
        return weights_digest(trained_folder(run, candidate))
    except LedgerError:
        return None


def _file(candidate: str) -> str:
    return f"{FOLDER}/{candidate}.json"
