"""What each option of variation gains over uniform choice, on the same seeds: paired differences with 95 % intervals.

Searched are NAS-Bench-Macro (``--table``, as in search_efficiency.py) and the problems of ``evodiff validate
--engine``; the number is the share of the hypervolume, of the whole table or of the true front.

    python benchmarks/operator_ablation.py --table nas-bench-macro_cifar10.json --seeds 40 --strategies nsga2

``--parents`` compares instead from whom the surrogate's pool descends: selection pressure, where models pick.

Informed mutations and growing complexity need spaces that have them: architectures, whose searches train.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
from search_efficiency import NasBenchMacro, Yardstick, search

from evodiff.engine import STRATEGIES, Evolution, prescreen
from evodiff.engine.problems import PROBLEMS
from evodiff.engine.statistics import bootstrap_interval
from evodiff.engine.validation import Yardstick as FrontYardstick

MARKS = (60, 100, 200)
VARIANTS = {
    "uniform": {},
    "by gain, floor .3": {"operator_floor": 0.3},
    "by gain, floor 0": {"operator_floor": 0.0},
    "diversity floor .5": {"diversity_floor": 0.5},
    "diversity floor .8": {"diversity_floor": 0.8},
}

# Shares of parents that are good at one objective and on the front; the others are any that were evaluated.
PARENTS = {
    "half good at one objective, a third on the front": (prescreen.GOOD_AT_ONE, prescreen.ON_FRONT),
    "all good at one objective": (1.0, 0.0),
    "all on the front": (0.0, 1.0),
    "any": (0.0, 0.0),
}


def shares_of_table(space, strategy, seed, batch):
    """Return the share of the table's hypervolume after each mark."""
    points = np.array(search(space, strategy, seed, batch, MARKS[-1]))
    yardstick = Yardstick(space)
    return [yardstick.share(points[:mark]) for mark in MARKS]


def shares_of_problem(problem, strategy, seed, batch):
    """Return the share of the true front's hypervolume after each mark."""
    names = [f"f{index + 1}" for index in range(problem.objectives)]
    evolution = Evolution(problem, objectives=names, population_size=batch, seed=seed, strategy=strategy)
    points = []
    while len(points) < MARKS[-1] and (trials := evolution.ask(batch)):
        for trial in trials:
            values = problem.values(trial.genome)
            evolution.tell(trial.id, values)
            points.append([values[name] for name in names])
    yardstick = FrontYardstick(problem)
    return [yardstick.judge(np.array(points[:mark]))[0] for mark in MARKS]


def compare_parents(name, run, arguments):
    """Print a row for each way to choose the parents of the surrogate's pool."""
    usual = None
    for variant, (good, front) in PARENTS.items():
        start = time.process_time()
        with patch.multiple(prescreen, GOOD_AT_ONE=good, ON_FRONT=front):
            found = [run(STRATEGIES["surrogate"](), seed, arguments.batch) for seed in range(arguments.seeds)]
        usual = found if usual is None else usual
        report(f"{name}, parents: {variant}", found, usual, time.process_time() - start)


def report(name, found, uniform, seconds):
    """Print a row: means over seeds, and how far they are ahead of uniform choice."""
    cells = []
    for column, plain in zip(np.array(found).T, np.array(uniform).T, strict=True):
        cell = f"{column.mean():.3f}"
        if found is not uniform:
            gain = bootstrap_interval([column - plain], lambda values: float(np.mean(values)), np.random.default_rng(0))
            cell += f" {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
        cells.append(cell)
    print(f"| {name} | " + " | ".join(cells) + f" | {seconds / len(found):.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, help="leave it out to search the problems alone")
    parser.add_argument("--problems", nargs="*", default=[item.name for item in PROBLEMS])
    parser.add_argument("--strategies", nargs="*", default=["surrogate", "nsga2"], choices=["surrogate", "nsga2"])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--parents", action="store_true", help="of the surrogate's pool, instead of the variants")
    arguments = parser.parse_args()
    print(" ".join(f"{name}={value}" for name, value in vars(arguments).items()))
    searches = {}
    if arguments.table is not None:
        table = NasBenchMacro(json.loads(arguments.table.read_text()))
        searches["NAS-Bench-Macro"] = lambda *settings: shares_of_table(table, *settings)
    for problem in PROBLEMS:
        if problem.name in arguments.problems:
            searches[problem.name] = lambda *settings, problem=problem: shares_of_problem(problem, *settings)
    print("\n| search, strategy, variant | " + " | ".join(map(str, MARKS)) + " | s a run |")
    print("|---" * (len(MARKS) + 2) + "|")
    for name, run in searches.items():
        if arguments.parents:
            compare_parents(name, run, arguments)
            continue
        for strategy in arguments.strategies:
            uniform = None
            for variant in dict.fromkeys(["uniform", *arguments.variants]):
                start = time.process_time()
                chosen = STRATEGIES[strategy](**VARIANTS[variant])
                found = [run(chosen, seed, arguments.batch) for seed in range(arguments.seeds)]
                uniform = found if uniform is None else uniform
                report(f"{name}, {strategy}, {variant}", found, uniform, time.process_time() - start)


if __name__ == "__main__":
    main()
