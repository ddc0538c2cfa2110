"""A candidate measured again before its release: the weights that would serve, from noise that the search never saw."""

from __future__ import annotations

import hashlib
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from evodiff.engine import Evaluation
from evodiff.engine.encoding import encode_document
from evodiff.pipeline.export import trained_folder
from evodiff.pipeline.final import run_one, trial_row
from evodiff.pipeline.generation import QUIET
from evodiff.pipeline.inputs import PATIENCE_SECONDS
from evodiff.pipeline.rivals import stored_document
from evodiff.pipeline.run import PRICED, SCORED
from evodiff.training.digests import weights_digest
from evodiff.workers import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from evodiff.pipeline.run import Run
    from evodiff.settings import Settings
    from evodiff.workers import WorkerContext, WorkerPool

FOLDER: Final = "remeasured"
LOCAL: Final = "local"  # the target whose latency can be timed here

_REMEASURE: Final = "evodiff.pipeline.remeasure:remeasure_candidate"
_QUARTILES_APART: Final = 1.349  # in standard deviations of a normal distribution


@contextmanager
def remeasuring(settings: Settings, say: Callable[[str], None]) -> Iterator[Callable[[Run, str], Evaluation]]:
    """Give a function that measures a candidate of a run again; a worker is opened when it is first needed."""
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
            return Evaluation.from_json(known["evaluation"])

        yield remeasure


def remeasure_candidate(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Score a candidate's longest training from other noise, time it where this machine is the target, store both."""
    from evodiff.evaluation.latency import measure_latency_ms
    from evodiff.evaluation.score import score, scoring_inputs
    from evodiff.pipeline.judge import LATENCY_REPEATS
    from evodiff.pipeline.run import Run
    from evodiff.pipeline.trial import load_network

    run, candidate = Run.open(payload["run"]), payload["trial"]["candidate"]
    folder = trained_folder(run, candidate)
    network, config = load_network(folder)
    found = score(
        network,
        scoring_inputs(run.dataset(), run.feature_net()),
        training=run.training,
        evaluation=run.evaluation,
        seed=other_seed(run),
        device=context.device,
    ).to_json()
    wanted = {objective.name for objective in run.objectives}
    costs = run.space.costs(network.genome)
    objectives = {name: costs[name] for name in PRICED if name in wanted}
    details = {name: found[name] for name in ("kid_standard_error", "label_accuracy", "images")}
    objectives |= {name: found[name] for name in SCORED if name in wanted}
    if "latency_ms" in wanted and run.settings["target"] == LOCAL:
        timed = measure_latency_ms(
            network, run.shape, run.evaluation.serving_batch, context.device, repeats=LATENCY_REPEATS
        )
        objectives["latency_ms"] = timed.median_ms
        spread = (timed.high_ms - timed.low_ms) / _QUARTILES_APART
        details["latency_ms_standard_error"] = spread / math.sqrt(timed.repeats)
    weights = weights_digest(folder)
    evaluation = Evaluation(objectives, run.violations(network.genome), weights, details)
    content = {"candidate": candidate, "steps": config["steps"], "evaluation": evaluation.to_json()}
    run.ledger.replace(_file(candidate), encode_document(content))
    return content


def other_seed(run: Run) -> int:
    """Return a seed that no trial of a run was scored with; all that are measured again share its noise."""
    digest = hashlib.sha256(f"release {run.experiment['seed']}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def _known(run: Run, candidate: str) -> dict[str, Any] | None:
    """Return what was measured of the weights that would serve, None where that is to be done."""
    stored = stored_document(run, _file(candidate))
    same = stored.get("evaluation", {}).get("weights") == weights_digest(trained_folder(run, candidate))
    return stored if same else None


def _file(candidate: str) -> str:
    return f"{FOLDER}/{candidate}.json"
