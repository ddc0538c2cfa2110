"""What noise costs a search, and what helps: share of a table's hypervolume that the front truly has.

The table is NAS-Bench-Macro, as in search_efficiency.py. Searches are told the error times a factor of luck; a front is
what they take for one, by the means of whoever was tried again, and judged by the table's own errors, so that whoever
was lucky counts for what it is.

``one rung``: every training is whole. ``two rungs``: candidates are first trained for a third of the steps, which
leaves ``--stretch`` times the error, and more luck; the budget is in whole trainings.

    python benchmarks/noisy_search.py --table nas-bench-macro_cifar10.json --seeds 30
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from search_efficiency import NasBenchMacro, Yardstick

from evodiff.engine import STRATEGIES, Evolution, SurrogateSearch, baselines, extrapolation, prescreen
from evodiff.engine.selection import nondominated
from evodiff.engine.statistics import bootstrap_interval
from evodiff.engine.surrogate import Surrogate


@dataclass(frozen=True)
class PromotesByTheRung(SurrogateSearch):
    """Promotes by the Pareto order of the rung alone."""

    def order_promotions(self, history, candidates, count):
        """Leave it to the rung."""


def as_told(names, rungs, values, *, feasible):
    """Return the values of each rung as they are."""
    return values.copy()


@contextmanager
def chosen_as_told():
    """Have survivors and parents compared by what each was told, on whichever rung."""
    with ExitStack() as stack:
        for module in (baselines, prescreen):
            stack.enter_context(patch.object(module, "comparable_values", lambda history, names: history.values(names)))
        yield


@dataclass(frozen=True)
class Variant:
    """A way to search; ``left_out`` makes what takes a piece out of the engine meanwhile."""

    strategy: type = SurrogateSearch
    left_out: Callable = nullcontext
    replicate_ties: bool = False
    of_rungs: bool = False  # says nothing of searches with one rung


VARIANTS = {
    "the default": Variant(),
    "the front is that of the values": Variant(
        left_out=lambda: patch.object(Surrogate, "smoothed", lambda model: model.values.copy())
    ),
    "values of short trainings as they are": Variant(
        left_out=lambda: patch.object(extrapolation, "as_on_highest", as_told), of_rungs=True
    ),
    "promoted by the rung alone": Variant(PromotesByTheRung, of_rungs=True),
    "survivors and parents by the values as they are": Variant(left_out=chosen_as_told, of_rungs=True),
    "ten predictions tell": Variant(left_out=lambda: patch.object(prescreen, "TELLING", 10)),
    "ties are tried again": Variant(replicate_ties=True),
    "nsga2": Variant(STRATEGIES["nsga2"]),
    "nsga2, survivors by the values as they are": Variant(STRATEGIES["nsga2"], left_out=chosen_as_told, of_rungs=True),
    "nsga2, ties are tried again": Variant(STRATEGIES["nsga2"], replicate_ties=True),
}


def search(space, variant, seed, rungs, options):
    """Return the share of the hypervolume that the front truly has after each mark."""
    evolution = Evolution(
        space,
        objectives=["error", "params"],
        population_size=options.population,
        seed=seed,
        strategy=variant.strategy(),
        rungs=rungs,
        replicate_ties=variant.replicate_ties,
    )
    rng, yardstick = np.random.default_rng(1000 + seed), Yardstick(space)
    told, shares, spent = {}, [], 0.0
    while len(shares) < len(options.marks) and (trials := evolution.ask(options.population)):
        for trial in trials:
            error, size = space.error(trial.genome), space.size(trial.genome)
            whole = trial.rung == rungs - 1
            deviation = options.luck if whole else options.short_luck
            found = error * np.exp(deviation * rng.standard_normal()) * (1 if whole else options.stretch)
            goes_on = rungs > 1 and trial.generation > 0 and trial.replicate == 0
            spent += 1 / 3 if not whole else 2 / 3 if goes_on else 1
            told_error = {"error_standard_error": deviation * found}
            evolution.tell(trial.id, {"error": found, "params": size}, details=told_error)
            if whole:
                told.setdefault(trial.genome, []).append(found)
        while len(shares) < len(options.marks) and spent >= options.marks[len(shares)]:
            means = np.array([[np.mean(found), space.size(genome)] for genome, found in told.items()])
            true = np.array([[space.error(genome), space.size(genome)] for genome in told])
            shares.append(yardstick.share(true[nondominated(means, np.zeros(len(means)))]))
    return shares


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--luck", type=float, default=0.06, help="deviation of the logarithm, of a whole training")
    parser.add_argument("--short-luck", type=float, default=0.2, help="of a third of a training")
    parser.add_argument("--stretch", type=float, default=2.2)
    parser.add_argument("--marks", type=int, nargs="+", default=[25, 40, 60], help="in whole trainings, ascending")
    parser.add_argument(
        "--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="the first one is the base"
    )
    parser.add_argument("--rungs", type=int, nargs="*", default=[1, 2], choices=[1, 2])
    options = parser.parse_args()
    space = NasBenchMacro(json.loads(options.table.read_text()))
    print(" ".join(f"{name}={value}" for name, value in vars(options).items()))
    print("\n| | " + " | ".join(f"after {mark}" for mark in options.marks) + " |")
    print("|---" * (len(options.marks) + 1) + "|")
    for rungs in options.rungs:
        usual = None
        for name in options.variants:
            variant = VARIANTS[name]
            if rungs == 1 and variant.of_rungs:
                continue
            with variant.left_out():
                found = np.array([search(space, variant, seed, rungs, options) for seed in range(options.seeds)])
            usual = found if usual is None else usual
            report(f"{'one rung' if rungs == 1 else 'two rungs'}, {name}", found, usual)


def report(name, found, usual):
    """Print a row: means over seeds, and how far they are ahead of the default's on the same seeds."""
    cells = []
    for column, default in zip(found.T, usual.T, strict=True):
        cell = f"{column.mean():.3f} ± {column.std(ddof=1) / len(column) ** 0.5:.3f}"
        if found is not usual:
            gap = bootstrap_interval(
                [column - default], lambda values: float(np.mean(values)), np.random.default_rng(0)
            )
            cell += f", {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
        cells.append(cell)
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
