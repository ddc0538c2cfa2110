"""Ratings that a generation joins: they enter fitness and the draw of parents, and every decision can be made again."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_space import close, evolution, tree

from evodiff.engine import Evolution, prescreen
from evodiff.engine.forecast import Forecaster
from evodiff.engine.ratings import Ratings, joined_ratings
from evodiff.engine.selection import draw, tournament
from evodiff.errors import LedgerError

STRATEGIES = ("surrogate", "nsga2", "regularised")
SETTINGS = {"population_size": 12}


def rate(run, generation, preferences, weight=1.0):
    folder = run / f"generations/{generation:04d}/inputs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ratings.json").write_text(json.dumps({"weight": weight, "preferences": preferences}))


def rated_search(run, strategy, preferences=None, generations=2, **settings):
    """Search; the last generation but one joins ratings, so that the last one is planned by them."""
    search = close(evolution(run, strategy=strategy, **SETTINGS, **settings), generations - 1)
    if preferences is not None:
        rate(run, generations - 1, preferences)
    return close(search)


def parents(search, generation):
    return {parent for record in search.ledger.plan(generation) for parent in record["parents"]}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_people_dislike_most_is_no_parent_any_more(strategy, tmp_path):
    free = close(rated_search(tmp_path / "free", strategy))
    chosen = parents(free, 2)
    assert len(chosen) > 1
    liked = next(survivor.id for survivor in free.survivors if survivor.id in chosen)
    everybody = {record["candidate"] for g in (0, 1) for record in free.ledger.plan(g)}
    preferences = {name: 1.0 if name == liked else -1.0 for name in everybody}
    rated = close(rated_search(tmp_path / "rated", strategy, preferences))
    assert parents(rated, 2) <= {liked} | (
        everybody - set(rated.results()[1].survivors) - set(rated.results()[1].front)
    )
    assert liked in parents(rated, 2)
    assert not parents(rated, 2) & (set(free.results()[1].survivors) - {liked})


def test_nobody_of_a_group_that_is_wholly_disliked_is_a_parent(tmp_path):
    search = rated_search(tmp_path / "run", "surrogate")
    history, ids = search._history, search._history.ids
    forecaster = Forecaster(history, search.space, ids)
    good = {
        *np.array(ids)[np.argsort(history.values(ids)[:, 0], kind="stable")[: prescreen.BEST_COUNT]],
        *history.front,
    }
    others = set(ids) - good
    assert others
    history.ratings = Ratings(1.0, dict.fromkeys(good, -1.0))
    select = prescreen._parents(history, forecaster, ids, np.random.default_rng(0))
    assert {select() for _ in range(200)} <= others


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ratings_change_fitness_alone_in_the_generation_that_joins_them(strategy, tmp_path):
    free = rated_search(tmp_path / "free", strategy)
    best = max(free.survivors, key=lambda candidate: candidate.fitness_score)
    rated = rated_search(tmp_path / "rated", strategy, {best.id: -0.5})
    mine, theirs = rated.results()[1], free.results()[1]
    same = ("survivors", "front", "rung", "box", "hypervolume", "credit", "surrogate")
    assert all(getattr(mine, name) == getattr(theirs, name) for name in same)
    assert rated.candidate(best.id).evaluation == best.evaluation
    assert rated.candidate(best.id).fitness_score == pytest.approx(best.fitness_score / 2)
    scores = [candidate.fitness_score for candidate in rated.survivors]
    assert mine.metrics.best_fitness == max(scores)
    assert mine.metrics.average_fitness == pytest.approx(np.mean(scores))
    assert theirs.inputs is None
    assert "inputs" not in theirs.to_json()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_rated_run_is_decided_again_to_the_same_bytes(strategy, tmp_path):
    run = tmp_path / "run"
    search = close(evolution(run, strategy=strategy, **SETTINGS), 1)
    names = [record["candidate"] for record in search.ledger.plan(0)]
    rate(run, 1, dict(zip(names, np.linspace(-1, 1, len(names)), strict=True)), weight=0.2)
    close(search, 2)
    before = tree(run)
    digest = hashlib.sha256((run / "generations/0001/inputs/ratings.json").read_bytes()).hexdigest()
    assert [result.inputs for result in search.results()] == [None, {"ratings.json": digest}, None]
    for decided in [*run.glob("generations/*/plan.jsonl"), *run.glob("generations/*/result.json")]:
        decided.unlink()
    Evolution.open(search.space, run)
    assert tree(run) == before
    Evolution.open(search.space, run)
    assert tree(run) == before


def test_ratings_steer_one_generation_unless_they_come_again(tmp_path):
    search = rated_search(tmp_path, "nsga2", {"0" * 16: 1.0})
    name = search.survivors[0].id
    close(search)
    assert joined_ratings(search.ledger, 1).preferences == {"0" * 16: 1.0}
    assert joined_ratings(search.ledger, 2).preferences == {}
    assert joined_ratings(search.ledger, 3).preferences == {}  # not closed
    assert joined_ratings(search.ledger, -1).preferences == {}
    assert search.candidate(name).fitness_score is not None


def test_ratings_that_a_closed_generation_did_not_join_have_no_influence(tmp_path):
    search = close(evolution(tmp_path, strategy="nsga2"), 2)
    before = [candidate.fitness_score for candidate in search.survivors]
    rate(tmp_path, 1, {candidate.id: -1.0 for candidate in search.survivors})
    again = Evolution.open(search.space, tmp_path)
    assert [candidate.fitness_score for candidate in again.survivors] == before


@pytest.mark.parametrize("change", ["another", "removed"])
def test_ratings_that_were_changed_after_they_were_joined_are_named(change, tmp_path):
    search = rated_search(tmp_path, "nsga2", {"0" * 16: 1.0})
    file = tmp_path / "generations/0001/inputs/ratings.json"
    if change == "removed":
        file.unlink()
    else:
        rate(tmp_path, 1, {"0" * 16: 0.5})
    with pytest.raises(LedgerError, match=r"0001/inputs/ratings\.json.*digest"):
        Evolution.open(search.space, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"weight": 0.2}',
        '{"weight": 1.5, "preferences": {}}',
        '{"weight": NaN, "preferences": {}}',
        '{"weight": 0.2, "preferences": {"0": 1.01}}',
        '{"weight": 0.2, "preferences": {"0": NaN}}',
        '{"weight": 0.2, "preferences": {"0": "high"}}',
        '{"weight": 0.2, "preferences": 3}',
    ],
)
def test_a_generation_does_not_close_with_ratings_that_cannot_be_read(content, tmp_path):
    search = close(evolution(tmp_path, strategy="nsga2"), 1)
    file = tmp_path / "generations/0001/inputs/ratings.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(LedgerError, match="Move it away"):
        close(search)
    file.unlink()
    assert Evolution.open(search.space, tmp_path).generation == 2


@given(weight=st.floats(0, 1), preference=st.floats(-1, 1), score=st.floats(0, 1))
def test_a_fitness_score_stays_in_its_range_and_moves_with_the_preference(weight, preference, score):
    found = Ratings(weight, {"a": preference}).fitness("a", score)
    assert 0 <= found <= 1
    assert found == pytest.approx(min(1, score * (1 + weight * preference)))
    assert Ratings(weight, {"a": preference}).fitness("b", score) == score
    assert Ratings(weight, {"a": preference}).fitness("a", None) is None


def test_candidates_are_drawn_in_proportion_to_their_weights():
    rng = np.random.default_rng(0)
    drawn = np.bincount([draw(3, rng, np.array([0.5, 0.0, 1.5])) for _ in range(8000)], minlength=3) / 8000
    assert drawn == pytest.approx([0.25, 0.0, 0.75], abs=0.02)
    assert {draw(2, rng, np.zeros(2)) for _ in range(50)} == {0, 1}
    wins = np.mean([tournament(2, 2, rng, np.array([0.5, 1.5])) == 0 for _ in range(8000)])
    assert wins == pytest.approx(1 - 0.75**2, abs=0.02)


def test_what_a_search_finds_is_the_same_where_nobody_is_rated(tmp_path):
    free = close(evolution(tmp_path / "free", strategy="surrogate"), 4)
    rated = evolution(tmp_path / "rated", strategy="surrogate")
    for generation in range(4):
        rate(tmp_path / "rated", generation, {}, weight=0.2)
        close(rated)
    assert [rated.ledger.plan(g) for g in range(4)] == [free.ledger.plan(g) for g in range(4)]
