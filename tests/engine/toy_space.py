"""A search space written as one plain class, a way to run it, and what two runs are compared by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from evodiff.engine import Evolution


class DigitSpace:
    """Strings of digits below 3; trailing zeros are neutral. Error: distance to all ones; cost: sum of the digits."""

    name = "digits"
    operators = ("change", "swap", "reverse")

    def __init__(self, length=6):
        self.length = length

    def sample(self, rng):
        return [int(digit) for digit in rng.integers(3, size=self.length)]

    def mutate(self, genome, rng, operator=None):
        child = list(genome)
        if operator == "reverse":
            return child[::-1]
        i, j = rng.choice(self.length, size=2, replace=False)
        if operator == "swap":
            child[i], child[j] = child[j], child[i]
        else:
            child[i] = int((child[i] + rng.integers(1, 3)) % 3)
        return child

    def crossover(self, first, second, rng):
        cut = int(rng.integers(1, self.length))
        return first[:cut] + second[cut:], second[:cut] + first[cut:]

    def validate(self, genome):
        if len(genome) != self.length or any(digit not in (0, 1, 2) for digit in genome):
            raise ValueError(f"expected {self.length} digits below 3, found {genome}")

    def canonical(self, genome):
        return "".join(map(str, genome)).rstrip("0")

    def features(self, genome):
        return np.array(genome, dtype=np.float64)

    def costs(self, genome):
        return {"cost": float(sum(genome))}

    def distance(self, first, second):
        return sum(a != b for a, b in zip(first, second, strict=True)) / self.length

    def to_json(self, genome):
        return {"digits": genome}

    def from_json(self, data):
        return list(data["digits"])


def error(genome):
    """Deterministic, distinct for most genomes, best for all ones."""
    return sum((digit - 1) ** 2 * (place + 1.5) for place, digit in enumerate(genome)) / 7


def evolution(ledger=None, **settings):
    """Return a small search over digits."""
    settings = {"objectives": ["error", "cost"], "population_size": 6, "seed": 3, **settings}
    space = settings.pop("space", None) or DigitSpace()
    return Evolution(space, ledger=ledger, **settings)


def close(search, generations=1):
    """Ask, evaluate and tell whole generations."""
    for _ in range(generations):
        for trial in search.pending() + search.ask(search.population_size):
            search.tell(trial.id, {"error": error(trial.genome)})
    return search


def plan_of(search, generation):
    """Return the trial ids of a generation, in plan order."""
    return [record["id"] for record in search.ledger.plan(generation)]


def tree(run: Path):
    """Return the bytes of everything that two equal runs have equal."""
    places = [run / "experiment.json", *(run / "inputs").rglob("*"), *(run / "generations").rglob("*")]
    return {str(path.relative_to(run)): path.read_bytes() for path in places if path.is_file()}


def rewrite(path: Path, **changes):
    """Change values of a document."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))
