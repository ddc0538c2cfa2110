"""How many evaluations a search needs: share of a table's hypervolume after N unique evaluations.

The table is NAS-Bench-Macro (Su et al. 2021): 6561 networks of eight layers, each 0 identity, 1 MB3 3x3 or 2 MB6 5x5,
with their CIFAR-10 accuracy, parameters and FLOPs. Objectives are the error, which has to be asked, and the
parameters, which are known. The reference point is (median error, largest parameter count), each objective normalised
to [best, reference].

    python benchmarks/search_efficiency.py --table nas-bench-macro_cifar10.json --seeds 100 --rivals

``--unknown-cost`` hides the parameters from the space: both objectives have to be asked.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import warnings
from pathlib import Path

import moocore
import numpy as np

from evodiff.engine import STRATEGIES, Evolution
from evodiff.engine.statistics import bootstrap_interval
from evodiff.engine.testing import check_space

LAYERS, CHOICES = 8, 3
MARKS = (50, 100, 200, 400)


class NasBenchMacro:
    """The table as a search space: a genome is a string of eight digits.

    Layers 0, 2 and 5 change the resolution; an identity elsewhere in a stage does nothing, so that moving it makes
    the same
    network: the canonical string has the first digit of each stage, then its other digits without zeros.
    """

    name = "nas-bench-macro"
    operators = ("change_layer", "swap_layers")
    stages = ((0, 2), (2, 5), (5, 8))

    def __init__(self, table, *, priced=True):
        self.table = table
        self.priced = priced
        self.largest = max(row["params"] for row in table.values())

    def sample(self, rng):
        return "".join(str(digit) for digit in rng.integers(CHOICES, size=LAYERS))

    def mutate(self, genome, rng, operator=None):
        digits = list(genome)
        if operator == "swap_layers":
            first, second = rng.choice(LAYERS, size=2, replace=False)
            digits[first], digits[second] = digits[second], digits[first]
        else:
            index = rng.integers(LAYERS)
            digits[index] = str((int(digits[index]) + rng.integers(1, CHOICES)) % CHOICES)
        return "".join(digits)

    def crossover(self, first, second, rng):
        mask = rng.random(LAYERS) < 0.5
        pairs = [(a, b) if keep else (b, a) for a, b, keep in zip(first, second, mask, strict=True)]
        return "".join(a for a, _ in pairs), "".join(b for _, b in pairs)

    def validate(self, genome):
        if genome not in self.table:
            raise ValueError(f"expected {LAYERS} digits below {CHOICES}, found {genome!r}")

    def canonical(self, genome):
        return "|".join(genome[start] + genome[start + 1 : stop].replace("0", "") for start, stop in self.stages)

    def features(self, genome):
        return np.eye(CHOICES)[[int(digit) for digit in genome]].ravel()

    def costs(self, genome):
        return {"params": self.size(genome)} if self.priced else {}

    def distance(self, first, second):
        return sum(a != b for a, b in zip(first, second, strict=True)) / LAYERS

    def to_json(self, genome):
        return {"layers": genome}

    def from_json(self, data):
        return data["layers"]

    def size(self, genome):
        """Parameters, as a share of the largest network's."""
        return self.table[genome]["params"] / self.largest

    def error(self, genome):
        """Percent of test images that the network gets wrong, the mean of the table's three trainings."""
        return 100.0 - self.table[genome]["mean_acc"]


class Yardstick:
    """Share of the hypervolume of the whole table."""

    def __init__(self, space):
        points = np.array([[space.error(key), space.size(key)] for key in space.table])
        self.best = points.min(axis=0)
        self.reference = np.array([np.median(points[:, 0]), points[:, 1].max()])
        self.whole = self._hypervolume(points)

    def share(self, points):
        """Return the share that points, (n, 2), have."""
        return self._hypervolume(points) / self.whole

    def _hypervolume(self, points):
        return moocore.hypervolume((points - self.best) / (self.reference - self.best), ref=1.0)

    def shares(self, points):
        """Return the share after each mark, NaN where fewer points were evaluated."""
        points = np.asarray(points)
        return [self.share(points[:n]) if len(points) >= n else math.nan for n in MARKS]


def search(space, strategy, seed, batch, evaluations):
    """Return the points that one of our strategies evaluates, in order."""
    evolution = Evolution(space, objectives=["error", "params"], population_size=batch, seed=seed, strategy=strategy)
    points = []
    while len(points) < evaluations:
        trials = evolution.ask(batch)
        if not trials:
            break
        for trial in trials:
            point = {"error": space.error(trial.genome), "params": space.size(trial.genome)}
            evolution.tell(trial.id, point)
            points.append(list(point.values()))
    return points[:evaluations]


class UniqueEvaluations(dict):
    """Points by canonical string in the order of their first evaluation, for rivals that ask the same network again."""

    def __init__(self, space):
        super().__init__()
        self.space = space

    def evaluate(self, genome):
        point = [self.space.error(genome), self.space.size(genome)]
        return self.setdefault(self.space.canonical(genome), point)


def search_with_optuna(sampler_of):
    """Return a search by an Optuna sampler, made from (seed, batch)."""

    def run(space, seed, batch, evaluations):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seen = UniqueEvaluations(space)

        def objective(trial):
            digits = [trial.suggest_categorical(f"layer{i}", list(range(CHOICES))) for i in range(LAYERS)]
            return tuple(seen.evaluate("".join(map(str, digits))))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler_of(optuna, seed, batch))
        for _ in range(20 * evaluations):
            if len(seen) >= evaluations:
                break
            study.optimize(objective, n_trials=1)
        return list(seen.values())[:evaluations]

    return run


def search_with_pymoo(space, seed, batch, evaluations):
    """NSGA-II of pymoo on integer variables."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.rm import ChoiceRandomMutation
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    seen = UniqueEvaluations(space)

    class Problem(ElementwiseProblem):
        def __init__(self):
            super().__init__(n_var=LAYERS, n_obj=2, xl=0, xu=CHOICES - 1, vtype=int)

        def _evaluate(self, x, out, *args, **kwargs):
            out["F"] = seen.evaluate("".join(str(int(digit)) for digit in x))

    class ChangeLayer(ChoiceRandomMutation):
        def _do(self, problem, X, **kwargs):  # noqa: N803 - the name of pymoo's own parameter
            rng = kwargs.get("random_state") or np.random.default_rng(seed)
            change = rng.random(X.shape) < 1 / LAYERS
            return np.where(change, (X + rng.integers(1, CHOICES, size=X.shape)) % CHOICES, X)

    algorithm = NSGA2(
        pop_size=batch,
        sampling=IntegerRandomSampling(),
        crossover=UniformCrossover(),
        mutation=ChangeLayer(),
        eliminate_duplicates=True,
    )
    minimize(Problem(), algorithm, ("n_gen", 3 * evaluations // batch), seed=seed, verbose=False)
    return list(seen.values())[:evaluations]


RIVALS = {
    "optuna TPE": search_with_optuna(lambda optuna, seed, batch: optuna.samplers.TPESampler(seed=seed)),
    "optuna NSGA-II": search_with_optuna(
        lambda optuna, seed, batch: optuna.samplers.NSGAIISampler(seed=seed, population_size=batch)
    ),
    "pymoo NSGA-II": search_with_pymoo,
}


def report(name, shares, seconds):
    """Print a row: mean and standard error over seeds at each mark."""
    cells = []
    for column in zip(*shares, strict=True):
        values = [value for value in column if not math.isnan(value)]
        spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}" if values else "-")
    print(f"| {name} | " + " | ".join(cells) + f" | {seconds / len(shares):.2f} |", flush=True)


def report_differences(ours, rivals):
    """Print how far ``ours`` is ahead of each rival on the same seeds: mean differences with 95 % intervals."""
    rng = np.random.default_rng(0)
    print(f"\n| {ours[0]} less ... on the same seeds | " + " | ".join(map(str, MARKS)) + " |")
    print("|---" * (len(MARKS) + 1) + "|")
    for name, shares in rivals.items():
        count = min(len(shares), len(ours[1]))
        differences = np.array(ours[1][:count]) - np.array(shares[:count])
        cells = []
        for column in differences.T:
            paired = column[~np.isnan(column)]
            if len(paired) < 2:
                cells.append("-")
                continue
            found = bootstrap_interval([paired], lambda values: float(np.mean(values)), rng)
            cells.append(f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")
        print(f"| {name} ({count} seeds) | " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--strategies", nargs="*", default=list(STRATEGIES), choices=list(STRATEGIES), help="the first one is compared"
    )
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=400)
    parser.add_argument(
        "--rivals", nargs="*", choices=sorted(RIVALS), help="also run these, or all, where they are installed"
    )
    parser.add_argument("--rival-seeds", type=int, help="fewer seeds for the rivals")
    parser.add_argument("--unknown-cost", action="store_true", help="the parameters have to be asked as well")
    arguments = parser.parse_args()
    print(" ".join(f"{name}={value}" for name, value in vars(arguments).items()))

    space = NasBenchMacro(json.loads(arguments.table.read_text()), priced=not arguments.unknown_cost)
    check_space(space)
    yardstick = Yardstick(space)
    print("\n| share of the hypervolume after N unique evaluations | " + " | ".join(map(str, MARKS)) + " | s a run |")
    print("|---" * (len(MARKS) + 2) + "|")
    searches = {
        name: lambda space, seed, batch, evaluations, name=name: search(space, name, seed, batch, evaluations)
        for name in arguments.strategies
    }
    rivals = [] if arguments.rivals is None else arguments.rivals or list(RIVALS)
    shares = {}
    for name, run in {**searches, **{name: RIVALS[name] for name in rivals}}.items():
        start = time.perf_counter()
        seeds = (arguments.rival_seeds or arguments.seeds) if name in rivals else arguments.seeds
        try:
            found = [run(space, seed, arguments.batch, arguments.evaluations) for seed in range(seeds)]
        except ImportError as error:
            print(f"| {name} | not installed: {error.name} |")
            continue
        shares[name] = [yardstick.shares(points) for points in found]
        report(name, shares[name], time.perf_counter() - start)
    if len(shares) > 1:
        first, *others = shares
        report_differences((first, shares[first]), {name: shares[name] for name in others})


if __name__ == "__main__":
    main()
