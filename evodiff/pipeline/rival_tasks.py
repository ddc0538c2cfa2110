"""What a worker does for a contest: train a network from scratch and judge it, time networks in turns."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from evodiff.architecture.genome import ArchitectureGenome
from evodiff.architecture.network import build_network
from evodiff.engine.encoding import encode_document
from evodiff.errors import TrialFailure
from evodiff.evaluation.latency import compare_latency
from evodiff.evaluation.score import ScoringInputs, score, scoring_inputs
from evodiff.pipeline.rivals import (
    VALIDATION,
    score_file,
    training_seed,
    warm_up_steps,
    weights_folder,
)
from evodiff.pipeline.trial import CHECKPOINT_SECONDS, load_network, open_run, training_part
from evodiff.sampling import NoiseSchedule
from evodiff.training import save_weights, train
from evodiff.training.digests import weights_damage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evodiff.pipeline.run import Run
    from evodiff.settings import TrainingSettings
    from evodiff.workers import WorkerContext


def train_and_score(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Train a network from scratch and judge it after each of ``stages`` steps, one file a stage.

    ``payload`` names ``run`` (folder), ``candidate``, ``genome``, ``seed`` (number of the training), ``stages`` and
    ``samples``. A training goes on from stage to stage, and after a stop from its checkpoint. A stage that fails for a
    reason of its own is stored as a failure.

    Raises:
        Interrupted: the pool was asked to stop.
    """
    run, candidate, seed = open_run(payload["run"]), payload["candidate"], payload["seed"]
    for steps in sorted(payload["stages"]):
        warm_up = warm_up_steps(run.training, steps)
        content: dict[str, Any] = {"candidate": candidate, "steps": steps, "seed": seed, "warm_up_steps": warm_up}
        try:
            weights = _trained(run, payload, steps, context)
            context.report({"stage": "score"})
            content |= _scored(run, weights, payload, context)
        except TrialFailure as failure:
            content |= {"failure": {"cause": failure.cause, "detail": failure.detail}}
        run.ledger.replace(score_file(candidate, steps, seed), encode_document(content))
    for file in _checkpoints(run).glob(f"{candidate}.seed{seed}.*"):
        file.unlink(missing_ok=True)
    return {}


def measure_rivals(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Time one denoiser call of every network of ``genomes`` (by id) in interleaved turns, into ``latency.json``."""
    run = open_run(payload["run"])
    genomes = {name: ArchitectureGenome.from_json(genome) for name, genome in payload["genomes"].items()}
    batch = run.evaluation.serving_batch
    found = compare_latency(list(genomes.values()), run.shape, batch, run.calibration, device=context.device)
    measured = {name: asdict(item) for name, item in zip(genomes, found.measured, strict=True)}
    content = {"device": context.device, "batch": batch, "networks": measured}
    run.ledger.replace(f"{VALIDATION}/latency.json", encode_document(content))
    return {"measured": len(measured)}


def train_from_scratch(
    folder: Path,
    run: Run,
    genome: ArchitectureGenome,
    training: TrainingSettings,
    *,
    seed: int,
    checkpoint: Path,
    context: WorkerContext,
) -> Path:
    """Train a network on the run's training images for ``training.steps`` steps, unless ``folder`` is there and whole.

    A longer training with the same ``checkpoint`` goes on from where this one ends. Returns ``folder``.

    Raises:
        TrialFailure: the training failed for a reason of its own.
        Interrupted: the pool was asked to stop; ``checkpoint`` holds what was done.
    """
    if not weights_damage(folder):
        return folder
    images, labels = training_part(str(run.path))
    result = train(
        build_network(genome, run.shape, seed=seed).to(context.device),
        images,
        labels,
        training,
        seed=seed,
        schedule=NoiseSchedule.named(training.noise_schedule),
        last_step=training.steps,
        classes=run.shape.classes,
        checkpoint=checkpoint,
        checkpoint_every=CHECKPOINT_SECONDS,
        report=context.report,
        should_stop=context.should_stop,
    )
    config = {
        "genome": run.space.to_json(genome),
        "image_shape": run.settings["image_shape"],
        "seed": seed,
        "steps": result.steps,
        "loss_curve": result.loss_curve,
    }
    save_weights(folder, result.ema_weights, config)
    return folder


def _trained(run: Run, payload: Mapping[str, Any], steps: int, context: WorkerContext) -> Path:
    """Train for ``steps`` steps, going on from the stage before; return the folder of the weights."""
    candidate, seed = payload["candidate"], payload["seed"]
    warm_up = warm_up_steps(run.training, steps)
    return train_from_scratch(
        weights_folder(run, candidate, steps, seed),
        run,
        ArchitectureGenome.from_json(payload["genome"]),
        run.training.model_copy(update={"steps": steps, "warmup_steps": warm_up}),
        seed=training_seed(run, seed),
        checkpoint=_checkpoints(run) / f"{candidate}.seed{seed}.warm{warm_up}.safetensors",
        context=context,
    )


def _scored(run: Run, weights: Path, payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    result = score(
        load_network(weights)[0],
        _test_inputs(payload["run"]),
        training=run.training,
        evaluation=run.evaluation.model_copy(update={"samples": payload["samples"]}),
        seed=training_seed(run, payload["seed"]),
        device=context.device,
    )
    return {**result.to_json(), "samples": payload["samples"], "device": context.device}


def _checkpoints(run: Run) -> Path:
    """Return the folder of trainings in the middle, apart from those of the search, which it drops when it selects."""
    return run.path / "scratch" / "rivals"


# A worker judges many networks of one run: what they share is read once a process.


@lru_cache(maxsize=2)
def _test_inputs(path: str) -> ScoringInputs:
    run = open_run(path)
    return scoring_inputs(run.dataset(), run.feature_net("report"), "test")
