"""How well does a calibration predict measured latency?

Calibrates this machine, then predicts and measures one denoiser call of the zoo's networks and of random genomes at 8
and 32 px, and prints Spearman's correlation and the median relative error, each with its central 95 % over candidates.
With one torch thread on a CPU, the clock of both is CPU time, which other processes hardly touch; ``--wall`` measures
by wall clock, for an idle machine. ``--budgets`` compares calibrations of different length on the same measurements.

    OMP_NUM_THREADS=1 python benchmarks/latency_error.py
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from evodiff.architecture.cost import flops, operations
from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.architecture.graph import resolve
from evodiff.architecture.space import ArchitectureSpace
from evodiff.architecture.zoo import zoo
from evodiff.evaluation.latency import LatencyComparison, compare_latency, judge_predictions
from evodiff.hardware import calibrate, predict_ms

if TYPE_CHECKING:
    from evodiff.hardware import Calibration

SHAPES = (ImageShape(1, 8, 10), ImageShape(3, 32))
# Random genomes with more than this are left out, so that the measurements end.
MAX_GIGAFLOPS = 6.0


def main() -> None:
    """Print one row per candidate and a summary per image size and budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--random", type=int, default=40, help="random genomes per image size")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--budgets", type=float, nargs="+", default=[15.0, 1.0], help="seconds; the first is shown whole"
    )
    parser.add_argument("--wall", action="store_true", help="measure by wall clock")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=120)
    calibrations = {budget: calibrate(arguments.device, budget_seconds=budget) for budget in arguments.budgets}
    clock = time.perf_counter_ns if arguments.wall or arguments.device != "cpu" else time.thread_time_ns
    first, *others = calibrations
    summary = Table(
        "image", "candidates", "budget s", "timings", "Spearman [95 %]", "median error [95 %]", "90 % below"
    )
    for shape in SHAPES:
        candidates = _candidates(shape, arguments.random, arguments.batch, arguments.seed)
        genomes = list(candidates.values())
        result = compare_latency(
            genomes,
            shape,
            arguments.batch,
            calibrations[first],
            device=arguments.device,
            turns=arguments.turns,
            clock=clock,
        )
        console.print(_details(shape, list(candidates), genomes, result, arguments.batch))
        summary.add_row(*_summary(shape, first, calibrations[first], result))
        for budget in others:
            predicted = [
                predict_ms(operations(resolve(genome, shape), arguments.batch), calibrations[budget])
                for genome in genomes
            ]
            judged = judge_predictions(predicted, result.measured)
            summary.add_row(*_summary(shape, budget, calibrations[budget], judged))
    console.print(summary)


def _candidates(shape: ImageShape, count: int, batch: int, seed: int) -> dict[str, ArchitectureGenome]:
    candidates = zoo(shape)
    space = ArchitectureSpace(shape, objectives=("memory_mb",))
    rng = np.random.default_rng(seed)
    while count:
        genome = space.sample(rng)
        for _ in range(int(rng.integers(0, 6))):  # mutants are stranger than samples
            genome = space.mutate(genome, rng)
        if flops(resolve(genome, shape), batch) <= MAX_GIGAFLOPS * 1e9:
            candidates[f"random {count}"] = genome
            count -= 1
    return candidates


def _details(
    shape: ImageShape, names: list[str], genomes: list[ArchitectureGenome], result: LatencyComparison, batch: int
) -> Table:
    table = Table("candidate", "GFLOP", "predicted ms", "measured ms", "quartiles", "ratio")
    table.title = f"{shape.size} px, batch {batch}"
    for name, genome, predicted, measured in zip(names, genomes, result.predicted_ms, result.measured, strict=True):
        table.add_row(
            name,
            f"{flops(resolve(genome, shape), batch) / 1e9:.3f}",
            f"{predicted:.2f}",
            f"{measured.median_ms:.2f}",
            f"{measured.low_ms:.2f} to {measured.high_ms:.2f}",
            f"{predicted / measured.median_ms:.2f}",
        )
    return table


def _summary(shape: ImageShape, budget: float, calibration: Calibration, result: LatencyComparison) -> list[str]:
    measured = np.array([item.median_ms for item in result.measured])
    errors = np.abs(np.array(result.predicted_ms) / measured - 1)
    correlation, error = result.interval["rank_correlation"], result.interval["median_error"]
    return [
        f"{shape.size} px",
        str(len(measured)),
        f"{budget:g}",
        str(len(calibration.timings)),
        f"{result.rank_correlation:.3f} [{correlation[0]:.3f}, {correlation[1]:.3f}]",
        f"{result.median_error:.1%} [{error[0]:.1%}, {error[1]:.1%}]",
        f"{np.quantile(errors, 0.9):.1%}",
    ]


if __name__ == "__main__":
    main()
