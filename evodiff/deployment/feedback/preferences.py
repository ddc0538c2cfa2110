"""What votes say: Bradley-Terry scores of versions, their ratings, and one preference for each from both.

The unit is a source of votes (:class:`~evodiff.deployment.feedback.votes.Vote`), never a vote: whoever votes a hundred
times on the same two versions counts once, with the mean of what was said.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Final

import numpy as np

from evodiff.deployment.feedback.votes import VoteKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from evodiff.deployment.feedback.votes import Vote

    Floats = NDArray[np.float64]

CONFIDENCE: Final = 0.95
PENALTY: Final = 1.0  # a standard normal prior of each score
PRIOR_RATERS: Final = 5.0  # as many raters of the mean opinion are added to a version's own
FEWEST_RATERS: Final = 3  # of a version; what fewer say is no preference

_ITERATIONS = 100
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Score:
    """A version's Bradley-Terry ``score``: the log odds that it is preferred to the reference, which has 0.

    ``low`` and ``high`` are its interval; ``raters`` is how many sources compared it, ``comparisons`` how many pairs of
    a source and a rival that were.
    """

    score: float
    low: float
    high: float
    raters: int
    comparisons: int


@dataclass(frozen=True)
class Rating:
    """The ``mean`` rating of a version, 1 to 5, over ``raters``; ``shrunk`` towards the mean of all versions."""

    mean: float
    shrunk: float
    raters: int


@dataclass(frozen=True)
class Preference:
    """How a version is preferred, ``value`` in [-1, 1], and what that rests on."""

    value: float
    raters: int
    score: Score | None
    rating: Rating | None


def bradley_terry(
    votes: Iterable[Vote], reference: str, *, penalty: float = PENALTY, confidence: float = CONFIDENCE
) -> dict[str, Score]:
    """Return the scores of those versions that votes connect with the ``reference``; none where it was not compared.

    The likelihood of the Bradley-Terry model, less ``penalty``/2 times the squared scores, is maximised by Newton's
    method; a tie is half a win for each. The model: Bradley and Terry 1952; its fit: Hunter 2004, Ann. Stat. 32. With a
    penalty the scores are finite where a version won or lost always; 0 is the plain maximum, where it exists.

    The interval is by Student's t over sources, with the larger of two variances: the sandwich that is clustered by
    source (Liang and Zeger 1986), and the model's own, for few sources that agree make the first one too small.
    """
    wins = _wins(votes)
    versions = _connected(wins, reference)
    if not versions:
        return {}
    index = {version: place for place, version in enumerate(versions)}  # the reference is -1: its score is fixed
    rows = [
        (source, first, second, share)
        for (source, first, second), share in wins.items()
        if first in {*versions, reference}
    ]
    design, shares = np.zeros((len(rows), len(versions))), np.array([share for *_, share in rows])
    for row, (_, first, second, _) in enumerate(rows):
        for version, sign in ((first, 1.0), (second, -1.0)):
            if version != reference:
                design[row, index[version]] = sign
    scores, variances = _fit(design, shares, [source for source, *_ in rows], penalty)
    half = _quantile(confidence, len({source for source, *_ in rows}) - 1) * np.sqrt(variances)
    found = {
        version: _score(version, rows, float(scores[place]), float(half[place])) for version, place in index.items()
    }
    return {reference: _score(reference, rows, 0.0, 0.0), **found}


def _score(version: str, rows: Sequence[tuple[str, str, str, float]], score: float, half: float) -> Score:
    compared = [source for source, first, second, _ in rows if version in (first, second)]
    return Score(score, score - half, score + half, len(set(compared)), len(compared))


def _wins(votes: Iterable[Vote]) -> dict[tuple[str, str, str], float]:
    """Return by source, version and rival, these in the order of their names, the mean share of the win."""
    shares: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for vote in votes:
        if vote.kind is VoteKind.COMPARISON and vote.value is not None:
            first, second = sorted((vote.version, vote.other))
            shares[vote.source, first, second].append(vote.value if first == vote.version else 1.0 - vote.value)
    return {key: fmean(found) for key, found in sorted(shares.items())}


def _connected(wins: Iterable[tuple[str, str, str]], reference: str) -> list[str]:
    """Return the versions, without the reference, that a chain of comparisons leads to from it."""
    rivals: dict[str, set[str]] = defaultdict(set)
    for _, first, second in wins:
        rivals[first].add(second)
        rivals[second].add(first)
    found, waiting = {reference}, [reference]
    while waiting:
        fresh = rivals[waiting.pop()] - found
        found |= fresh
        waiting += fresh
    return sorted(found - {reference})


def _fit(design: Floats, shares: Floats, sources: Sequence[str], penalty: float) -> tuple[Floats, Floats]:
    """Return scores and their variances, each (versions,), from an (n, versions) design and (n,) shares of the win."""
    scores = np.zeros(design.shape[1])
    identity = np.eye(len(scores))

    def chances() -> Floats:
        return 1.0 / (1.0 + np.exp(-np.clip(design @ scores, -500, 500)))

    for _ in range(_ITERATIONS):
        won = chances()
        gradient = design.T @ (shares - won) - penalty * scores
        information = design.T @ (design * (won * (1 - won))[:, None]) + penalty * identity
        step = np.linalg.lstsq(information, gradient, rcond=None)[0]
        scores = scores + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))  # a far step overshoots
        if np.abs(step).max() < _TOLERANCE:
            break
    won = chances()
    inverse = np.linalg.pinv(design.T @ (design * (won * (1 - won))[:, None]) + penalty * identity)
    names, clusters = np.unique(np.array(sources), return_inverse=True)
    gradients = np.zeros((len(names), len(scores)))
    np.add.at(gradients, clusters, design * (shares - won)[:, None])
    correction = len(names) / max(1, len(names) - 1)
    sandwich = correction * inverse @ (gradients.T @ gradients) @ inverse
    return scores, np.maximum(np.diag(sandwich), np.diag(inverse))


def _quantile(confidence: float, degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence / 2, max(1, degrees)))


def shrunk_ratings(votes: Iterable[Vote], prior_raters: float = PRIOR_RATERS) -> dict[str, Rating]:
    """Return the ratings of versions: a source counts once for each, with the mean of what it gave.

    The shrunk one is for display and for preferences: (n·mean + k·all) / (n + k) for n raters, with the mean of all
    versions, ``all``, standing for ``prior_raters`` k. What decides a rollout are ratings as they came.
    """
    given: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for vote in votes:
        if vote.kind is VoteKind.RATING and vote.value is not None:
            given[vote.version][vote.source].append(vote.value)
    means = {version: [fmean(values) for values in by_source.values()] for version, by_source in given.items()}
    if not means:
        return {}
    overall = fmean(fmean(values) for values in means.values())
    found = {}
    for version, values in sorted(means.items()):
        count, mean = len(values), fmean(values)
        found[version] = Rating(mean, (count * mean + prior_raters * overall) / (count + prior_raters), count)
    return found


def preferences(votes: Sequence[Vote], reference: str | None, *, fewest: int = FEWEST_RATERS) -> dict[str, Preference]:
    """Return how versions are preferred that at least ``fewest`` sources voted on.

    From comparisons it is the chance to be preferred to the reference, less that not to be: 2σ(score) - 1. From ratings
    it is by how much the shrunk rating is over the mean of all versions, in halves of the scale. A version that has
    both gets their mean, weighted by raters.
    """
    scores = {} if reference is None else bradley_terry(votes, reference)
    ratings = shrunk_ratings(votes)
    overall = fmean(rating.mean for rating in ratings.values()) if ratings else 0.0
    sources = _sources(votes)
    found = {}
    for version in sorted({*scores, *ratings}):
        score, rating = scores.get(version), ratings.get(version)
        parts = []
        if score is not None:
            parts.append((score.raters, math.tanh(score.score / 2)))
        if rating is not None:
            parts.append((rating.raters, max(-1.0, min(1.0, (rating.shrunk - overall) / 2))))
        if len(sources[version]) >= fewest:
            value = sum(count * part for count, part in parts) / sum(count for count, _ in parts)
            found[version] = Preference(value, len(sources[version]), score, rating)
    return found


def _sources(votes: Iterable[Vote]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for vote in votes:
        if vote.kind is not VoteKind.ERROR:
            for version in filter(None, (vote.version, vote.other)):
                found[version].add(vote.source)
    return found
