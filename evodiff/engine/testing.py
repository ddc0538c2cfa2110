"""The conformance suite for a search space: does a plain class keep the promises of :class:`SearchSpace`?

::

    def test_my_space_conforms():
        check_space(MySpace())
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from evodiff.engine.space import SearchSpace

G = TypeVar("G")

_METHODS = (
    "sample",
    "mutate",
    "crossover",
    "validate",
    "canonical",
    "features",
    "costs",
    "distance",
    "to_json",
    "from_json",
)


def check_space(space: SearchSpace[Any], *, seed: int = 0, samples: int = 20) -> None:
    """Check a search space on ``samples`` random genomes, their mutants and crossovers, and its optional methods.

    Raises:
        AssertionError: a rule is broken; the message says which, and what was found.
    """
    _check_names(space)
    genomes = _check_sample(space, seed, samples)
    for genome in genomes:
        _check_genome(space, genome)
    _check_equal_canonical(space, genomes)
    _check_mutate(space, genomes, seed)
    _check_crossover(space, genomes, seed)
    everybody = [*genomes, *_children(space, genomes, seed)]
    _check_features(space, everybody)
    _check_costs_alike(space, everybody)
    _check_distance(space, genomes)
    _check_optional(space, genomes, seed)


def _rule(holds: bool, rule: str, found: object) -> None:
    if not holds:
        raise AssertionError(f"{rule}; found {str(found)[:300]}")


def _check_names(space: Any) -> None:
    name = getattr(space, "name", None)
    _rule(isinstance(name, str) and bool(name), "space.name must be a non-empty string", repr(name))
    operators: Any = getattr(space, "operators", None)
    _rule(
        isinstance(operators, Sequence)
        and not isinstance(operators, str)
        and all(isinstance(item, str) and item and "+" not in item for item in operators),
        "space.operators must be a sequence of names without '+'",
        repr(operators),
    )
    _rule(len(set(operators)) == len(operators), "space.operators must not repeat a name", operators)
    for method in _METHODS:
        _rule(callable(getattr(space, method, None)), f"space.{method} must be a method", "none")


def _check_sample(space: SearchSpace[G], seed: int, samples: int) -> list[G]:
    rng, again = np.random.default_rng(seed), np.random.default_rng(seed)
    genomes = [space.sample(rng) for _ in range(samples)]
    repeated = [space.sample(again) for _ in range(samples)]
    for first, second in zip(genomes, repeated, strict=True):
        _valid(space, first, "sample(rng)")
        _rule(
            space.canonical(first) == space.canonical(second),
            "sample must take all its randomness from rng: equal generators give equal genomes",
            f"{space.canonical(first)} and {space.canonical(second)}",
        )
    return genomes


def _valid(space: SearchSpace[G], genome: G, origin: str) -> None:
    try:
        space.validate(genome)
    except ValueError as error:
        raise AssertionError(f"{origin} must return a genome that validate accepts; found {error}") from error


def _check_genome(space: SearchSpace[G], genome: G) -> None:
    canonical = space.canonical(genome)
    _rule(isinstance(canonical, str), "canonical must return a string", repr(canonical))
    data = space.to_json(genome)
    _rule(isinstance(data, dict), "to_json must return a dictionary", type(data))
    try:
        text = json.dumps(data, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"to_json must return plain JSON with finite numbers; found {error}") from error
    back = space.from_json(json.loads(text))
    _valid(space, back, "from_json")
    _rule(
        space.canonical(back) == canonical,
        "from_json must give back what to_json wrote: the canonical string stays the same",
        f"{canonical} and then {space.canonical(back)}",
    )
    _rule(
        json.loads(json.dumps(space.to_json(back))) == json.loads(text),
        "to_json after from_json must write the same",
        space.to_json(back),
    )
    _check_costs(space, genome)


def _check_costs(space: SearchSpace[G], genome: G) -> None:
    costs = space.costs(genome)
    _rule(isinstance(costs, Mapping), "costs must return a dictionary, which may be empty", type(costs))
    for name, value in costs.items():
        _rule(
            isinstance(name, str) and isinstance(value, int | float | np.number) and math.isfinite(value),
            "costs must map names to finite numbers",
            f"{name!r}: {value!r}",
        )
    _rule(space.costs(genome) == costs, "costs must be the same each time", f"{costs}, then {space.costs(genome)}")


def _check_features(space: SearchSpace[G], genomes: Sequence[G]) -> None:
    shapes = set()
    for genome in genomes:
        features = space.features(genome)
        _rule(
            isinstance(features, np.ndarray) and features.ndim == 1 and features.dtype == np.float64,
            "features must return a (d,) float64 array",
            f"{type(features).__name__} {getattr(features, 'shape', '')} {getattr(features, 'dtype', '')}",
        )
        _rule(bool(np.isfinite(features).all()), "features must be finite", features)
        _rule(np.array_equal(features, space.features(genome)), "features must be the same each time", space.name)
        shapes.add(features.shape)
    _rule(len(shapes) == 1, "features must have the same length for every genome", shapes)


def _check_costs_alike(space: SearchSpace[G], genomes: Sequence[G]) -> None:
    names = sorted(space.costs(genomes[0]))
    for genome in genomes:
        costs = space.costs(genome)
        _rule(sorted(costs) == names, "costs must have the same names for every genome", f"{sorted(costs)} and {names}")


def _children(space: SearchSpace[G], genomes: Sequence[G], seed: int) -> list[G]:
    """Return mutants and crossovers: what a search evaluates beside samples."""
    rng = np.random.default_rng(seed)
    mutants = [space.mutate(genome, rng, None) for genome in genomes]
    return [*mutants, *(child for pair in pairwise(genomes) for child in space.crossover(*pair, rng))]


def _check_equal_canonical(space: SearchSpace[G], genomes: Sequence[G]) -> None:
    costs: dict[str, dict[str, float]] = {}
    for genome in genomes:
        canonical = space.canonical(genome)
        known = costs.setdefault(canonical, space.costs(genome))
        _rule(
            known == space.costs(genome),
            "genomes with one canonical string are one candidate and must have equal costs",
            f"{known} and {space.costs(genome)} for {canonical}",
        )


def _check_mutate(space: SearchSpace[G], genomes: Sequence[G], seed: int) -> None:
    for operator in (None, *space.operators):
        call = f"mutate(genome, rng, {operator!r})"
        changed = 0
        for index, genome in enumerate(genomes):
            before = _snapshot(space, genome)
            mutant = space.mutate(genome, np.random.default_rng([seed, index]), operator)
            again = space.mutate(genome, np.random.default_rng([seed, index]), operator)
            _rule(_snapshot(space, genome) == before, f"{call} must leave its argument as it was", space.name)
            _valid(space, mutant, call)
            _rule(
                space.canonical(mutant) == space.canonical(again),
                f"{call} must take all its randomness from rng",
                f"{space.canonical(mutant)} and {space.canonical(again)}",
            )
            changed += space.canonical(mutant) != before[0]
        if operator is None:
            _rule(changed > 0, "mutate must change some genome", f"none of {len(genomes)} changed")


def _check_crossover(space: SearchSpace[G], genomes: Sequence[G], seed: int) -> None:
    for index, (first, second) in enumerate(pairwise(genomes)):
        before = _snapshot(space, first), _snapshot(space, second)
        children = space.crossover(first, second, np.random.default_rng([seed, index]))
        again = space.crossover(first, second, np.random.default_rng([seed, index]))
        _rule(isinstance(children, tuple) and len(children) == 2, "crossover must return two genomes", repr(children))
        _rule(
            (_snapshot(space, first), _snapshot(space, second)) == before,
            "crossover must leave its arguments as they were",
            space.name,
        )
        for child, twin in zip(children, again, strict=True):
            _valid(space, child, "crossover")
            _rule(
                space.canonical(child) == space.canonical(twin),
                "crossover must take all its randomness from rng",
                f"{space.canonical(child)} and {space.canonical(twin)}",
            )


def _snapshot(space: SearchSpace[G], genome: G) -> tuple[str, Any]:
    return space.canonical(genome), copy.deepcopy(space.to_json(genome))


def _check_distance(space: SearchSpace[G], genomes: Sequence[G]) -> None:
    for first, second in zip(genomes, [*genomes[1:], genomes[0]], strict=True):
        there, back = space.distance(first, second), space.distance(second, first)
        _rule(0.0 <= there <= 1.0, "distance must lie in [0, 1]", there)
        _rule(math.isclose(there, back, abs_tol=1e-9), "distance must be symmetric", f"{there} and {back}")
        _rule(
            math.isclose(space.distance(first, first), 0.0, abs_tol=1e-9),
            "the distance of a genome to itself must be 0",
            space.distance(first, first),
        )


def _check_optional(space: Any, genomes: Sequence[Any], seed: int) -> None:
    checks = {
        "describe": _check_describe,
        "initial": _check_initial,
        "within": _check_within,
        "mutate_informed": _check_mutate_informed,
        "scores": _check_scores,
        "features_many": _check_features_many,
        "feature_weights": _check_feature_weights,
    }
    for method, check in checks.items():
        if hasattr(space, method):
            check(space, genomes, seed)


def _check_describe(space: Any, genomes: Sequence[Any], seed: int) -> None:
    description = space.describe()
    _rule(isinstance(description, dict), "describe must return a dictionary", type(description))
    try:
        json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"describe must return plain JSON; found {error}") from error


def _check_initial(space: Any, genomes: Sequence[Any], seed: int) -> None:
    for genome in space.initial(np.random.default_rng(seed)):
        _valid(space, genome, "initial(rng)")
        _check_genome(space, genome)


def _check_within(space: Any, genomes: Sequence[Any], seed: int) -> None:
    for generation in (0, 1, 10):
        limited = space.within(generation)
        rng = np.random.default_rng(seed)
        genome = limited.sample(rng)
        _valid(space, genome, f"within({generation}).sample(rng)")
        _valid(space, limited.mutate(genome, rng, None), f"within({generation}).mutate")
        _rule(
            limited.canonical(genome) == space.canonical(genome),
            f"within({generation}) must keep the canonical string of a genome",
            limited.canonical(genome),
        )


def _check_mutate_informed(space: Any, genomes: Sequence[Any], seed: int) -> None:
    for operator in (None, *space.operators):
        call = f"mutate_informed(genome, rng, {operator!r}, {{}})"
        before = _snapshot(space, genomes[0])
        child, again = (space.mutate_informed(genomes[0], np.random.default_rng(seed), operator, {}) for _ in range(2))
        _rule(_snapshot(space, genomes[0]) == before, f"{call} must leave its argument as it was", space.name)
        _valid(space, child, call)
        _rule(
            space.canonical(child) == space.canonical(again),
            f"{call} must take all its randomness from rng",
            f"{space.canonical(child)} and {space.canonical(again)}",
        )


def _check_scores(space: Any, genomes: Sequence[Any], seed: int) -> None:
    found = [space.scores(genome) for genome in genomes]
    for genome, scores in zip(genomes, found, strict=True):
        _rule(isinstance(scores, Mapping), "scores must return a dictionary", type(scores))
        _rule(scores.keys() == found[0].keys(), "scores must have the same names for every genome", sorted(scores))
        finite = all(isinstance(value, (int, float)) and math.isfinite(value) for value in scores.values())
        _rule(finite, "scores must be finite numbers", scores)
        _rule(dict(space.scores(genome)) == dict(scores), "scores of a genome must not change", scores)


def _check_features_many(space: Any, genomes: Sequence[Any], seed: int) -> None:
    together, alone = space.features_many(genomes), np.stack([space.features(item) for item in genomes])
    _rule(
        together.shape == alone.shape and bool(np.allclose(together, alone)),
        "features_many must return the features of each genome as rows",
        f"{together.shape}, expected {alone.shape}",
    )


def _check_feature_weights(space: Any, genomes: Sequence[Any], seed: int) -> None:
    weights, features = np.asarray(space.feature_weights()), space.features(genomes[0])
    _rule(
        weights.shape == features.shape and bool((np.isfinite(weights) & (weights > 0)).all()),
        "feature_weights must return a finite number above 0 for each feature",
        f"{weights}, for {features.shape[0]} features",
    )
