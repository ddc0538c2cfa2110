"""What workers do after the search: draw pictures of a trained candidate, time the front, validate on test images."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save

from evodiff.architecture.network import build_network
from evodiff.data import unscale
from evodiff.engine.encoding import encode_document
from evodiff.evaluation.latency import measure_latency_ms
from evodiff.evaluation.robustness import network_calls, robustness
from evodiff.evaluation.score import generate_like, part, reproducible, scoring_inputs
from evodiff.evaluation.validation import validate
from evodiff.pipeline.final import LATENCY_FILE, PICTURES_FILE, ROBUSTNESS_FILE, VALIDATION_FILE
from evodiff.pipeline.rivals import stored_document
from evodiff.pipeline.run import Run
from evodiff.pipeline.sampling_cost import sampling_seconds
from evodiff.pipeline.trial import load_network
from evodiff.training.digests import weights_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.workers import WorkerContext

LATENCY_REPEATS = 20
QUICK_SECONDS = 8.0  # predicted, in float32, for sampling in other ways where nobody asked for more
FEWEST_SAMPLES = 100


def draw_pictures(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Generate ``payload["count"]`` images by a finally trained candidate into ``pictures.safetensors`` beside it.

    The file holds ``images``, uint8 (n, channels, size, size), and ``labels``, int64 (n,), where there are classes.
    """
    run = Run.open(payload["run"])
    folder = run.final_folder(payload["trial"]["candidate"])
    network, _ = load_network(folder)
    images, labels = part(run.dataset(), "test")
    with reproducible(context.device):
        generated, wanted = generate_like(
            network.to(context.device),
            images,
            labels,
            training=run.training,
            evaluation=run.evaluation,
            seed=run.experiment["seed"],
            device=context.device,
            samples=payload["count"],
        )
    tensors = {"images": unscale(generated.numpy())}
    if wanted is not None:
        tensors["labels"] = wanted.numpy().astype(np.int64)
    file = folder / PICTURES_FILE
    run.ledger.replace(file, save(tensors))
    return {"file": str(file)}


def measure_front(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Time one denoiser call of every member of the front on the worker's device, and store it beside the prediction.

    Trained weights make no difference to the time, so the networks are built afresh.
    """
    run = Run.open(payload["run"])
    front = run.evolution().front()
    rows = []
    for done, candidate in enumerate(front):
        context.report({"done": done, "total": len(front)})
        network = build_network(candidate.genome, run.shape, seed=0).to(context.device).eval()
        measured = measure_latency_ms(
            network, run.shape, run.evaluation.serving_batch, context.device, repeats=LATENCY_REPEATS
        )
        predicted = run.space.costs(candidate.genome).get("latency_ms")
        rows.append({"candidate": candidate.id, "predicted_ms": predicted, **asdict(measured)})
    content = {"device": context.device, "batch": run.evaluation.serving_batch, "front": rows}
    run.ledger.replace(LATENCY_FILE, json.dumps(content, sort_keys=True, indent=1).encode() + b"\n")
    return {"measured": len(rows)}


def validate_candidate(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Judge a finally trained candidate by test images and the second net, into ``validation.json`` beside it.

    What is there of the same weights and as many samples is not made again.
    """
    run = Run.open(payload["run"])
    folder = run.final_folder(payload["trial"]["candidate"])
    done = {"weights": weights_digest(folder), "samples": payload["count"]}
    stored = stored_document(run, folder / VALIDATION_FILE)
    if done.items() <= stored.items():
        return stored
    network, config = load_network(folder)
    result = validate(
        network,
        run.dataset(),
        run.feature_net("report"),
        training=run.training,
        evaluation=run.evaluation,
        seed=run.experiment["seed"],
        samples=payload["count"],
        device=context.device,
    )
    content = {**result.to_json(), **done, "candidate": payload["trial"]["candidate"], "steps": config["steps"]}
    run.ledger.replace(folder / VALIDATION_FILE, json.dumps(content, sort_keys=True, indent=1).encode() + b"\n")
    return content


def judge_robustness(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Sample a finally trained candidate in other ways than it is scored with, into ``robustness.json`` beside it.

    By as many images as a score takes if ``thorough``, else by fewer where these would take long. What is there of the
    same weights and no fewer images is not made again.
    """
    run = Run.open(payload["run"])
    folder = run.final_folder(payload["trial"]["candidate"])
    digest = weights_digest(folder)
    network, config = load_network(folder)
    samples = run.evaluation.samples if payload["thorough"] else _affordable_samples(run, network.genome)
    stored = stored_document(run, folder / ROBUSTNESS_FILE)
    if stored.get("weights") == digest and stored.get("samples", 0) >= samples:
        return stored
    result = robustness(
        network,
        scoring_inputs(run.dataset(), run.feature_net("report"), "test"),
        training=run.training,
        evaluation=run.evaluation.model_copy(update={"samples": samples}),
        seed=run.experiment["seed"],
        device=context.device,
        report=context.report,
        should_stop=context.should_stop,
    )
    content = {**result.to_json(), "weights": digest, "steps": config["steps"], "device": context.device}
    run.ledger.replace(folder / ROBUSTNESS_FILE, encode_document(content))
    return content


def _affordable_samples(run: Run, genome: ArchitectureGenome) -> int:
    """Return how many images of each variant are predicted to take no longer than :data:`QUICK_SECONDS` in all."""
    most = run.evaluation.samples
    seconds = sampling_seconds(run, genome, most, network_calls(run.evaluation, labelled=run.shape.classes > 0))
    return max(min(most, FEWEST_SAMPLES), min(most, int(most * QUICK_SECONDS / seconds)))
