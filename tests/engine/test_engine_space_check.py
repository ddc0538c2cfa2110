"""The conformance suite accepts a plain class and names the rule that another one breaks."""

from __future__ import annotations

import random

import numpy as np
import pytest
from toy_space import DigitSpace

from evodiff.engine.testing import check_space


class Full(DigitSpace):
    """With every optional method."""

    def describe(self):
        return {"length": self.length}

    def initial(self, rng):
        return [[1] * self.length]

    def within(self, generation):
        return self

    def mutate_informed(self, genome, rng, operator, details):
        return self.mutate(genome, rng, operator)

    def scores(self, genome):
        return {"ones": float(genome.count(1))}

    def features_many(self, genomes):
        return np.array(genomes, dtype=np.float64)


@pytest.mark.parametrize("space", [DigitSpace(), Full()])
def test_a_plain_class_conforms(space):
    check_space(space)


class Unnamed(DigitSpace):
    name = ""


class OneOperatorString(DigitSpace):
    operators = "change"


class GlobalRandomness(DigitSpace):
    def sample(self, rng):
        return [random.randrange(3) for _ in range(self.length)]


class InvalidSample(DigitSpace):
    def sample(self, rng):
        return [*super().sample(rng), 1]


class NumpyJson(DigitSpace):
    def to_json(self, genome):
        return {"digits": np.array(genome)}


class ForgetfulJson(DigitSpace):
    def from_json(self, data):
        return list(reversed(data["digits"]))


class IntegerFeatures(DigitSpace):
    def features(self, genome):
        return np.array(genome)


class InfiniteCost(DigitSpace):
    def costs(self, genome):
        return {"cost": float("inf")}


class DriftingCost(DigitSpace):
    calls = 0

    def costs(self, genome):
        DriftingCost.calls += 1
        return {"cost": float(DriftingCost.calls)}


class FarDistance(DigitSpace):
    def distance(self, first, second):
        return self.length * super().distance(first, second)


class LopsidedDistance(DigitSpace):
    def distance(self, first, second):
        return 0.1 if first < second else 0.2 * (first != second)


class InPlaceMutation(DigitSpace):
    def mutate(self, genome, rng, operator=None):
        genome[0] = (genome[0] + 1) % 3
        return genome


class NoMutation(DigitSpace):
    def mutate(self, genome, rng, operator=None):
        return genome


class InvalidMutation(DigitSpace):
    def mutate(self, genome, rng, operator=None):
        return [*genome, 0]


class OneChild(DigitSpace):
    def crossover(self, first, second, rng):
        return first


class InPlaceCrossover(DigitSpace):
    def crossover(self, first, second, rng):
        first[0], second[0] = 2, 0
        return first, second


class CollapsingCanonical(DigitSpace):
    def canonical(self, genome):
        return "same"


class SetDescription(Full):
    def describe(self):
        return {"length": {1}}


class InvalidInitial(Full):
    def initial(self, rng):
        return [[7]]


class MoodyMutation(Full):
    def mutate_informed(self, genome, rng, operator, details):
        return [random.randrange(3) for _ in genome]


class InformedInPlace(Full):
    def mutate_informed(self, genome, rng, operator, details):
        genome[0] = (genome[0] + 1) % 3
        return genome


class TooFewWeights(Full):
    def feature_weights(self):
        return np.ones(self.length - 1)


class InfiniteWeight(Full):
    def feature_weights(self):
        return np.full(self.length, np.inf)


class CostOfSome(DigitSpace):
    def costs(self, genome):
        return super().costs(genome) if sum(genome) % 2 else {}


class CostNotOfMutants(DigitSpace):
    """Prices what was sampled and no genome that ends in a 2, which only mutation and crossover make."""

    def sample(self, rng):
        return [*super().sample(rng)[:-1], 0]

    def costs(self, genome):
        return {} if genome[-1] == 2 else super().costs(genome)


class InfiniteFeature(DigitSpace):
    def features(self, genome):
        return np.array([*genome, np.inf])


class FeaturesOfDifferentLengths(DigitSpace):
    def features(self, genome):
        return np.array([digit for digit in genome if digit], dtype=np.float64)


class LongerFeaturesOfMutants(DigitSpace):
    def sample(self, rng):
        return [*super().sample(rng)[:-1], 0]

    def features(self, genome):
        return np.array([*genome] + [1] * genome[-1], dtype=np.float64)


class NoWeight(Full):
    def feature_weights(self):
        return np.zeros(self.length)


class OtherFeatures(Full):
    def features_many(self, genomes):
        return np.zeros((len(genomes), self.length))


@pytest.mark.parametrize(
    ("space", "rule"),
    [
        (Unnamed, "space.name"),
        (OneOperatorString, "space.operators"),
        (GlobalRandomness, "sample must take all its randomness"),
        (InvalidSample, r"sample\(rng\) must return a genome that validate accepts"),
        (NumpyJson, "to_json must return plain JSON"),
        (ForgetfulJson, "from_json must give back"),
        (IntegerFeatures, "float64"),
        (InfiniteCost, "finite"),
        (DriftingCost, "costs must be the same each time"),
        (FarDistance, r"distance must lie in \[0, 1\]"),
        (LopsidedDistance, "symmetric"),
        (InPlaceMutation, "leave its argument"),
        (NoMutation, "mutate must change"),
        (InvalidMutation, "mutate.* must return a genome that validate accepts"),
        (OneChild, "two genomes"),
        (InPlaceCrossover, "leave its arguments"),
        (CollapsingCanonical, "one candidate"),
        (SetDescription, "describe must return plain JSON"),
        (InvalidInitial, "initial"),
        (MoodyMutation, "mutate_informed.* must take all its randomness"),
        (InformedInPlace, "mutate_informed.* must leave its argument"),
        (OtherFeatures, "features_many"),
        (TooFewWeights, "feature_weights"),
        (NoWeight, "feature_weights"),
        (InfiniteWeight, "feature_weights"),
        (CostOfSome, r"costs must have the same names.*\['cost'\]"),
        (CostNotOfMutants, "costs must have the same names"),
        (InfiniteFeature, "features must be finite"),
        (FeaturesOfDifferentLengths, "features must have the same length"),
        (LongerFeaturesOfMutants, "features must have the same length"),
    ],
)
def test_a_broken_rule_is_named(space, rule):
    with pytest.raises(AssertionError, match=rule):
        check_space(space())


@pytest.mark.parametrize("method", ["sample", "crossover", "from_json"])
def test_a_missing_method_is_named(method):
    broken = type("Broken", (DigitSpace,), {method: None})
    with pytest.raises(AssertionError, match=f"space.{method} must be a method"):
        check_space(broken())
