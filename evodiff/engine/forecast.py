"""What is known or predicted of genomes that were never trained, in units for :mod:`evodiff.engine.acquisition`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np

from evodiff.engine.acquisition import PLACES
from evodiff.engine.extrapolation import extrapolated
from evodiff.engine.knowledge import costs_of, feature_weights, features_of
from evodiff.engine.selection import nondominated
from evodiff.engine.surrogate import Place, Surrogate, Warp, geometries, rank_correlation
from evodiff.engine.zero_cost import ScoreColumns, scores_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evodiff.engine.fitness import FitnessBox
    from evodiff.engine.history import History
    from evodiff.engine.space import SearchSpace

    Floats = NDArray[np.float64]

G = TypeVar("G")

BEYOND = 0.5
FOLDS: Final = 5


@dataclass(frozen=True)
class Described:
    """What is known of n genomes: their place in each geometry, and ``costs``, (n, m), NaN where to be predicted.

    ``beyond``, (n,), says who has a feature more than a deviation beyond the range of those that models learn from.
    """

    places: tuple[Place, ...]
    costs: Floats
    beyond: NDArray[np.bool_]

    def __getitem__(self, chosen: NDArray[np.int64]) -> Described:
        """Return the rows ``chosen``."""
        return Described(tuple(place[chosen] for place in self.places), self.costs[chosen], self.beyond[chosen])

    @classmethod
    def joined(cls, parts: Sequence[Described]) -> Described:
        """Return one or more, one after the other."""
        places = zip(*(part.places for part in parts), strict=True)
        costs, beyond = (np.concatenate([getattr(part, name) for part in parts]) for name in ("costs", "beyond"))
        return cls(tuple(map(Place.joined, places)), costs, beyond)


@dataclass(frozen=True)
class Forecast:
    """What is predicted of n genomes: ``mean``, (n, m), and ``deviations``, (n,) each, by index of the objective.

    In units of the front's span, 0 at the reference point.
    """

    mean: Floats
    deviations: Mapping[int, Floats]

    def __getitem__(self, chosen: NDArray[np.int64]) -> Forecast:
        """Return the rows ``chosen``."""
        return Forecast(self.mean[chosen], {index: item[chosen] for index, item in self.deviations.items()})

    @classmethod
    def joined(cls, parts: Sequence[Forecast]) -> Forecast:
        """Return one or more, one after the other."""
        deviations = {
            index: np.concatenate([part.deviations[index] for part in parts]) for index in parts[0].deviations
        }
        return cls(np.concatenate([part.mean for part in parts]), deviations)


class Forecaster(Generic[G]):
    """A model for each objective that ``space.costs`` does not supply, and the front they are to enlarge.

    The front is that of what the models expect of the evaluated, not of the values that came: where these are noisy,
    the best of them are whoever was lucky, and nothing that is honestly predicted would enlarge their front (expected
    improvement with a plug-in; Picheny et al. 2013, section 3.2). Without noise both are nearly the same.

    Args:
        history: closed generations.
        space: the space of the generation to plan.
        evaluated: ids of the candidates to learn from, one of them feasible at least.
        scored: whether the models see the zero-cost scores of the space beside its features.
    """

    def __init__(
        self, history: History[G], space: SearchSpace[G], evaluated: Sequence[str], *, scored: bool = False
    ) -> None:
        self._space = space
        self._objectives = history.objectives
        self._signs = np.array([-1.0 if objective.maximise else 1.0 for objective in history.objectives])
        told = extrapolated(history, evaluated)
        names, values, violations = told.candidates, told.values, told.violations
        known = space.costs(history.genome(evaluated[0]))
        # The rung is one feature more, and what is forecast is the highest one that was reached.
        self._rungs = told.rungs
        self._highest = float(self._rungs[violations == 0].max())
        # Who failed, or breaks a constraint, is as bad as the worst: what is like it is not worth a training.
        values[violations > 0] = values[violations == 0].max(axis=0)
        features = history.features(names)
        weights = feature_weights(space, features.shape[1])
        deviation = features.std(axis=0)
        self._range = features.min(axis=0) - deviation, features.max(axis=0) + deviation
        self._columns = ScoreColumns(history.scores(evaluated)) if scored else None
        if self._columns is not None:
            features = np.hstack([features, self._columns(history.scores(names))])
        self._features, self._values = np.column_stack([features, self._rungs]), values
        self._weights = np.ones(self._features.shape[1])
        if weights is not None:
            self._weights[: len(weights)] = weights  # then come scores, and the rung
        seen = geometries(self._features, self._weights)
        self.models = {
            index: Surrogate(seen, values[:, index])
            for index, objective in enumerate(history.objectives)
            if objective.name not in known
        }
        self._geometries = [item for item in seen if any(model.geometry is item for model in self.models.values())]
        self._warps = [
            self.models[index].warp if index in self.models else Warp(values[:, index])
            for index in range(len(history.objectives))
        ]
        warped = np.column_stack([warp(values[:, index]) for index, warp in enumerate(self._warps)])
        for index, model in self.models.items():
            warped[:, index] = np.round(model.smoothed(), PLACES)  # else the last bits say who dominates whom
        highest = self._rungs == self._highest
        front = warped[highest][nondominated(warped[highest], violations[highest])]
        self._reference = self._find_reference(front, history.box)
        self._span = np.maximum(self._reference - front.min(axis=0), 1e-9)
        self.front = (front - self._reference) / self._span

    @property
    def noises(self) -> dict[int, float]:
        """Variance of one more evaluation, by index of the objective."""
        return {index: model.noise / self._span[index] ** 2 for index, model in self.models.items()}

    def rank_correlations(self) -> list[float]:
        """Return Kendall's tau of each model, between what it predicts of an evaluation left out and its value.

        Among those on the rung that most were tried on.
        """
        most = self._on_most_tried_rung()
        return [
            rank_correlation(np.round(model.left_out()[most], PLACES), np.round(model.values[most], PLACES))
            for model in self.models.values()
        ]

    def ranks_better(self, other: Forecaster[G]) -> bool:
        """Whether such models rank those they have not seen better than those of ``other``, over all objectives.

        By :func:`predict_folds`. Kernel and scale of :meth:`rank_correlations` saw who is left out: among many features
        of few evaluations that alone makes columns which say nothing look good.
        """
        gains = np.subtract(self._fold_correlations(), other._fold_correlations())
        return round(float(gains.sum()), PLACES) > 0

    def _fold_correlations(self) -> list[float]:
        most = self._on_most_tried_rung()
        columns = [self._values[:, index] for index in self.models]
        return [
            rank_correlation(
                np.round(predict_folds(self._features, item, weights=self._weights), PLACES)[most], item[most]
            )
            for item in columns
        ]

    def _on_most_tried_rung(self) -> NDArray[np.bool_]:
        rungs, counts = np.unique(self._rungs, return_counts=True)
        most: NDArray[np.bool_] = self._rungs == rungs[np.argmax(counts)]
        return most

    def _find_reference(self, front: Floats, box: FitnessBox | None) -> Floats:
        """Return the reference point, (m,), warped: that of the run's frozen box, or beyond it, where the front is.

        In what has to be trained for, half of the way there: the ends of a front are worth a look, and poor quality is
        worth little. All of the way, where the box alone is reported, costs tables .002 to .004 of their hypervolume;
        none of it loses the corners of DTLZ2.
        """
        worst: Floats = front.max(axis=0) + 0.1 * np.ptp(front, axis=0)
        if box is None:
            return worst
        for index, objective in enumerate(self._objectives):
            frozen = self._warps[index](self._signs[index : index + 1] * box.reference[objective.name])[0]
            beyond = max(0.0, worst[index] - frozen)
            worst[index] = frozen + (BEYOND if index in self.models else 1.0) * beyond
        return worst

    def describe(self, genomes: Sequence[G]) -> Described:
        """Return what is known of genomes without training; all that takes time for each of them."""
        costs = np.full((len(genomes), len(self._objectives)), np.nan)
        if len(self.models) < len(self._objectives):
            priced = {index: item.name for index, item in enumerate(self._objectives) if index not in self.models}
            for row, genome in enumerate(genomes):
                known = costs_of(self._space, genome, list(priced.values()))
                for index, name in priced.items():
                    costs[row, index] = self._signs[index] * known[name]
        low, high = self._range
        features = features_of(self._space, genomes, len(low))
        beyond = ((features < low) | (features > high)).any(axis=1)
        if self._columns is not None:
            features = np.hstack([features, self._columns(scores_of(self._space, genomes))])
        features = np.column_stack([features, np.full(len(genomes), self._highest)])
        return Described(tuple(geometry.place(features) for geometry in self._geometries), costs, beyond)

    def forecast(self, described: Described) -> Forecast:
        """Return what is predicted of genomes, or known."""
        warped, deviations = np.empty_like(described.costs), {}
        for index, warp in enumerate(self._warps):
            if index in self.models:
                warped[:, index], deviation = self.models[index].predict(self._place(described, index))
                deviations[index] = deviation / self._span[index]
            else:
                warped[:, index] = warp(described.costs[:, index])
        return Forecast((warped - self._reference) / self._span, deviations)

    def covariances(self, described: Described) -> dict[int, Floats]:
        """Return how the predictions of genomes vary together, an (n, n) array by index of the objective."""
        return {
            index: model.covariance(self._place(described, index)) / self._span[index] ** 2
            for index, model in self.models.items()
        }

    def _place(self, described: Described, index: int) -> Place:
        """Return where genomes lie as the model of an objective sees them."""
        seen = [geometry is self.models[index].geometry for geometry in self._geometries]
        return described.places[seen.index(True)]

    def predicted(self, mean: Floats) -> dict[str, float]:
        """Return a predicted point, (m,), in the objectives' own units, to six digits; what is known is left out."""
        warped = mean * self._span + self._reference
        return {
            self._objectives[index].name: float(
                f"{self._signs[index] * float(self._warps[index].inverse(warped[index])):.6g}"
            )
            for index in self.models
        }


def predict_folds(features: Floats, values: Floats, folds: int = FOLDS, weights: Floats | None = None) -> Floats:
    """Return what models that never saw it predict of each value, (n,): every ``folds``-th is left out at a time."""
    predicted = np.empty(len(values))
    for fold in range(folds):
        left = np.arange(len(values)) % folds == fold
        model = Surrogate(geometries(features[~left], weights), values[~left])
        predicted[left] = model.warp.inverse(model.predict(model.geometry.place(features[left]))[0])
    return predicted
