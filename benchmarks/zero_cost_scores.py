"""Do zero-cost scores say who will train well? What they cost, how they rank, and whether they help to predict.

For each RUN, a folder that ``evodiff evolve`` made, over its candidates on the highest rung:

1. CPU seconds of nwot and synflow for one genome, the building of its network included.
2. Rank correlation of nwot, synflow, parameters and FLOPs with what training brought, of those whose training ended:
   Kendall's tau and Spearman's rho, with 95 % bootstrap intervals over candidates. Both objectives are minimised, so a
   useful score is far below 0.
3. Prediction by the surrogate of the engine from the features of the space, with the scores beside them at several
   weights, and with the scores dealt out to other candidates (what columns that say nothing do). Trainings that failed
   or were stopped early count as the worst, as in the engine. "left out" is Kendall's tau of what models of nine tenths
   predict of the last tenth, and its gain over features alone, with a 95 % bootstrap interval over candidates (of what
   was predicted once: how much the models themselves would vary is not in it). "from 20" is that of
   models that learn from 20 random candidates and predict the others: the mean over random splits, and the gain with
   its central 95 % over splits.

    OMP_NUM_THREADS=1 python benchmarks/zero_cost_scores.py RUN [RUN ...]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr

from evodiff.architecture.cost import flops, parameter_count
from evodiff.architecture.graph import resolve
from evodiff.architecture.zero_cost import nwot, synflow
from evodiff.engine.forecast import predict_folds
from evodiff.engine.statistics import Interval, bootstrap_interval
from evodiff.engine.surrogate import Surrogate, geometries, rank_correlation
from evodiff.engine.zero_cost import WEIGHT, ScoreColumns
from evodiff.pipeline.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SCORES = {"nwot": nwot, "synflow": synflow}
VALUES = ("kid", "denoising_loss")
TENTHS = 10


@dataclass(frozen=True)
class Trained:
    """n candidates of a run: (n, d) ``features``, (n,) ``ended``, and (n,) arrays by name: ``seconds`` of each score,
    ``predictors`` (the scores, parameters and FLOPs) and what training brought (``values``)."""

    name: str
    features: Floats
    ended: NDArray[np.bool_]
    seconds: dict[str, Floats]
    predictors: dict[str, Floats]
    values: dict[str, Floats]

    def scores(self) -> list[dict[str, float]]:
        """Return the scores of each candidate."""
        return [{name: float(self.predictors[name][row]) for name in SCORES} for row in range(len(self.features))]


def main() -> None:
    """Print costs, correlations and predictions of each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument(
        "--weights", type=int, nargs="+", default=[1, WEIGHT, 4 * WEIGHT], help="of a score, in features"
    )
    parser.add_argument("--few", type=int, nargs="+", default=[20], help="candidates that models learn from")
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--shuffles", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=118)
    for folder in arguments.runs:
        trained = read(Run.open(folder))
        console.print(costs(trained))
        console.print(correlations(trained, arguments.seed))
        for value in VALUES:
            console.print(predictions(trained, value, arguments))


def read(run: Run) -> Trained:
    """Read the candidates of a run and score them."""
    told = {}
    for generation in range(run.ledger.generations):
        evaluations = run.ledger.evaluations(generation)
        for record in run.ledger.plan(generation):
            if record["rung"] == run.experiment["rungs"] - 1 and record["id"] in evaluations:
                told.setdefault(record["candidate"], (record["genome"], evaluations[record["id"]]))
    genomes = [run.space.from_json(data) for data, _ in told.values()]
    ended = np.array([found.failure is None for _, found in told.values()])
    resolved = [resolve(genome, run.shape) for genome in genomes]
    for score in SCORES.values():
        score(genomes[0], run.shape)  # the first call takes longer
    timed = {name: [] for name in SCORES}
    for genome in track(genomes, "scores", console=Console(stderr=True)):
        for name, score in SCORES.items():
            start = time.process_time()
            timed[name].append((score(genome, run.shape), time.process_time() - start))
    return Trained(
        name=f"{run.settings['dataset']['name']}, {run.shape.size} px, {ended.sum()} of {len(ended)} trainings ended",
        features=run.space.features_many(genomes),
        ended=ended,
        seconds={name: np.array([seconds for _, seconds in found]) for name, found in timed.items()},
        predictors={
            **{name: np.array([score for score, _ in found]) for name, found in timed.items()},
            "parameters": np.array([float(parameter_count(item)) for item in resolved]),
            "FLOPs": np.array([flops(item) for item in resolved]),
        },
        values={
            name: worst_for_others(
                [{**found.details, **found.objectives}.get(name) for _, found in told.values()], ended
            )
            for name in VALUES
        },
    )


def worst_for_others(values: list[float | None], ended: NDArray[np.bool_]) -> Floats:
    """Return values, the largest of those whose training ended for those whose training did not."""
    known = np.array(values, dtype=np.float64)  # None becomes NaN
    return np.where(ended, known, known[ended].max())


def costs(trained: Trained) -> Table:
    """Return CPU seconds a genome."""
    table = Table("score", "median s", "quartiles", "longest", title=trained.name)
    for name, seconds in {**trained.seconds, "both": sum(trained.seconds.values())}.items():
        low, median, high = np.percentile(seconds, [25, 50, 75])
        table.add_row(name, f"{median:.3f}", f"{low:.3f} to {high:.3f}", f"{seconds.max():.3f}")
    return table


def correlations(trained: Trained, seed: int) -> Table:
    """Return how each predictor ranks what training brought."""
    table = Table("predictor", "value", "Kendall [95 %]", "Spearman [95 %]", title=trained.name)
    for value in VALUES:
        for name, column in trained.predictors.items():
            cells = [
                shown(over_candidates(column[trained.ended], trained.values[value][trained.ended], measure, seed))
                for measure in (rank_correlation, lambda x, y: float(spearmanr(x, y).statistic))
            ]
            table.add_row(name, value, *cells)
    return table


def predictions(trained: Trained, value: str, arguments: argparse.Namespace) -> Table:
    """Return how well models predict with scores and without."""
    judge = Judge(trained, trained.values[value], arguments)
    table = Table("features and", "left out", "gain [95 %]", title=f"{value}, {trained.name}")
    for few in judge.splits:
        table.add_column(f"from {few}")
        table.add_column("gain [95 %]")
    scores = trained.scores()
    table.add_row("nothing", *judge.alone())
    for weight in arguments.weights:
        table.add_row(f"scores, weight {weight}", *judge.beside(wide(trained, scores, weight)))
    for name in SCORES:
        only = [{name: item[name]} for item in scores]
        table.add_row(f"{name}, weight {WEIGHT}", *judge.beside(wide(trained, only, WEIGHT)))
    rng = np.random.default_rng(arguments.seed)
    dealt = [[scores[row] for row in rng.permutation(len(scores))] for _ in range(arguments.shuffles)]
    table.add_row(f"scores of others, weight {WEIGHT}", *judge.dealt([wide(trained, item, WEIGHT) for item in dealt]))
    return table


class Judge:
    """Compares features with those of a run, on one of its values.

    ``splits`` are random orders of the candidates, by how many of the first ones are learnt from.
    """

    def __init__(self, trained: Trained, values: Floats, arguments: argparse.Namespace) -> None:
        rng = np.random.default_rng(arguments.seed)
        self.splits = {
            few: [rng.permutation(len(values)) for _ in range(arguments.splits)]
            for few in arguments.few
            if len(values) - few >= 10
        }
        self._seed = arguments.seed
        self._values = values
        self._left_out = left_out(trained.features, values)
        self._held_out = {few: self._of_splits(trained.features, few) for few in self.splits}

    def alone(self) -> list[str]:
        """Return the cells of the features of the run."""
        means = [cell for found in self._held_out.values() for cell in (f"{np.mean(found):.3f}", "")]
        return [f"{self._tau(self._left_out):.3f}", "", *means]

    def beside(self, features: Floats) -> list[str]:
        """Return the cells of other features."""
        found = left_out(features, self._values)

        def difference(rows: Floats) -> float:
            chosen = rows.astype(int)
            return self._tau(found, chosen) - self._tau(self._left_out, chosen)

        interval = bootstrap_interval([np.arange(len(found))], difference, np.random.default_rng(self._seed))
        cells = [f"{self._tau(found):.3f}", shown(interval, "+.3f")]
        for few, before in self._held_out.items():
            taus = self._of_splits(features, few)
            cells += [f"{np.mean(taus):.3f}", spread(taus - before)]
        return cells

    def dealt(self, several: Sequence[Floats]) -> list[str]:
        """Return the cells of several that say nothing: means, and the central 95 % over them."""
        taus = np.array([self._tau(left_out(features, self._values)) for features in several])
        return [f"{taus.mean():.3f}", spread(taus - self._tau(self._left_out))]

    def _tau(self, predicted: Floats, chosen: NDArray[np.int64] | slice = slice(None)) -> float:
        return rank_correlation(predicted[chosen], self._values[chosen])

    def _of_splits(self, features: Floats, few: int) -> Floats:
        return np.array([held_out(features, self._values, order, few) for order in self.splits[few]])


def wide(trained: Trained, scores: Sequence[dict[str, float]], weight: int) -> Floats:
    """Return features with scores beside them."""
    return np.hstack([trained.features, ScoreColumns(scores, weight)(scores)])


def left_out(features: Floats, values: Floats) -> Floats:
    """Return what is predicted of each candidate by models that never saw it."""
    return predict_folds(features, values, TENTHS)


def held_out(features: Floats, values: Floats, order: NDArray[np.int64], few: int) -> float:
    """Return tau between the values of those that are not the first ``few`` and what is predicted of them."""
    learnt, other = order[:few], order[few:]
    model = Surrogate(geometries(features[learnt]), values[learnt])
    return rank_correlation(model.predict(model.geometry.place(features[other]))[0], values[other])


def spread(differences: Floats) -> str:
    """Return the mean and the central 95 % as text."""
    low, high = np.percentile(differences, [2.5, 97.5])
    return f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def over_candidates(x: Floats, y: Floats, measure: Callable[[Floats, Floats], float], seed: int) -> Interval:
    """Return a measure of pairs with its bootstrap interval over the pairs."""

    def of_rows(rows: Floats) -> float:
        chosen = rows.astype(int)
        return measure(x[chosen], y[chosen])

    return bootstrap_interval([np.arange(len(x))], of_rows, np.random.default_rng(seed))


def shown(interval: Interval, form: str = ".3f") -> str:
    """Return an interval as text."""
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


if __name__ == "__main__":
    main()
