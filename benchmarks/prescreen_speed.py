"""How fast the surrogate prescreen is: a generation of a long run, and how many genomes its models score in a second.

The space is that of digit-sized architectures. Told values are made up from the genome; nothing is trained. A run is
filled with samples, and one generation is then planned by the surrogate, three times from runs of their own seeds.
Genomes are described once each, so that what is timed includes their features and their costs.

    OMP_NUM_THREADS=1 python benchmarks/prescreen_speed.py
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from engine_speed import architectures, made_up, milliseconds, tell_all, timed

from evodiff.engine import Evolution, SurrogateSearch
from evodiff.engine.surrogate import Surrogate, geometries
from evodiff.engine.variation import samples

REPEATS = 3


@dataclass(frozen=True)
class Late(SurrogateSearch):
    """The surrogate, after ``filled`` evaluations of samples."""

    filled: int = 0

    def propose(self, history, space, rng, generation, n):
        if len(history.ids) < self.filled:
            return samples(space, rng)
        return super().propose(history, space, rng, generation, n)


def planned(objectives, population, filled, pool, seed, clock):
    """Return the seconds of the first ask that the surrogate answers."""
    space = architectures()
    strategy = Late(pool=pool, filled=filled)
    evolution = Evolution(space, objectives=objectives, population_size=population, seed=seed, strategy=strategy)
    for _ in range(filled // population):
        trials = evolution.ask(population)
        tell_all(evolution, trials, [told(space, trial.genome, objectives) for trial in trials])
    trials, seconds = timed(clock, evolution.ask, population)
    assert len(trials) == population
    assert any(trial.predicted for trial in trials), "the surrogate stepped aside"
    return seconds


def told(space, genome, objectives):
    """Return made-up values of those objectives that are not known beforehand; they can be learnt."""
    values = made_up(space, genome)
    values["quality"] = 1000.0 / (10 + values["size"]) + 0.1 * values["quality"]
    return {name: value for name, value in values.items() if name in objectives}


def scored(rows, evaluated, clock):
    """Return the seconds that one model takes for the features of ``rows`` genomes, ``evaluated`` being known."""
    rng = np.random.default_rng(0)
    space = architectures()
    features = space.features_many([space.sample(rng) for _ in range(evaluated)])
    model = Surrogate(geometries(features), features @ rng.normal(size=features.shape[1]))
    asked = features[rng.integers(evaluated, size=rows)] + rng.normal(scale=0.01, size=(rows, features.shape[1]))
    return [timed(clock, lambda: model.predict(model.geometry.place(asked)))[1] for _ in range(REPEATS)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="count processor time, for a machine with other work to do")
    clock = time.process_time if parser.parse_args().cpu else time.perf_counter
    print("| what | milliseconds: median [smallest, largest] | target |")
    print("|---|---|---|")
    cases = {
        "ask(50), pool 1,000, 1,000 evaluated, memory known": (("quality", "memory_mb"), 50, 1000, 1000, 1000),
        "the same, both objectives predicted": (("quality", "size"), 50, 1000, 1000, 1000),
        "ask(200), pool 600, 5,000 evaluated": (("quality", "memory_mb"), 200, 5000, 600, 5000),
    }
    for name, (objectives, population, filled, pool, target) in cases.items():
        seconds = [planned(objectives, population, filled, pool, seed, clock) for seed in range(REPEATS)]
        print(f"| {name} | {milliseconds(seconds)} | {target:,} |", flush=True)
    print(f"| 10,000 rows scored, 1,000 evaluated | {milliseconds(scored(10_000, 1000, clock))} | 1,000 |")


if __name__ == "__main__":
    main()
