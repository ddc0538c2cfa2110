"""Votes in their file: one for each rater and request, so many a day, kept under several threads and processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from evodiff.deployment.feedback.store import (
    AlreadyVoted,
    Comparison,
    FeedbackStore,
    StoreLimits,
    TooManyVotes,
    UnknownComparison,
)
from evodiff.deployment.feedback.votes import Vote, VoteKind
from evodiff.errors import EvodiffError, SettingsError


def rating(subject: str = "r0", rater: str = "ann", **changes: Any) -> Vote:
    values: dict[str, Any] = {"version": "run/a", "kind": VoteKind.RATING, "value": 4.0, "at": 1000.0, "source": rater}
    return Vote(rater=rater, subject=subject, **(values | changes))


def shown(name: str, source: str = "home", at: float = 1000.0) -> Comparison:
    return Comparison(name, source, "run/a", "run/b", "7/3", at)


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "votes" / "feedback.sqlite")


def test_votes_come_back_as_they_were_given_and_outlive_the_process(store: FeedbackStore) -> None:
    votes = [
        rating(arm="canary", rollout="r1"),
        rating("r1", kind=VoteKind.ERROR, value=None, text="grey; '); DROP TABLE votes; --\u2028"),
        rating("r2", kind=VoteKind.COMPARISON, value=0.5, other="run/b"),
    ]
    for vote in votes:
        store.add(vote)
    name = store.pseudonym("ann")
    store.close()
    again = FeedbackStore(store.path)
    assert again.votes() == votes
    assert again.pseudonym("ann") == name
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_pseudonyms_of_two_services_have_nothing_in_common(store: FeedbackStore, tmp_path: Path) -> None:
    other = FeedbackStore(tmp_path / "other.sqlite")
    assert store.pseudonym("ann") != other.pseudonym("ann")
    assert store.pseudonym("ann") != store.pseudonym("bob")


def test_a_rater_has_one_vote_of_each_kind_on_a_request_and_the_first_stands(store: FeedbackStore) -> None:
    store.add(rating(value=5.0))
    with pytest.raises(AlreadyVoted):
        store.add(rating(value=1.0, at=2000.0))
    store.add(rating(rater="bob", value=2.0))
    store.add(rating(kind=VoteKind.ERROR, value=None, text="slow"))
    assert [vote.value for vote in store.votes()] == [5.0, 2.0, None]


def test_a_source_has_so_many_votes_a_day_whatever_its_raters_are_called(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", StoreLimits(votes_a_day=3))
    for number in range(3):
        store.add(rating(f"r{number}", rater=f"cookie{number}", source="home"))
    with pytest.raises(TooManyVotes):
        store.add(rating("r3", rater="cookie3", source="home"))
    store.add(rating("r3", rater="elsewhere"))
    store.add(rating("r4", rater="cookie4", source="home", at=1000.0 + 86401))
    assert len(store.votes()) == 5


def test_the_oldest_votes_go_when_there_are_too_many(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", StoreLimits(votes=10))
    for number in range(25):
        store.add(rating(f"r{number}"))
    assert [vote.subject for vote in store.votes()] == [f"r{number}" for number in range(15, 25)]


def test_a_comparison_is_voted_on_once(store: FeedbackStore) -> None:
    store.show(shown("c1"))
    assert store.shown("c1") == shown("c1")
    vote = store.decide("c1", "cookie", 0.0, 1001.0)
    assert (vote.version, vote.other, vote.value, vote.source, vote.rater) == ("run/a", "run/b", 0.0, "home", "cookie")
    assert store.votes() == [vote]
    for name in ("c1", "c2"):
        with pytest.raises(UnknownComparison):
            store.decide(name, "cookie", 1.0, 1002.0)
    assert store.shown("c1") is None


def test_a_vote_that_is_refused_leaves_its_comparison_waiting(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", StoreLimits(votes_a_day=0))
    store.show(shown("c1"))
    with pytest.raises(TooManyVotes):
        store.decide("c1", "cookie", 1.0, 1001.0)
    assert store.shown("c1") is not None


def test_who_asks_for_many_comparisons_pushes_out_its_own(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", StoreLimits(comparisons=6, comparisons_of_source=2))
    store.show(shown("mine", "away"))
    for number in range(20):
        store.show(shown(f"c{number:02d}", at=1001.0 + number))
    waiting = [name for name in ("mine", *(f"c{n:02d}" for n in range(20))) if store.shown(name)]
    assert waiting == ["mine", "c18", "c19"]
    for number in range(20):
        store.show(shown(f"d{number}", f"source{number}", at=2000.0 + number))
    assert sum(store.shown(f"d{number}") is not None for number in range(20)) == 6


def test_votes_of_several_threads_are_all_kept_and_twins_are_one(store: FeedbackStore) -> None:
    def vote(number: int) -> bool:
        try:
            store.add(rating(f"r{number // 2}", rater=f"rater{number // 2}"))
        except AlreadyVoted:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(vote, range(400)))
    assert sum(kept) == 200
    assert len({vote.subject for vote in store.votes()}) == len(store.votes()) == 200


def test_votes_of_several_processes_are_all_kept(store: FeedbackStore) -> None:
    program = """
import sys
from evodiff.deployment.feedback.store import FeedbackStore
from evodiff.deployment.feedback.votes import Vote, VoteKind
store = FeedbackStore(sys.argv[1])
for number in range(100):
    store.add(Vote(sys.argv[2], sys.argv[2], f"r{number}", VoteKind.RATING, "run/a", 1000.0, 3.0))
"""
    processes = [subprocess.Popen([sys.executable, "-c", program, store.path, rater]) for rater in ("ann", "bob")]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert len(store.votes()) == 200


def test_what_was_measured_last_of_a_version_is_kept_of_so_many(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", StoreLimits(versions=2))
    for at, name in enumerate(("run/a", "run/b", "run/a", "run/c")):
        store.record_production(name, {"requests": at}, float(at))
    assert store.production() == {"run/a": {"requests": 2}, "run/c": {"requests": 3}}
    with pytest.raises(ValueError, match="JSON"):
        store.record_production("run/a", {"requests": float("nan")}, 5.0)


def test_a_store_of_a_newer_version_or_no_store_is_refused(store: FeedbackStore, tmp_path: Path) -> None:
    store.close()
    with sqlite3.connect(store.path) as database:
        database.execute("PRAGMA user_version = 7")
    with pytest.raises(EvodiffError, match="schema 1, found 7"):
        FeedbackStore(store.path)
    (tmp_path / "text").write_text("no database, " * 100)
    with pytest.raises(EvodiffError, match="Cannot open"):
        FeedbackStore(tmp_path / "text")


@pytest.mark.parametrize(
    "changes",
    [
        {"value": 6.0},
        {"value": 0.0},
        {"value": float("nan")},
        {"value": None},
        {"other": "run/b"},
        {"text": "more"},
        {"subject": ""},
        {"version": "v" * 301},
        {"at": float("inf")},
        {"kind": VoteKind.COMPARISON, "value": 0.5},
        {"kind": VoteKind.COMPARISON, "value": 0.7, "other": "run/b"},
        {"kind": VoteKind.COMPARISON, "value": 1.0, "other": "run/a"},
        {"kind": VoteKind.ERROR, "value": None},
        {"kind": VoteKind.ERROR, "value": 3.0, "text": "slow"},
        {"kind": VoteKind.ERROR, "value": None, "text": "s" * 1001},
    ],
)
def test_what_is_no_vote_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="No vote"):
        rating(**({"subject": "r0"} | changes))
