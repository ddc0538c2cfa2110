"""A file of votes that is locked, full or damaged: said so in time, nothing lost, and well again once it can be."""

from __future__ import annotations

import json
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from router_process import SIGNING_KEY, TOKENS, bearer
from test_feedback_store import rating, shown

from evodiff.deployment.feedback.routes import add_feedback_routes
from evodiff.deployment.feedback.store import FeedbackStore, StoreUnavailable
from evodiff.deployment.feedback.votes import VoteKind
from evodiff.deployment.release.assignment import arm_of
from evodiff.deployment.router.app import create_app
from evodiff.deployment.router.fleet import Fleet
from evodiff.deployment.settings import ServingSettings
from evodiff.deployment.web.signing import Signer
from evodiff.deployment.web.tokens import Tokens

WAIT_SECONDS = 0.1


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "feedback.sqlite", wait_seconds=WAIT_SECONDS)


@contextmanager
def locked(store: FeedbackStore) -> Iterator[None]:
    """Have another process's writer hold the file."""
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


@contextmanager
def full(store: FeedbackStore) -> Iterator[None]:
    """Let the file grow no more: INSERT fails."""
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    try:
        yield
    finally:
        store._connection.execute("PRAGMA max_page_count = 1000000")


@contextmanager
def disk_full(store: FeedbackStore) -> Iterator[None]:
    """Let no file of this process grow beyond the log that the store writes ahead: COMMIT fails."""
    log = store.path.with_name(f"{store.path.name}-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def long_error(number: int) -> Any:
    return rating(f"late{number}", kind=VoteKind.ERROR, value=None, text="x" * 1000)


WRITES: list[Callable[[FeedbackStore, int], Any]] = [
    lambda store, number: store.add(long_error(number)),
    lambda store, number: store.show(shown(f"late{number}" + "x" * 1000)),
    lambda store, number: store.record_production(f"late{number}", {"error": "x" * 1000}, 5.0),
]


@pytest.mark.parametrize("hinder", [locked, full, disk_full])
@pytest.mark.parametrize("write", WRITES, ids=["vote", "comparison", "production"])
def test_what_cannot_be_written_is_refused_whole_and_later_writes_go_on(
    store: FeedbackStore, write: Callable[[FeedbackStore, int], Any], hinder: Callable[[FeedbackStore], Any]
) -> None:
    store.add(rating())
    store.show(shown("c1"))
    kept = 0
    with hinder(store), pytest.raises(StoreUnavailable, match="cannot be read or written now") as refused:  # noqa: PT012
        for number in range(50):  # what is free on the last pages takes some
            write(store, number)
            kept += 1
    assert "free space" in refused.value.remedy
    assert kept < 50
    write(store, kept)
    store.decide("c1", "cookie", 1.0, 1001.0)
    with FeedbackStore(store.path) as again:
        assert again.votes() == store.votes()
        assert len(again.votes()) == 2 + (kept + 1) * (write is WRITES[0])
        assert len(again.production()) == (kept + 1) * (write is WRITES[2])


def test_a_store_that_is_locked_is_read_all_the_same(store: FeedbackStore) -> None:
    store.add(rating())
    store.show(shown("c1"))
    with locked(store):
        assert len(store.votes()) == 1
        assert store.shown("c1") is not None
        assert store.production() == {}


@pytest.mark.parametrize(
    "read", [FeedbackStore.votes, FeedbackStore.production, lambda store: store.shown("c1")], ids=["votes", "p", "c"]
)
def test_a_file_that_is_damaged_or_closed_is_told_of_at_reading(
    store: FeedbackStore, read: Callable[[FeedbackStore], Any]
) -> None:
    with sqlite3.connect(store.path) as database:
        for table in ("votes", "production", "comparisons"):
            database.execute(f"DROP TABLE {table}")
    with pytest.raises(StoreUnavailable, match="no such table"):
        read(store)
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        read(store)


def test_who_waits_for_a_thread_that_waits_gives_up_too(store: FeedbackStore) -> None:
    within, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with store._writing():
            within.set()
            enough.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert within.wait(60)
        with pytest.raises(StoreUnavailable, match="others hold it"):
            store.votes()
    finally:
        enough.set()
        holder.join()
    assert store.votes() == []


def test_a_store_that_cannot_be_opened_for_a_lock_is_no_other_error(store: FeedbackStore) -> None:
    store.close()
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StoreUnavailable, match="locked"):
            FeedbackStore(store.path, wait_seconds=WAIT_SECONDS)
    finally:
        holder.close()


def test_clients_are_told_to_come_again(store: FeedbackStore, tmp_path: Path) -> None:
    settings, tokens = ServingSettings(cache_dir=tmp_path), Tokens.from_json(json.dumps(TOKENS), "the test")
    fleet, signer = Fleet(settings, arm_of, runs_dir=tmp_path), Signer(SIGNING_KEY)
    groups = [lambda app: add_feedback_routes(app, store, tokens, signer)]
    app = create_app(fleet, tokens=tokens, signer=signer, settings=settings, groups=groups)
    about = signer.sign({"request": "r0", "version": "run/a", "arm": "stable", "rollout": ""})
    with TestClient(app, base_url="http://127.0.0.1:8090", headers=bearer()) as client:
        with locked(store):
            answer = client.post("/v1/feedback", json={"request": about, "rating": 4})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "Try again" in answer.json()["detail"]
        assert client.post("/v1/feedback", json={"request": about, "rating": 4}).status_code == 201
    fleet._cache.close()
