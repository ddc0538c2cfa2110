"""What a space says of genomes is checked where it enters: the error names the method, what was expected and found."""

from __future__ import annotations

import numpy as np
import pytest
from toy_space import DigitSpace, close, evolution

from evodiff.engine.knowledge import costs_of, feature_weights, features_of
from evodiff.errors import SettingsError

GENOMES = [[0, 1, 2, 0, 1, 2], [1, 1, 1, 1, 1, 1]]


class Many(DigitSpace):
    def features_many(self, genomes):
        return np.array(genomes, dtype=np.float64)

    def feature_weights(self):
        return np.arange(self.length)


def test_features_weights_and_costs_are_those_of_the_space():
    for space in (DigitSpace(), Many()):
        assert features_of(space, GENOMES).tolist() == GENOMES
        assert features_of(space, GENOMES, 6).dtype == np.float64
    assert feature_weights(DigitSpace(), 6) is None
    assert feature_weights(Many(), 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert costs_of(DigitSpace(), GENOMES[0], ["cost"]) == {"cost": 6.0}


class Ragged(DigitSpace):
    def features(self, genome):
        return np.array([digit for digit in genome if digit], dtype=np.float64)


class Unfinished(DigitSpace):
    def features(self, genome):
        return np.array([*genome[:-1], np.nan])


class Endless(Many):
    def features_many(self, genomes):
        return np.full((len(genomes), self.length), np.inf)


class TooMany(Many):
    def features_many(self, genomes):
        return np.ones((len(genomes) + 1, self.length))


class Longer(DigitSpace):
    def features(self, genome):
        return np.ones(self.length + (genome[0] == 2))


class TooManyWeights(DigitSpace):
    def feature_weights(self):
        return np.ones(self.length + 1)


class TooFewWeights(DigitSpace):
    def feature_weights(self):
        return np.ones(self.length - 1)


class NotAWeight(DigitSpace):
    def feature_weights(self):
        return [1.0, "heavy"]


class EndlessWeight(DigitSpace):
    def feature_weights(self):
        return np.array([np.inf] + [1.0] * (self.length - 1))


class CostOfSome(DigitSpace):
    def costs(self, genome):
        return {} if genome[0] == 2 else super().costs(genome)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (Ragged, r"digits\.features to return .* shape \(\d+, d\), found rows of the shapes \[\(\d,\), "),
        (Unfinished, r"digits\.features to return finite numbers .*, found nan at \(0, 5\)"),
        (Endless, r"digits\.features_many to return finite numbers .*, found inf at \(0, 0\)"),
        (TooMany, r"digits\.features_many to return .* shape \(\d+, d\), found the shape \(\d+, 6\)"),
        (Longer, r"digits\.features to return .* shape \(\d+, [67d]\), found .*7"),
        (TooManyWeights, r"digits\.feature_weights to return .* shape \(6,\), found the shape \(7,\)"),
        (TooFewWeights, r"digits\.feature_weights to return .* shape \(6,\), found the shape \(5,\)"),
        (NotAWeight, r"digits\.feature_weights to return .* shape \(6,\), found rows of the shapes"),
        (EndlessWeight, r"digits\.feature_weights to return finite numbers .*, found inf at \(0,\)"),
        (CostOfSome, r"digits\.costs to have 'cost' for every genome, as for others of this run, found nothing for 2"),
    ],
)
def test_a_search_over_a_space_that_breaks_a_rule_says_which(space, said):
    class Told(space):
        """The first genomes of all have costs."""

        def sample(self, rng):
            return [0, *super().sample(rng)[1:]] if space is CostOfSome else super().sample(rng)

    search = evolution(space=Told(), population_size=20)
    with pytest.raises(SettingsError, match=f"{said}.*check_space"):
        close(search, 3)
