"""Runs to track: real plans, decisions and networks that can sample, with a stand-in for training."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from evodiff.architecture.cost import parameter_count
from evodiff.architecture.graph import resolve
from evodiff.data import ImageDataset
from evodiff.hardware import roofline, target_profile
from evodiff.pipeline.create import create_run
from evodiff.pipeline.generation import PlannedTrial
from evodiff.pipeline.inputs import Inputs
from evodiff.pipeline.run import Run
from evodiff.settings import EvaluationSettings, Settings, TrainingSettings


def told_run(
    path: Path,
    *,
    generations: int = 2,
    population: int = 4,
    seed: int = 0,
    strategy: str = "nsga2",
    weights: bool = False,
    inherit: bool = False,
    rungs: int = 1,
    replicate_ties: bool = False,
) -> Run:
    """Create a run over blank images of three classes, and close ``generations`` of it.

    Of each generation but the first the last trial fails. With ``weights`` the others leave some, drawn by chance;
    without, tests need no torch. Trainings below the highest of ``rungs`` seem better than any that is whole.
    """
    settings = Settings(
        dataset="blank",
        objectives=("kid", "parameters"),
        population=population,
        target="m1",
        seed=seed,
        strategy=strategy,
        inherit=inherit,
        rungs=rungs,
        replicate_ties=replicate_ties,
        training=TrainingSettings(steps=40),
        evaluation=EvaluationSettings(samples=16, sampler_steps=2),
    )
    run = create_run(settings, path, _inputs(path.with_name(f"{path.name}-cache")))
    for _ in range(generations):
        close_generation(run, weights=weights)
    return run


def close_generation(run: Run, *, weights: bool = False) -> None:
    """Plan the next generation of a run, tell all its trials, and drop the weights that nothing needs."""
    tell_generation(run, publish_weights if weights else no_weights)
    for folder in run.evolution().prunable_weights():
        shutil.rmtree(folder)


def tell_generation(run: Run, publish: Callable[[Run, PlannedTrial], str]) -> None:
    """Plan the next generation of a run, and tell all its trials; ``publish`` leaves weights and returns a digest."""
    evolution = run.evolution()
    trials = evolution.ask(evolution.population_size)
    for number, trial in enumerate(trials):
        if trial.generation and trial is trials[-1]:
            evolution.tell_failure(trial.id, "non-finite loss", detail="at step 17")
            continue
        digest = publish(run, trial)
        details = {"kid_standard_error": 0.01, "loss_curve": [0.4, 0.2]}
        short = trial.rung < evolution.rungs - 1
        evolution.tell(trial.id, {"kid": _kid(run, trial) - 20 * short}, weights=digest, details=details)
        run.ledger.telemetry("trial", trial=trial.id, step="train_and_evaluate_trial", seconds=1.0 + number)


def no_weights(run: Run, trial: PlannedTrial) -> str:
    """Leave none, and name some."""
    return "0" * 64


def _kid(run: Run, trial: PlannedTrial) -> float:
    """Fall with the size of a network, and depend on the genome beyond that."""
    luck = zlib.crc32(trial.genome.canonical().encode()) / 2**32
    millions = parameter_count(resolve(trial.genome, run.shape)) / 1e6
    return 0.004 + 0.006 / (0.05 + millions) * (0.4 + luck)


def publish_weights(run: Run, trial: PlannedTrial) -> str:
    """Leave weights of the trial's network, drawn by chance."""
    import torch

    from evodiff.architecture.network import build_network
    from evodiff.training import save_weights

    network = build_network(trial.genome, run.shape, seed=trial.seed)
    chance = torch.Generator().manual_seed(trial.seed)
    # A new network answers every input alike: its last convolution is zero.
    weights = {
        name: tensor + 0.05 * torch.randn(tensor.shape, generator=chance)
        for name, tensor in network.state_dict().items()
    }
    config = {
        "genome": trial.genome.to_json(),
        "image_shape": dict(run.settings["image_shape"]),
        "seed": trial.seed,
        "steps": run.steps(trial.rung),
        "loss_curve": [0.4, 0.2],
    }
    return save_weights(run.ledger.weights_folder(trial), weights, config)


def _inputs(folder: Path) -> Inputs:
    dataset = ImageDataset(
        name="blank",
        images=np.zeros((24, 1, 8, 8), dtype=np.uint8),
        labels=np.arange(24) % 3,
        class_names=("a", "b", "c"),
        split=np.zeros(24, dtype=np.uint8),
        digest="0" * 64,
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / name for name in ("feature_net.safetensors", "report_feature_net.safetensors")}
    for file in files.values():
        file.touch()
    dataset.save(folder / "dataset.safetensors")
    return Inputs(
        dataset=dataset,
        calibration=roofline(target_profile("m1")),
        files={**files, "dataset.safetensors": folder / "dataset.safetensors"},
        device="cpu",
        working_set_mb=1000.0,
        noise_floors={},
        feature_accuracy={},
    )
