"""What a worker does for one trial: train the network of its genome, judge it. Both are safe to run twice.

A payload is JSON: ``run`` (folder), ``trial`` (row of the plan), ``steps``, and ``reference_curve`` for the training.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.architecture.inheritance import Parent, inherit
from evodiff.architecture.network import EvolvedNetwork, build_network
from evodiff.evaluation.score import ScoringInputs, part, score, scoring_inputs
from evodiff.evaluation.sensitivity import layer_sensitivities
from evodiff.pipeline.heritage import from_scratch, inherited_folders, inherits
from evodiff.pipeline.run import SCORED, Run
from evodiff.pipeline.scratch import scratch_weights
from evodiff.sampling.noise import NoiseSchedule
from evodiff.training import TrainingResult, load_weights, save_weights, train, weights_digest
from evodiff.training.digests import published_steps, weights_damage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from evodiff.workers import WorkerContext

CHECKPOINT_SECONDS = 20.0


def train_trial(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Train a trial and publish its weights, unless they are there.

    Returns:
        ``weights``: the digest of what is published.

    Raises:
        TrialFailure: the trial failed for a reason of its own.
        Interrupted: the pool was asked to stop; a checkpoint lies under ``RUN/scratch``.
    """
    run = open_run(payload["run"])
    return {"weights": train_into(run.ledger.weights_folder(payload["trial"]), run, payload, context)}


def evaluate_trial(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Judge the published weights of a trial.

    Returns:
        ``weights`` (digest), ``objectives`` (those of the run that need a trained network) and ``details``, with the
        sensitivity of each layer where the run's mutations are informed.

    Raises:
        TrialFailure: the network generates images that are not finite.
    """
    run = open_run(payload["run"])
    return _judged(run.ledger.weights_folder(payload["trial"]), run, context)


def train_and_evaluate_trial(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Train, then judge, in one go: no worker waits for the slowest training of a generation."""
    train_trial(payload, context)
    return evaluate_trial(payload, context)


def train_from_scratch(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Train a trial of protocol ``scratch`` into ``RUN/scratch-front/ID``, judge it, and return as for a trial."""
    run = open_run(payload["run"])
    folder = scratch_weights(run, payload["trial"]["candidate"])
    train_into(folder, run, payload, context)
    return _judged(folder, run, context)


def _judged(folder: Path, run: Run, context: WorkerContext) -> dict[str, Any]:
    network, config = load_network(folder)
    context.report({"stage": "score"})
    result = score(
        network,
        _scoring_inputs(str(run.path)),
        training=run.training,
        evaluation=run.evaluation,
        seed=run.experiment["seed"],
        device=context.device,
    )
    details = result.to_json()
    if run.strategy_options.get("informed"):
        details["sensitivity"] = layer_sensitivities(
            network,
            _scoring_inputs(str(run.path)),
            training=run.training,
            evaluation=run.evaluation,
            device=context.device,
        )
    wanted = {objective.name for objective in run.objectives}
    return {
        "weights": weights_digest(folder),
        "objectives": {name: details.pop(name) for name in SCORED if name in wanted},
        "details": {**details, "loss_curve": config["loss_curve"]},
    }


def train_final(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Train a candidate from its seed for ``payload["steps"]`` steps into ``RUN/final/ID``.

    It goes on from the candidate's trial, unless that started from the weights of others. The first to publish wins:
    what a twin has trained meanwhile for as many steps, or more, stays.
    """
    run = open_run(payload["run"])
    folder = run.final_folder(payload["trial"]["candidate"])
    _set_damaged_aside(run, folder)
    if published_steps(folder) < payload["steps"]:
        trained = _trained(run, {**payload, "trial": from_scratch(payload["trial"])}, context)
        if 0 < published_steps(folder) < payload["steps"]:
            _retire(folder)
        save_weights(folder, *trained)
    return {"weights": weights_digest(folder)}


def checkpoint_file(run: Run, trial: Mapping[str, Any]) -> Path:
    """Return where the training of a trial is stored while it goes on, and for a longer one to go on from."""
    return run.path / "scratch" / f"{trial['candidate']}.{trial['replicate']}.safetensors"


def train_into(folder: Path, run: Run, payload: Mapping[str, Any], context: WorkerContext) -> str:
    """Train a trial's genome for ``payload["steps"]`` steps, publish ``folder``, return its digest.

    The state after the last step stays under ``RUN/scratch``: a longer training of the same trial goes on from there,
    with the same result as one that was never cut.
    """
    _set_damaged_aside(run, folder)
    if folder.exists():
        return weights_digest(folder)
    return save_weights(folder, *_trained(run, payload, context))


def load_network(folder: Path) -> tuple[EvolvedNetwork, dict[str, Any]]:
    """Return the network whose weights are published in ``folder``, ready to sample, with its config."""
    weights, config = load_weights(folder)
    shape = ImageShape(**config["image_shape"])
    network = build_network(ArchitectureGenome.from_json(config["genome"]), shape)
    network.load_state_dict(weights)
    return network.eval(), config


def _set_damaged_aside(run: Run, folder: Path) -> None:
    damage = weights_damage(folder) if folder.exists() else ""
    if damage:
        run.ledger.set_aside(folder, damage, "its trial is trained again")


def _retire(folder: Path) -> None:
    """Remove a shorter training at once, with the pictures and numbers that were made of it."""
    away = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.tmp")
    with suppress(FileNotFoundError):  # a twin was faster
        folder.rename(away)
        shutil.rmtree(away)


def _trained(
    run: Run, payload: Mapping[str, Any], context: WorkerContext
) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Train a trial's genome for ``payload["steps"]`` steps; return weights and config as they are published."""
    trial = payload["trial"]
    network, inherited = start(run, trial)
    result = _train(run, trial, network, int(payload["steps"]), payload.get("reference_curve"), context)
    return result.ema_weights, {
        **inherited,
        "genome": trial["genome"],
        "image_shape": run.settings["image_shape"],
        "seed": trial["seed"],
        "steps": result.steps,
        "loss_curve": result.loss_curve,
    }


def start(run: Run, trial: Mapping[str, Any]) -> tuple[EvolvedNetwork, dict[str, Any]]:
    """Return the network with which the training of a trial starts, and what is said of it beside its weights.

    It comes from the trial's seed, and under protocol ``search`` from the weights that its row names.

    Raises:
        LedgerError: those weights are missing or damaged.
    """
    network = build_network(ArchitectureGenome.from_json(trial["genome"]), run.shape, seed=trial["seed"])
    if not inherits(trial):
        return network, {}
    parents = []
    for folder in inherited_folders(run, trial):
        weights, config = load_weights(folder)
        parents.append(Parent(ArchitectureGenome.from_json(config["genome"]), weights))
    report = inherit(network, parents)
    return network, {"inherits_from": trial["inherits_from"], "inheritance": report.to_json()}


def _train(
    run: Run,
    trial: Mapping[str, Any],
    network: EvolvedNetwork,
    steps: int,
    reference_curve: list[float] | None,
    context: WorkerContext,
) -> TrainingResult:
    images, labels = training_part(str(run.path))
    return train(
        network.to(context.device),
        images,
        labels,
        run.training,
        seed=trial["seed"],
        schedule=NoiseSchedule.named(run.training.noise_schedule),
        last_step=steps,
        classes=run.shape.classes,
        checkpoint=checkpoint_file(run, trial),
        checkpoint_every=CHECKPOINT_SECONDS,
        report=context.report,
        should_stop=context.should_stop,
        reference_curve=reference_curve,
    )


# A worker judges many trials of one run: what they share is read once a process.


@lru_cache(maxsize=2)
def open_run(path: str) -> Run:
    """Open the run at ``path``."""
    return Run.open(path)


@lru_cache(maxsize=2)
def training_part(path: str) -> tuple[Tensor, Tensor | None]:
    """Return the training images of the run at ``path`` and their labels."""
    return part(open_run(path).dataset(), "train")


@lru_cache(maxsize=2)
def _scoring_inputs(path: str) -> ScoringInputs:
    run = open_run(path)
    return scoring_inputs(run.dataset(), run.feature_net())
