"""What votes say: Bradley-Terry scores against known cases, ratings, and the preference made of both."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import t

from evodiff.deployment.feedback.preferences import bradley_terry, preferences, shrunk_ratings
from evodiff.deployment.feedback.votes import Vote, VoteKind


def compared(first: str, second: str, share: float, source: object, subject: object = 0) -> Vote:
    return Vote(
        rater=str(source),
        source=str(source),
        subject=f"{subject}-{first}-{second}",
        kind=VoteKind.COMPARISON,
        version=first,
        other=second,
        value=share,
        at=0.0,
    )


def rated(version: str, value: float, source: object, subject: object = 0) -> Vote:
    return Vote(str(source), str(source), f"{subject}-{version}", VoteKind.RATING, version, 0.0, value)


def wins(first: str, second: str, won: int, lost: int, tied: int = 0, prefix: str = "s") -> list[Vote]:
    shares = [1.0] * won + [0.0] * lost + [0.5] * tied
    return [compared(first, second, share, f"{prefix}{number}") for number, share in enumerate(shares)]


def test_many_raters_take_memory_by_their_number_and_not_by_its_square() -> None:
    votes = wins("new", "old", 15_000, 5_000)
    tracemalloc.start()
    found = bradley_terry(votes, "old")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["new"].score == pytest.approx(math.log(3), abs=0.01)
    assert peak < 100e6  # bytes; their square would be 3.2e9


@pytest.mark.parametrize(("won", "lost", "tied"), [(30, 10, 0), (3, 9, 0), (5, 5, 0), (6, 2, 4), (0, 0, 6)])
def test_two_versions_have_the_log_odds_of_their_wins_ties_being_half(won: int, lost: int, tied: int) -> None:
    found = bradley_terry(wins("new", "old", won, lost, tied), "old", penalty=0)
    share = (won + tied / 2) / (won + lost + tied)
    assert found["new"].score == pytest.approx(math.log(share / (1 - share)), abs=1e-9)
    assert (found["old"].score, found["old"].low, found["old"].high) == (0, 0, 0)
    assert found["new"].raters == found["new"].comparisons == won + lost + tied


def test_the_interval_of_two_versions_is_that_of_a_share_by_students_t() -> None:
    found = bradley_terry(wins("new", "old", 30, 10), "old", penalty=0)["new"]
    share, count = 0.75, 40
    error = math.sqrt(1 / (count * share * (1 - share)) * count / (count - 1))  # sandwich, with its correction
    assert found.high - found.score == pytest.approx(float(t.ppf(0.975, count - 1)) * error)
    assert found.low + found.high == pytest.approx(2 * found.score)


def test_scores_are_the_maximum_that_a_general_optimiser_finds() -> None:
    rng = np.random.default_rng(0)
    truth = {"a": 0.0, "b": 1.0, "c": -0.7, "d": 0.3}
    votes = []
    for number in range(300):
        first, second = rng.choice(list(truth), 2, replace=False)
        chance = 1 / (1 + math.exp(truth[second] - truth[first]))
        votes.append(compared(first, second, float(rng.random() < chance), number))
    others = ["b", "c", "d"]

    def loss(scores: Any) -> float:
        by_name = {"a": 0.0, **dict(zip(others, scores, strict=True))}
        gaps = np.array([by_name[v.version] - by_name[v.other] for v in votes])
        shares = np.array([v.value for v in votes])
        return float(np.sum(np.logaddexp(0, gaps) - shares * gaps) + 0.5 * np.sum(scores**2))

    expected = minimize(loss, np.zeros(3), tol=1e-12).x
    found = bradley_terry(votes, "a")
    assert [found[name].score for name in others] == pytest.approx(expected, abs=1e-4)
    assert all(found[name].low < truth[name] < found[name].high for name in others)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng, covered, runs = np.random.default_rng(1), 0, 300
    mean = np.mean(1 / (1 + np.exp(-np.random.default_rng(2).normal(0.8, 1.0, 1_000_000))))
    marginal = math.log(mean / (1 - mean))  # the log odds of a vote from a source drawn at random
    for _ in range(runs):
        # 25 sources with tastes of their own: votes of one are alike, and must not count as many
        tastes = 0.8 + rng.normal(0, 1.0, 25)
        votes = [
            compared(*pair, float(rng.random() < chance), source, number)
            for source, taste in enumerate(tastes)
            for number, (pair, chance) in enumerate(
                [
                    (("new", "old"), 1 / (1 + math.exp(-taste))),
                    (("third", "old"), 0.5),
                    (("new", "third"), 1 / (1 + math.exp(-taste))),
                ]
            )
        ]
        found = bradley_terry(votes, "old", penalty=1e-6)["new"]
        covered += found.low <= marginal <= found.high
    assert covered / runs >= 0.93


def test_a_version_that_always_wins_has_a_finite_score_that_grows_with_votes() -> None:
    scores = []
    for count in (1, 5, 50):
        found = bradley_terry(wins("new", "old", count, 0), "old")["new"]
        assert found.score == pytest.approx(count * (1 - 1 / (1 + math.exp(-found.score))), abs=1e-8)  # its equation
        assert found.low < found.score < found.high
        scores.append(found.score)
    assert scores == sorted(scores)
    assert scores[-1] < 10
    assert math.isfinite(bradley_terry(wins("new", "old", 5, 0), "old", penalty=0)["new"].score)


def test_versions_that_no_vote_connects_with_the_reference_have_no_score() -> None:
    votes = wins("b", "a", 3, 1) + wins("c", "b", 2, 2) + wins("x", "y", 4, 1)
    assert set(bradley_terry(votes, "a")) == {"a", "b", "c"}
    assert set(bradley_terry(votes, "x")) == {"x", "y"}
    assert bradley_terry(votes, "z") == {}
    assert bradley_terry([], "a") == {}
    alone = bradley_terry(wins("b", "a", 3, 1) + wins("c", "b", 2, 2), "a")
    assert bradley_terry(votes, "a") == alone  # the others' votes are no part of it


def test_versions_are_compared_through_the_champion() -> None:
    votes = wins("new", "champion", 15, 5) + wins("old", "champion", 5, 15, prefix="t")
    found = bradley_terry(votes, "champion")
    assert found["new"].score == pytest.approx(-found["old"].score, abs=1e-9)
    assert found["new"].score > 0.5


def test_a_flood_of_votes_from_one_source_counts_as_one() -> None:
    honest = wins("new", "old", 4, 6)
    once = [*honest, compared("new", "old", 1.0, "flood")]
    flood = [*honest, *(compared("new", "old", 1.0, "flood", number) for number in range(500))]
    assert bradley_terry(flood, "old") == bradley_terry(once, "old")
    assert preferences(flood, "old") == preferences(once, "old")
    rating_flood = [rated("new", 5, "flood", number) for number in range(500)]
    others = [rated("new", 2, source) for source in range(5)] + [rated("old", 3, source) for source in range(5)]
    assert shrunk_ratings(others + rating_flood) == shrunk_ratings([*others, rated("new", 5, "flood")])


def test_a_flood_alone_moves_nothing() -> None:
    flood = [compared("new", "old", 1.0, "flood", number) for number in range(500)]
    flood += [rated("new", 5, "flood", number) for number in range(500)]
    assert preferences(flood, "old") == {}
    two = [*flood, compared("new", "old", 1.0, "friend")]
    assert preferences(two, "old") == {}
    assert set(preferences([*two, compared("new", "old", 0.0, "stranger")], "old")) == {"new", "old"}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.sampled_from("abcd"), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5)
        ).filter(lambda item: item[0] != item[1]),
        max_size=40,
    )
)
def test_whatever_the_votes_who_is_named_first_makes_no_difference(
    given_votes: list[tuple[str, str, float, int]],
) -> None:
    votes = [compared(a, b, share, source, number) for number, (a, b, share, source) in enumerate(given_votes)]
    turned = [compared(b, a, 1 - share, source, number) for number, (a, b, share, source) in enumerate(given_votes)]
    found, mirrored = bradley_terry(votes, "a"), bradley_terry(turned, "a")
    assert found.keys() == mirrored.keys()
    for name, score in found.items():
        assert score.score == pytest.approx(mirrored[name].score, abs=1e-6)
        assert score.low <= score.score <= score.high
        assert math.isfinite(score.high - score.low)
    for item in preferences(votes, "a", fewest=1).values():
        assert -1 <= item.value <= 1


def test_ratings_are_shrunk_towards_the_mean_of_all_and_less_the_more_raters() -> None:
    votes = (
        [rated("a", 5, s) for s in range(3)]
        + [rated("b", 5, s) for s in range(30)]
        + [rated("c", 2, s) for s in range(9)]
    )
    found = shrunk_ratings(votes)
    assert {name: item.mean for name, item in found.items()} == {"a": 5, "b": 5, "c": 2}
    assert found["a"].shrunk == pytest.approx((3 * 5 + 5 * 4) / 8)
    assert found["c"].shrunk < 4 < found["a"].shrunk < found["b"].shrunk < 5
    assert shrunk_ratings([]) == {}


def test_preferences_are_of_both_kinds_weighted_by_raters() -> None:
    ratings = [rated("new", 5, s) for s in range(4)] + [rated("old", 3, s) for s in range(4)]
    by_rating = preferences(ratings, None)
    assert by_rating["new"].value == pytest.approx((4 * 5 + 5 * 4) / 9 / 2 - 2)
    assert by_rating["old"].value == pytest.approx(-by_rating["new"].value)
    compared_too = preferences([*ratings, *wins("new", "old", 0, 12)], "old")
    score = compared_too["new"].score
    assert score is not None
    expected = (4 * by_rating["new"].value + 12 * math.tanh(score.score / 2)) / 16
    assert compared_too["new"].value == pytest.approx(expected)
    assert preferences(wins("new", "old", 12, 0), None) == {}  # comparisons need something to be told against
