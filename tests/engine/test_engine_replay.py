"""Options together: a run that was reopened for every generation, or lost its last decisions, is the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_space import DigitSpace, error, tree

from evodiff.engine import Evolution, SurrogateSearch

GENERATIONS = 4


class Scored(DigitSpace):
    """Digits whose features say next to nothing, and a score that tells the error; it counts who was scored."""

    scored = 0

    def features(self, genome):
        return np.array([genome[0], sum(genome)], dtype=np.float64)

    def scores(self, genome):
        self.scored += 1
        return {"score": error(genome)}


def search(ledger: Path, generations: int, **settings: Any) -> Evolution:
    """Return a search whose errors are noisy, the more so on lower rungs, and say how much."""
    settings = {"population_size": 12, "seed": 2, "space": DigitSpace(9), "strategy": "surrogate", **settings}
    run = Evolution(settings.pop("space"), objectives=["error", "cost"], ledger=ledger, **settings)
    for _ in range(generations):
        for trial in run.ask(run.population_size):
            below = run.rungs - 1 - trial.rung
            luck = 0.3 * (1 + below) * np.random.default_rng([trial.seed, trial.rung]).normal()
            run.tell(trial.id, {"error": error(trial.genome) + luck + below}, details={"error_standard_error": 0.3})
    return run


def rows(run: Evolution) -> list[dict]:
    return [row for generation in range(run.generation) for row in run.ledger.plan(generation)]


TOGETHER = {
    "three rungs": ({"rungs": 3}, lambda row: row["rung"] == 1),
    "scores with rungs": (
        {"rungs": 2, "space": Scored(9), "strategy": SurrogateSearch(scores=True, pool=150)},
        lambda row: row["rung"] == 1 and row["generation"] > 0,
    ),
    "the surrogate with replicates": ({"replicate_ties": True}, lambda row: row["replicate"] > 0),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_a_run_with_options_together_is_replayed(name, tmp_path):
    settings, telling = TOGETHER[name]
    whole = search(tmp_path / "whole", GENERATIONS, **settings)
    assert any(telling(row) for row in rows(whole)), "the option had a say"
    assert any(row.get("predicted") for row in rows(whole)), "the models too"
    assert whole.space.scored if "scores" in name else not hasattr(whole.space, "scored")

    for _ in range(GENERATIONS):
        search(tmp_path / "parts", 1, **settings)
    before = tree(tmp_path / "whole")
    assert tree(tmp_path / "parts") == before

    last = tmp_path / "whole" / "generations" / f"{GENERATIONS - 1:04}"
    for decided in ("plan.jsonl", "result.json"):
        (last / decided).unlink()
    again = Evolution.open(settings.get("space", DigitSpace(9)), tmp_path / "whole")
    assert again.generation == GENERATIONS
    assert tree(tmp_path / "whole") == before
