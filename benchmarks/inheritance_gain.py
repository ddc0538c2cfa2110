"""What children gain that start from their parents' weights, and whether it makes them look better than they are.

RUN is a folder that ``evodiff evolve`` made without ``--inherit``: every child on its highest rung was trained from
scratch, and knows its parents. Each is trained once more from the weights that these had in the end, with its own seed,
for as many steps; differences are paired by child. Whose training was stopped, or whose parents' was, is left out.

``a third`` of the steps is what the rung below the highest gives. "ranks": Kendall's tau with the child's KID from
scratch after all steps, which is what the champion is chosen by.

    OMP_NUM_THREADS=1 python benchmarks/inheritance_gain.py RUN --children 30
"""

from __future__ import annotations

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from evodiff.architecture.genome import ArchitectureGenome
from evodiff.architecture.inheritance import Parent, inherit
from evodiff.architecture.network import build_network
from evodiff.engine.statistics import bootstrap_interval
from evodiff.engine.surrogate import rank_correlation
from evodiff.errors import TrialFailure
from evodiff.evaluation.score import part, score, scoring_inputs
from evodiff.pipeline.run import Run
from evodiff.sampling.noise import NoiseSchedule
from evodiff.training import train

VALUES = ("kid", "denoising_loss")
SHARES = {"a third": 1 / 3, "all": 1.0}


def main():
    """Print what children gain, and how each way of training ranks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--children", type=int, default=30, help="evenly spread over the generations")
    options = parser.parse_args()
    torch.set_num_threads(1)
    trainer = Trainer(Run.open(options.run))
    every = trainer.children()
    spread = np.unique(np.linspace(0, len(every) - 1, options.children).astype(int))
    found = {(start, share): [] for start in ("scratch", "inherited") for share in SHARES}
    kept, passed_on = 0, []
    for place in track(spread, "children", console=Console(stderr=True)):
        try:
            heir, part_of_heir = trainer.judged(every[place], inherited=True)
            alone, _ = trainer.judged(every[place], inherited=False)
        except TrialFailure:
            continue
        kept += 1
        passed_on.append(part_of_heir)
        for share in SHARES:
            found["inherited", share].append(heir[share])
            found["scratch", share].append(alone[share])
    title = f"{trainer.run.settings['dataset']['name']}: {kept} children, {np.mean(passed_on):.2f} of them inherited"
    Console(width=118).print(gains({key: np.array(rows) for key, rows in found.items()}, title))


class Trainer:
    """Trains candidates of a run, and judges them after each share of its steps as the run does."""

    def __init__(self, run):
        self.run = run
        self.inputs = scoring_inputs(run.dataset(), run.feature_net())
        self.images, self.labels = part(run.dataset(), "train")
        highest = run.experiment["rungs"] - 1
        rows = [row for index in range(run.ledger.closed) for row in run.ledger.plan(index) if row["rung"] == highest]
        self._rows = {}
        for row in rows:
            self._rows.setdefault(row["candidate"], row)

    def children(self):
        """Return the rows of those all of whose parents are known, in the order planned."""
        return [
            row
            for row in self._rows.values()
            if row["parents"] and all(parent in self._rows for parent in row["parents"])
        ]

    def judged(self, row, *, inherited):
        """Return (KID, loss) after each share of the steps, and which share of the weights was inherited.

        Raises:
            TrialFailure: a training failed.
        """
        network = build_network(ArchitectureGenome.from_json(row["genome"]), self.run.shape, seed=row["seed"])
        share = 0.0
        if inherited:
            share = inherit(network, [self._parent(parent) for parent in row["parents"]]).share
        found, state = {}, None
        for name, of_steps in SHARES.items():
            result = self._train(network, row["seed"], round(of_steps * self.run.training.steps), state)
            state = result.state
            trained = build_network(ArchitectureGenome.from_json(row["genome"]), self.run.shape)
            trained.load_state_dict(result.ema_weights)
            judged = score(
                trained,
                self.inputs,
                training=self.run.training,
                evaluation=self.run.evaluation,
                seed=self.run.experiment["seed"],
            )
            found[name] = [getattr(judged, value) for value in VALUES]
        return found, share

    @lru_cache  # noqa: B019 -- lives as long as the program
    def _parent(self, candidate):
        row = self._rows[candidate]
        genome = ArchitectureGenome.from_json(row["genome"])
        network = build_network(genome, self.run.shape, seed=row["seed"])
        return Parent(genome, self._train(network, row["seed"], self.run.training.steps).ema_weights)

    def _train(self, network, seed, steps, state=None):
        return train(
            network,
            self.images,
            self.labels,
            self.run.training,
            seed=seed,
            schedule=NoiseSchedule.named(self.run.training.noise_schedule),
            last_step=steps,
            state=state,
            classes=self.run.shape.classes,
        )


def gains(found, title):
    """Return the table of (n, 2) arrays of KID and loss by start and share of the steps."""
    rng = np.random.default_rng(0)
    table = Table("steps", "value", "scratch", "inherited", "inherited less scratch [95 %]", "better", title=title)
    table.add_column("ranks: scratch")
    table.add_column("ranks: inherited [95 %]")
    final = found["scratch", "all"][:, 0]
    for share in SHARES:
        for column, value in enumerate(VALUES):
            alone, heir = found["scratch", share][:, column], found["inherited", share][:, column]
            gain = bootstrap_interval([heir - alone], lambda values: float(np.mean(values)), rng)
            table.add_row(
                share,
                value,
                f"{alone.mean():.3f}",
                f"{heir.mean():.3f}",
                shown(gain, "+.3f"),
                f"{np.mean(heir < alone):.2f}",
                *(shown(ranks(values, final, rng), ".2f") for values in (alone, heir)),
            )
    return table


def ranks(values, final, rng):
    """Return Kendall's tau of two (n,) arrays with its interval over children."""

    def of_children(chosen):
        chosen = chosen.astype(int)
        return rank_correlation(values[chosen], final[chosen])

    return bootstrap_interval([np.arange(len(values))], of_children, rng)


def shown(interval, form):
    """Return an interval as text."""
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


if __name__ == "__main__":
    main()
