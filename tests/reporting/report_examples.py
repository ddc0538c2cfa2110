"""Runs to report on: real searches over architectures, with a stand-in for training that costs nothing."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from evodiff.architecture.cost import flops, parameter_count
from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.architecture.graph import resolve
from evodiff.architecture.space import ArchitectureSpace
from evodiff.architecture.zoo import zoo
from evodiff.engine import Evolution, Objective
from evodiff.engine.statistics import Interval
from evodiff.reporting import (
    CandidateView,
    ImagesView,
    LatencyCheck,
    MemorisationView,
    NearestPair,
    ObjectiveView,
    ProgressPoint,
    ReferenceView,
    RunView,
    ValidationMetric,
    random_arm_from_ledger,
    view_from_ledger,
)
from evodiff.reporting.images import grid_png
from evodiff.reporting.rivals_view import RivalsView, RivalView, Showing
from evodiff.reporting.robustness_view import RobustnessView, VariantView

DIGITS = ImageShape(channels=1, size=8, classes=10)
OBJECTIVES = ("kid", "latency_ms", "memory_mb")


def scores(genome: ArchitectureGenome, shape: ImageShape = DIGITS) -> dict[str, float]:
    """Stand in for training: KID falls with the size of a network, and depends on the genome beyond that."""
    resolved = resolve(genome, shape)
    luck = zlib.crc32(genome.canonical().encode()) / 2**32
    millions = parameter_count(resolved) / 1e6
    return {
        "kid": 0.004 + 0.006 / (0.05 + millions) * (0.4 + luck),
        "latency_ms": 0.4 + flops(resolved) / 2.5e7 * (0.8 + 0.4 * luck),
    }


def run_search(
    folder: Path,
    *,
    generations: int = 3,
    population: int = 8,
    strategy: str = "nsga2",
    seed: int = 0,
    failing: float = 0.0,
    objectives: Sequence[str] = OBJECTIVES,
    rungs: int = 1,
    short_by: float = 0.0,
    **switched: bool,
) -> Path:
    """Run a search into ``folder``; the share ``failing`` of its trials diverges, ``switched`` is what it has on.

    ``short_by`` is what a training below the highest of ``rungs`` adds to KID.
    """
    evolution = Evolution(
        ArchitectureSpace(DIGITS, objectives=[name for name in objectives if name in ("memory_mb", "parameters")]),
        objectives=[Objective(name) for name in objectives],
        population_size=population,
        seed=seed,
        ledger=folder,
        strategy=strategy,
        settings={
            "image_shape": asdict(DIGITS),
            "training": {"steps": 120, "batch_size": 64},
            "dataset": {"name": "digits", "class_names": [str(digit) for digit in range(10)]},
            "digests": {"dataset.safetensors": "1f" * 32, "feature_net.safetensors": "2e" * 32},
            "noise_floors": {"kid": {"value": 0.0065, "standard_error": 0.0011}},
        },
        rungs=rungs,
        **switched,
    )
    rng = np.random.default_rng(seed)
    for _ in range(generations):
        for trial in evolution.ask(population):
            if rng.random() < failing:
                evolution.tell_failure(trial.id, "non-finite loss", detail="at step 17")
                continue
            values = {name: value for name, value in scores(trial.genome).items() if name in objectives}
            if trial.rung < rungs - 1:
                values["kid"] += short_by
            evolution.tell(trial.id, values, details={"kid_standard_error": 0.0008 + 0.03 * values.get("kid", 0.0)})
    return folder


def whole_view(folder: Path, *, generations: int = 3, population: int = 8, failing: float = 0.1) -> RunView:
    """Return a view in which every section has something to show."""
    run = run_search(folder / "digits-run", generations=generations, population=population, failing=failing)
    arm = run_search(folder / "random", generations=generations, population=population, strategy="random", seed=1)
    view = view_from_ledger(run)
    return replace(
        view,
        random_arm=random_arm_from_ledger(arm, beside=run),
        references=references(),
        latency_checks=tuple(
            LatencyCheck(item.id, value := item.objectives["latency_ms"], value * 1.07, value * 1.02, value * 1.2)
            for item in view.front
        ),
        images=digit_images(),
        champion_progress=tuple(
            ProgressPoint(step, {"loss": 0.2 + 40 / (step + 100), "kid": 0.005 + 4 / (step + 50)})
            for step in range(100, 2001, 100)
        ),
        validation={
            "kid": ValidationMetric(0.0093, 0.0011, 0.0061, "lower", "distance to test images, unbiased"),
            "frechet_distance": ValidationMetric(4.2, None, 1.1, "lower", "in 64 dimensions, with 500 samples"),
            "precision": ValidationMetric(0.91, None, 0.95, "higher", "share of samples near a real image"),
            "coverage": ValidationMetric(0.88, None, 0.97, "higher", "share of real images that a sample is near"),
            "memorised": ValidationMetric(0.01, 0.01, 0.0, "", "samples nearer to a training image than chance has it"),
        },
        memorisation=memorisation(),
        rivals=rivals(),
        robustness=robustness(),
        telemetry={"seconds in trials": 131.2, "workers": 2, "machine": "two cores"},
    )


def rivals(seeds: int = 3, *, off: Mapping[str, float] | None = None) -> RivalsView:
    """Return a contest: the champion's KID is 0.02, that of the others as much more as ``off`` says."""
    off = {"tiny": 0.03, "uvit": -0.0001, "ddpm_unet": -0.01} if off is None else off
    noise = (0.0, 0.0011, -0.0007, 0.0004)
    networks = [
        RivalView(
            name=name,
            candidate=f"{index:016x}",
            stock=name == "ddpm_unet",
            parameters=100_000 * (index + 1),
            memory_mb=1.0 + index,
            predicted_ms=2.0 + index,
            measured_ms=2.1 + index,
            low_ms=2.0 + index,
            high_ms=2.3 + index,
            step_flops=1e9 * (index + 1),
            showings={
                "equal_steps": Showing(120, tuple(0.02 + more + noise[(seed + index) % 4] for seed in range(seeds))),
                "equal_compute": Showing(
                    120 // (index + 1), tuple(0.02 + 2 * more + noise[(seed + 3 * index) % 4] for seed in range(seeds))
                ),
            },
        )
        for index, (name, more) in enumerate({"champion": 0.0, **off}.items())
    ]
    return RivalsView(
        networks=tuple(networks),
        steps=120,
        seeds=seeds,
        samples=2000,
        budget_flops=1.2e11,
        target="local",
        left_out={"dit": "it breaks working_set"},
        lost={},
        floor=0.006,
    )


def robustness() -> RobustnessView:
    """Return what other samplings scored: guidance harms, steps do not matter, float16 overflows."""

    def variant(aspect: str, name: str, off: float, **more: Any) -> VariantView:
        values = {
            "aspect": aspect,
            "name": name,
            "default": off == 0,
            "kid": 0.02 + off,
            "standard_error": 0.004,
            "difference": Interval(off, off - 0.001, off + 0.001),
            "image_difference": abs(off),
            "output_difference": None,
            "label_accuracy": 0.9,
            "problem": "",
        }
        return VariantView(**{**values, **more})

    nothing = {"kid": None, "standard_error": None, "difference": None, "image_difference": None}
    return RobustnessView(
        samples=500,
        steps=600,
        device="cpu",
        variants=(
            variant("guidance", "1", 0.0),
            variant("guidance", "2", 0.01),
            variant("steps", "5", 0.02),
            variant("steps", "10", 0.0),
            variant("steps", "50", 0.0002),
            variant("spacing", "log_snr", 0.0),
            variant("spacing", "karras", -0.003),
            variant("precision", "float32", 0.0, output_difference=0.0),
            variant("precision", "bfloat16", 0.0005, output_difference=0.0123),
            variant("precision", "float16", 0.0, **nothing, default=False, problem="non-finite output: in float16"),
        ),
    )


def references() -> tuple[ReferenceView, ...]:
    """Return the networks of the zoo with the stand-in's scores."""
    found = []
    for name, genome in zoo(DIGITS).items():
        resolved = resolve(genome, DIGITS)
        values = {**scores(genome), "memory_mb": 0.2 + parameter_count(resolved) * 4e-6}
        found.append(ReferenceView(name, values, {"kid": 0.001}, parameters=parameter_count(resolved)))
    return tuple(found)


def digit_images(per_class: int = 8) -> ImagesView:
    """Return scans of digits, and the same with noise in the place of generated ones."""
    from sklearn.datasets import load_digits

    data = load_digits()
    chosen = [index for digit in range(10) for index in np.flatnonzero(data.target == digit)[: 2 * per_class]]
    images = np.clip(data.images[chosen] * 15.9, 0, 255).astype(np.uint8)[..., None]
    labels = tuple(str(label) for label in data.target[chosen])
    rng = np.random.default_rng(0)
    noisy = np.clip(images + rng.normal(0, 12, images.shape), 0, 255).astype(np.uint8)
    first = [index for index in range(len(chosen)) if index % (2 * per_class) < per_class]
    second = [index for index in range(len(chosen)) if index % (2 * per_class) >= per_class]
    return ImagesView(
        images[first],
        noisy[second],
        tuple(labels[index] for index in first),
        tuple(labels[index] for index in second),
        tuple(str(digit) for digit in range(10)),
    )


def memorisation(pairs: int = 3) -> MemorisationView:
    """Return digits beside noisy copies of them, of which the first two count as memorised."""
    images = digit_images(1)
    return MemorisationView(
        samples=500,
        share=0.06,
        expected_share=0.05,
        standard_error=0.012,
        threshold=0.7,
        neighbourhood=3,
        copies=False,
        pairs=tuple(
            NearestPair(grid_png(images.generated[i : i + 1], 1), grid_png(images.real[i : i + 1], 1), 1.5 + i, ratio)
            for i, ratio in zip(range(pairs), (0.312, 0.623, 0.815), strict=True)
        ),
    )


def plain_view(objectives: Sequence[ObjectiveView], rows: Sequence[Mapping[str, Any]], **more: Any) -> RunView:
    """Return a view of candidates given by their fields, numbered from 0 where they have no id."""
    candidates = tuple(
        CandidateView(**{"id": f"{index:016x}", "generation": 0, **row}) for index, row in enumerate(rows)
    )
    return RunView(name=more.pop("name", "plain"), objectives=tuple(objectives), candidates=candidates, **more)
