"""How many training steps a search needs: the whole method, and the method without one of its pieces, on real images.

The mark is what plain NSGA-II, with every candidate trained from scratch on the full rung, has reached in the end. The
other arms have the same seed, population and first generation, and stop at ``--share`` of its training steps; counted
are the steps that each plan adds, those of failed trials too.

What an arm has reached after a generation is the hypervolume of its front, judged once more: by images from other noise
than the search's, and more of them, so that candidates which were lucky in the search count for what they are. The box
is that of the mark's run. Differences are paired by seed. With inheritance too, trials on the full rung start from
scratch, so that fronts are comparable.

With ``--ablation`` the mark is run for its first generation only, which makes the box, and each arm is held against the
whole method after as many steps: by hypervolume, and by the compute (FLOPs) that these steps took.

What is finished is stored below ``--out``: start again with the same options to go on, or with more ``--seeds``.

    OMP_NUM_THREADS=1 python benchmarks/training_efficiency.py --dataset digits
    OMP_NUM_THREADS=1 python benchmarks/training_efficiency.py --ablation --share 0.25
    OMP_NUM_THREADS=1 python benchmarks/training_efficiency.py --smoke
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from evodiff.engine.convergence import front_hypervolume
from evodiff.engine.fitness import FitnessBox
from evodiff.engine.statistics import bootstrap_interval
from evodiff.errors import TrialFailure
from evodiff.evaluation.score import score, scoring_inputs
from evodiff.pipeline.create import create_run
from evodiff.pipeline.evolve import Watcher, evolve_generation
from evodiff.pipeline.generation import Listener
from evodiff.pipeline.inputs import gather_inputs
from evodiff.pipeline.run import Run
from evodiff.pipeline.trial import load_network
from evodiff.reporting import view_from_ledger
from evodiff.reporting.highest_rung import expenses
from evodiff.reporting.progress import ProgressDisplay
from evodiff.settings import load_settings
from evodiff.workers import WorkerPool

MARK = "NSGA-II"
METHOD = "whole method"
ARMS = {
    MARK: {"strategy": "nsga2"},
    METHOD: {"strategy": "surrogate", "rungs": 2},
    "without rungs": {"strategy": "surrogate"},
    "without the surrogate": {"strategy": "nsga2", "rungs": 2},
    "with inheritance": {"strategy": "surrogate", "rungs": 2, "inherit": True},
    "three rungs": {"strategy": "surrogate", "rungs": 3},
    "all sizes at once": {"strategy": "surrogate", "rungs": 2, "strategy_options": {"growing": False}},
    "informed mutations": {"strategy": "surrogate", "rungs": 2, "strategy_options": {"informed": 0.5}},
    "with scores": {"strategy": "surrogate", "rungs": 2, "strategy_options": {"scores": True}},
}
JUDGE_SEED = 1_000_003  # of the noise that fronts are judged from; searches have small seeds
SMOKE = "--generations 2 --population 4 --steps 6 --seeds 2 --samples 64 --share 1 --workers 1"


def main():
    options = read_options(sys.argv[1:])
    os.environ.setdefault("EVODIFF_CACHE_DIR", str(options.out / "cache"))
    arms = [name for name in ARMS if name != MARK] if options.arms is None else options.arms
    arms = [MARK, *([METHOD] if options.ablation and METHOD not in arms else []), *arms]
    curves = {arm: [] for arm in arms}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for arm in arms:
            curves[arm].append(curve(options, arm, seed))
            show(options, arm, seed, curves[arm][-1])
    if options.ablation:
        report_ablation(options, curves)
    else:
        report(options, curves)


def read_options(arguments):
    """Return what the command line says; options of its own go before those of ``--smoke``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--generations", type=int, default=10, help="of the mark")
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--steps", type=int, default=120, help="of the full rung")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0, help="so that two processes can share the work")
    parser.add_argument("--share", type=float, default=0.5, help="of the mark's steps, that the other arms may take")
    parser.add_argument(
        "--arms",
        nargs="*",
        metavar="ARM",
        choices=[name for name in ARMS if name != MARK],
        help=f"beside the mark: {', '.join(name for name in ARMS if name != MARK)}; all of them by default",
    )
    parser.add_argument("--samples", type=int, default=2000, help="images that a front's member is judged by")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/training"))
    parser.add_argument("--ablation", action="store_true", help="hold the arms against the whole method, not the mark")
    parser.add_argument("--smoke", action="store_true", help=f"a minute's trial: {SMOKE}, where not given")
    options = parser.parse_args(arguments)
    return parser.parse_args([*SMOKE.split(), *arguments]) if options.smoke else options


def budget(options):
    """Return the training steps of the mark."""
    return options.generations * options.population * options.steps


def curve(options, arm, seed):
    """Return (steps, judged hypervolume) after each generation of an arm, which is run as far as it was not."""
    most = (1 / options.generations if options.ablation else 1) if arm == MARK else options.share
    run = opened(options, arm, seed)
    judged = Judge(run, options.samples)
    box = FitnessBox(**Run.open(folder(options, MARK, seed)).ledger.result(0)["box"]) if run.ledger.closed else None
    points = []
    with ProgressDisplay() as display, patient_pool(options) as pool:
        watcher = Watcher(trials=Listener(display.stage, display.trial_ended))
        generation = 0
        while True:
            if generation == run.ledger.closed:
                if points and points[-1][0] >= most * budget(options):
                    return points
                if not evolve_generation(run, pool, f"benchmark-g{generation:04d}", watcher):
                    return points
            box = box or FitnessBox(**Run.open(folder(options, MARK, seed)).ledger.result(0)["box"])
            points.append((spent(run, generation), front_hypervolume(judged.front(generation), box)))
            generation += 1


def patient_pool(options):
    """Return workers with an hour a trial: counted are steps, and other work on the machine shall cost none of them."""
    return WorkerPool(options.workers, preload=["evodiff.pipeline.trial"], minimum_timeout_seconds=3600.0)


def opened(options, arm, seed):
    path = folder(options, arm, seed)
    if (path / "experiment.json").exists():
        return Run.open(path)
    given = {
        "dataset": options.dataset,
        "population": options.population,
        "steps": options.steps,
        "seed": seed,
        "objectives": ("kid", "latency_ms"),
        "device": "cpu",
        **ARMS[arm],
    }
    settings = load_settings(given)
    with patient_pool(options) as pool:
        inputs = gather_inputs(settings, pool)
    return create_run(settings, path, inputs)


def folder(options, arm, seed):
    return options.out / options.dataset.replace(":", "-") / f"{arm.replace(' ', '-')}.seed{seed}"


def spent(run, generation):
    """Return the training steps of all plans up to a generation."""
    rows = (row for index in range(generation + 1) for row in run.ledger.plan(index))
    return sum(run.added_steps(row) for row in rows)


class Judge:
    """Judges the members of a run's front by more images than its search did; each once, and while it has weights."""

    def __init__(self, run, samples):
        self.run = run
        self.file = run.path / "telemetry" / f"judged-{samples}.json"
        self.known = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.evaluation = run.evaluation.model_copy(update={"samples": samples})

    def front(self, generation):
        """Return the judged objectives of the front of a closed generation, of the latest one at first."""
        result = self.run.ledger.result(generation)
        return [self.member(candidate, result["rung"]) for candidate in result["front"]]

    def member(self, candidate, rung):
        name = f"{candidate}.r{rung}"
        if name not in self.known:
            evolution = self.run.evolution()
            found = dict(evolution.candidate(candidate).evaluation.objectives)
            row = next(
                row
                for index in range(self.run.ledger.closed)
                for row in self.run.ledger.plan(index)
                if row["candidate"] == candidate and row["rung"] == rung
            )
            network, _ = load_network(self.run.ledger.weights_folder(row))
            found["kid"] = self.kid(network)
            self.known[name] = found
            self.file.parent.mkdir(exist_ok=True)
            self.file.write_text(json.dumps(self.known, indent=1))
        return self.known[name]

    def kid(self, network):
        try:
            return score(
                network,
                _inputs(str(self.run.path)),
                training=self.run.training,
                evaluation=self.evaluation,
                seed=JUDGE_SEED,
            ).kid
        except TrialFailure:
            return float("inf")


@lru_cache(maxsize=2)
def _inputs(path):
    run = Run.open(Path(path))
    return scoring_inputs(run.dataset(), run.feature_net())


def show(options, arm, seed, points):
    steps, reached = points[-1]
    print(f"{arm}, seed {seed}: {steps} steps ({steps / budget(options):.2f} of the mark's), {reached:.4f}")


def reached_at(points, target):
    """Return the steps after which a curve is at the target for the first time, None where it never is."""
    return next((steps for steps, value in points if value >= target), None)


def report(options, curves):
    console = Console(width=150)
    table = Table(title=f"{options.dataset}: hypervolume of judged fronts, less what NSGA-II ends with")
    shares = [0.1, 0.25, 0.5, 1.0]
    table.add_column("arm")
    table.add_column("share of NSGA-II's steps to reach its end: median [95 %], each seed")
    for share in shares:
        table.add_column(f"at {share:g} of the steps", justify="right")
    rng = np.random.default_rng(0)
    for arm, seeds in curves.items():
        needed = []
        for mark, points in zip(curves[MARK], seeds, strict=True):
            steps = reached_at(points, mark[-1][1])
            needed.append(float("inf") if steps is None else steps / mark[-1][0])
        cells = [arm, f"{median_share(needed, rng)}: {' '.join(map(as_share, needed))}"]
        for share in shares:
            differences = []
            for mark, points in zip(curves[MARK], seeds, strict=True):
                before = [value for steps, value in points if steps <= share * mark[-1][0] + 1e-9]
                if before and points[-1][0] >= share * mark[-1][0] - mark[0][0]:
                    differences.append(before[-1] - mark[-1][1])
            cells.append(interval(differences, rng))
        table.add_row(*cells)
    console.print(table)


def median_share(needed, rng):
    """Return the median of shares, of which some may never be reached, with a percentile bootstrap over seeds."""
    medians = sorted(statistics.median(rng.choice(needed, len(needed))) for _ in range(2000))
    return f"{as_share(statistics.median(needed))} [{as_share(medians[50])}, {as_share(medians[-51])}]"


def as_share(value):
    return "never" if value == float("inf") else f"{value:.2f}"


def report_ablation(options, curves):
    console = Console(width=150)
    table = Table(title=f"{options.dataset}: hypervolume of judged fronts, less the whole method's after as many steps")
    shares = [options.share * part for part in (0.5, 0.75, 1.0)]
    table.add_column("arm")
    for share in shares:
        table.add_column(f"after {share * budget(options):.0f} steps", justify="right")
    table.add_column("each seed in the end")
    table.add_column("compute, of the whole method's")
    rng = np.random.default_rng(0)
    costs = {arm: compute(options, arm, seeds) for arm, seeds in curves.items() if arm != MARK}
    for arm, seeds in curves.items():
        if arm == MARK:
            continue
        cells = []
        for share in shares:
            found = [reached_after(points, share * budget(options)) for points in seeds]
            whole = [reached_after(points, share * budget(options)) for points in curves[METHOD]]
            differences = [one - other for one, other in zip(found, whole, strict=True)]
            cells.append(f"{np.mean(found):.3f}" if arm == METHOD else interval(differences, rng))
        shares_of_compute = [one / other for one, other in zip(costs[arm], costs[METHOD], strict=True)]
        cells += [" ".join(f"{value:.3f}" for value in found), interval(shares_of_compute, rng, sign="")]
        table.add_row(arm, *cells)
    console.print(table)


def compute(options, arm, curves):
    """Return the FLOPs that an arm's training took up to the last mark, of each seed."""
    found = []
    for seed, points in enumerate(curves, start=options.first_seed):
        every = expenses(view_from_ledger(folder(options, arm, seed)).candidates)
        steps = [steps for steps, _ in points]
        spent = [sum(item.training_flops for item in every if item.generation <= g) for g in range(len(points))]
        found.append(reached_after(list(zip(steps, spent, strict=True)), options.share * budget(options)))
    return found


def reached_after(points, steps):
    """Return where a curve is after ``steps``, in between by a straight line: generations differ in their steps."""
    return float(np.interp(steps, *zip(*points, strict=True)))


def interval(values, rng, sign="+"):
    if len(values) < 2:
        return f"{values[0]:{sign}.3f}" if values else "-"
    found = bootstrap_interval([np.array(values)], lambda drawn: float(np.mean(drawn)), rng)
    return f"{found.value:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


if __name__ == "__main__":
    main()
