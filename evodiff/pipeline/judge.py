"""What workers do after the search: draw pictures of a trained candidate, time the front, validate on test images."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save

from evodiff.architecture.network import build_network
from evodiff.data import unscale
from evodiff.evaluation.latency import measure_latency_ms
from evodiff.evaluation.score import generate_like, part, reproducible
from evodiff.evaluation.validation import validate
from evodiff.pipeline.final import LATENCY_FILE, PICTURES_FILE
from evodiff.pipeline.run import Run
from evodiff.pipeline.trial import load_network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.workers import WorkerContext

LATENCY_REPEATS = 20


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
    """Judge a finally trained candidate by test images and the second net, into ``validation.json`` beside it."""
    run = Run.open(payload["run"])
    folder = run.final_folder(payload["trial"]["candidate"])
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
    content = {**result.to_json(), "candidate": payload["trial"]["candidate"], "steps": config["steps"]}
    path = Path(folder) / "validation.json"
    run.ledger.replace(path, json.dumps(content, sort_keys=True, indent=1).encode() + b"\n")
    return content
