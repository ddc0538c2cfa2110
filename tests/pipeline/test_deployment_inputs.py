"""Votes and measurements as inputs of a generation: they choose the champion and steer parents, and replay is exact."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from told_runs import TellingPool, new_run

from evodiff.architecture.cost import operations
from evodiff.architecture.graph import resolve
from evodiff.deployment.feedback.snapshot import GATES_KEPT, snapshot_deployment
from evodiff.deployment.feedback.store import FeedbackStore
from evodiff.deployment.feedback.votes import Vote, VoteKind
from evodiff.deployment.observation import Arm, Outcome, RequestObservation, WorkerObservation
from evodiff.deployment.production import ProductionRecorder
from evodiff.engine.layout import input_name, plan_name, result_name
from evodiff.engine.ratings import joined_ratings
from evodiff.errors import SettingsError
from evodiff.hardware.latency import predict_ms
from evodiff.pipeline.alerts import tightened_preference
from evodiff.pipeline.choice import choose
from evodiff.pipeline.deployment import record_deployment
from evodiff.pipeline.evolve import evolve_generation
from evodiff.pipeline.final import champion
from evodiff.pipeline.generation import plan, planned_trials, select
from evodiff.pipeline.release import EMPTY, request_release
from evodiff.pipeline.replay import replay
from evodiff.pipeline.requests import submit
from evodiff.pipeline.run import Run
from evodiff.pipeline.served_latency import latency_factor
from evodiff.pipeline.steering import check_steering, record_steering, steering
from evodiff.reporting.ledger_view import view_from_ledger
from evodiff.settings import Settings

RATERS = 20


def near(trial: Mapping[str, Any]) -> dict[str, float]:
    """A KID in a narrow band, so that what people say can turn the order of candidates."""
    return {"kid": 1.0 + 0.2 * int(trial["candidate"][:8], 16) / 2**32}


def search(path: Path, generations: int = 1, **settings: Any) -> Run:
    values: dict[str, Any] = {"objectives": ("kid", "parameters"), "population": 8, "strategy": "nsga2"}
    run = new_run(path, **(values | settings))
    for generation in range(generations):
        evolve_generation(run, TellingPool(near), f"g{generation}")
    return run


def like(store: FeedbackStore, run: Run, liked: str, others: list[str], raters: int = RATERS) -> None:
    """Have so many raters prefer one candidate to each of the others."""
    for number in range(raters):
        for other in others:
            store.add(
                Vote(
                    rater=f"rater{number}",
                    source=f"rater{number}",
                    subject=f"{liked}-{other}",
                    kind=VoteKind.COMPARISON,
                    version=f"{run.name}/{liked}",
                    other=f"{run.name}/{other}",
                    value=1.0,
                    at=float(number),
                )
            )


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "feedback.sqlite")


def front(run: Run) -> list[str]:
    candidates = sorted(run.evolution().front(), key=lambda candidate: -(candidate.fitness_score or 0.0))
    return [candidate.id for candidate in candidates]


def scores(run: Run) -> dict[str, float]:
    return {candidate.id: candidate.fitness_score or 0.0 for candidate in run.evolution().survivors}


def test_votes_choose_the_champion_and_what_is_released_and_replay_stays_exact(
    tmp_path: Path, store: FeedbackStore
) -> None:
    free, rated = search(tmp_path / "free" / "run"), search(tmp_path / "rated" / "run")
    submit(rated, {"form": "more weight"}, {"rating_weight": 1.0}, datetime(2026, 1, 2, tzinfo=UTC))
    evolve_generation(free, TellingPool(near), "g1")
    known = {row["candidate"] for row in free.ledger.plan(0)}
    best, *others = front(free)
    liked = next(name for name in others if name in known)
    rivals = [name for name in front(rated) if name != liked]
    like(store, rated, liked, rivals)

    found = snapshot_deployment(rated, 1, store, reference=f"run/{rivals[0]}")
    assert (found.published, found.rejected) == (("ratings.json",), 0)
    evolve_generation(rated, TellingPool(near), "g1")
    assert rated.ledger.plan(1) == free.ledger.plan(1)
    assert rated.ledger.evaluations(1) == free.ledger.evaluations(1)
    theirs, ours = free.ledger.result(1), rated.ledger.result(1)
    assert theirs is not None and ours is not None  # noqa: PT018
    digest = hashlib.sha256(rated.ledger.read(input_name(1, "ratings.json")) or b"").hexdigest()
    assert ours["inputs"] == {"ratings.json": digest}
    same = ("survivors", "front", "box", "hypervolume", "credit")
    assert [ours[name] for name in same] == [theirs[name] for name in same]
    assert ours["metrics"] != theirs["metrics"]

    chosen, instead = champion(free), champion(rated)
    assert chosen is not None and instead is not None  # noqa: PT018
    assert (chosen.id, instead.id) == (best, liked)
    released = request_release(rated, 1, tmp_path / "release.json")
    assert released["pending"] == {"run": "run", "candidate": liked, "generation": 1}
    assert view_from_ledger(rated.path).champion == liked
    assert view_from_ledger(free.path).champion == chosen.id

    for run in (free, rated):
        evolve_generation(run, TellingPool(near), "g2")
    assert rated.ledger.plan(2) != free.ledger.plan(2)
    assert set(replay(rated, 3).values()) == {None}
    assert set(replay(free, 3).values()) == {None}
    (rated.path / input_name(1, "ratings.json")).write_text('{"weight": 1.0, "preferences": {}}')
    assert replay(rated, 3)[plan_name(2)] is not None or replay(rated, 3)[result_name(1)] is not None


def test_votes_move_parents_towards_what_is_liked(tmp_path: Path, store: FeedbackStore) -> None:
    run = search(tmp_path / "run", generations=2)
    liked, *others = [candidate.id for candidate in run.evolution().survivors]
    like(store, run, liked, others)
    submit(run, {"form": "more weight"}, {"rating_weight": 1.0}, datetime(2026, 1, 2, tzinfo=UTC))
    snapshot_deployment(run, 2, store, reference=f"run/{others[0]}")
    content = json.loads(run.ledger.read(input_name(2, "ratings.json")) or b"")
    assert content["preferences"][liked] > 0.5
    assert all(content["preferences"][other] <= 0 for other in others)
    evolve_generation(run, TellingPool(near), "g2")
    weights = joined_ratings(run.ledger, 2).draw_weights([liked, *others])
    assert weights is not None
    assert weights[0] > 1.5 * max(weights[1:])


def test_without_votes_nothing_is_published_and_the_run_is_as_before(tmp_path: Path, store: FeedbackStore) -> None:
    free, open_to_votes = search(tmp_path / "free" / "run", 2), search(tmp_path / "open" / "run")
    like(store, Run.open(open_to_votes.path), "f" * 16, ["e" * 16])  # of nobody that there is
    stranger = Vote("a", "a", "r", VoteKind.RATING, "another/0123456789abcdef", 0.0, 5.0)
    store.add(stranger)
    assert snapshot_deployment(open_to_votes, 1, store).published == ()
    evolve_generation(open_to_votes, TellingPool(near), "g1")
    for name in (plan_name(1), result_name(1), input_name(1, "ratings.json"), input_name(1, "production.json")):
        assert open_to_votes.ledger.read(name) == free.ledger.read(name)


def test_a_snapshot_is_published_once_and_never_into_a_closed_generation(tmp_path: Path, store: FeedbackStore) -> None:
    run = search(tmp_path / "run")
    best, second, *_ = front(run)
    like(store, run, second, [best])
    assert snapshot_deployment(run, 0, store, reference=f"run/{best}").published == ()
    assert snapshot_deployment(run, 1, store, reference=f"run/{best}").published == ("ratings.json",)
    before = run.ledger.read(input_name(1, "ratings.json"))
    like(store, run, best, [second])
    assert snapshot_deployment(run, 1, store, reference=f"run/{best}").published == ()
    assert run.ledger.read(input_name(1, "ratings.json")) == before


def test_a_snapshot_may_come_while_the_generation_is_worked_on(tmp_path: Path, store: FeedbackStore) -> None:
    run = search(tmp_path / "run")
    best, second, *_ = front(run)
    like(store, run, second, [best])
    plan(run, 1)
    evolution = run.evolution()
    trials = planned_trials(run, 1)
    for trial in trials[:-1]:
        evolution.tell(trial.id, near({"candidate": trial.candidate}))
    assert snapshot_deployment(run, 1, store, reference=f"run/{best}").published == ("ratings.json",)
    evolution.tell(trials[-1].id, near({"candidate": trials[-1].candidate}))
    assert set(select(run, 1)["inputs"]) == {"ratings.json"}
    assert set(replay(run, 2).values()) == {None}


def test_a_snapshot_that_the_generation_has_closed_without_is_set_aside(
    tmp_path: Path, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = search(tmp_path / "run", 2)
    best, second, *_ = front(run)
    like(store, run, second, [best])
    monkeypatch.setattr(type(run.ledger), "closed", property(lambda ledger: 1))  # as it was when the snapshot began
    with pytest.warns(UserWarning, match="too late"):
        assert snapshot_deployment(run, 1, store, reference=f"run/{best}").published == ()
    monkeypatch.undo()
    assert not run.ledger.exists(input_name(1, "ratings.json"))
    assert set(replay(run, 2).values()) == {None}


def test_records_that_make_no_sense_are_left_out_and_kept(tmp_path: Path, store: FeedbackStore) -> None:
    run = search(tmp_path / "run")
    best, second, *_ = front(run)
    like(store, run, second, [best])
    like(store, run, "f" * 16, [best])  # no candidate of this run
    measured = {f"run/{best}": {"rss_bytes": -5.0}, f"run/{second}": {"rss_bytes": 5.0e8}}
    said: list[str] = []
    found = snapshot_deployment(run, 1, store, measured, reference=f"run/{second}", say=said.append)
    assert found.rejected == 2
    assert found.published == ("production.json",)  # of the two that were compared one is left
    content = json.loads(run.ledger.read(input_name(1, "production.json")) or b"")
    assert set(content["versions"]) == {second}
    assert said
    assert list((run.path / "telemetry/gates").glob("feedback-*/quarantine/rejected.jsonl"))


def test_results_of_the_gate_are_kept_of_the_last_snapshots_alone(tmp_path: Path, store: FeedbackStore) -> None:
    run = search(tmp_path / "run")
    best, *_ = front(run)
    for number in range(GATES_KEPT + 3):  # too few raters to publish anything
        store.add(Vote("a", "a", f"r{number}", VoteKind.RATING, f"run/{best}", float(number), 1.0 + number % 5))
        assert snapshot_deployment(run, 1, store).published == ()
    assert len(list((run.path / "telemetry/gates").glob("feedback-*"))) <= GATES_KEPT


def measured_by(run: Run, candidate: str, factor: float, *, device_name: str | None = None) -> ProductionRecorder:
    """Return what a service heard whose latency is ``factor`` times the prediction, at 10 steps."""
    batch = run.evaluation.serving_batch
    genome = run.evolution().candidate(candidate).genome
    predicted = predict_ms(operations(resolve(genome, run.shape), batch), run.calibration)
    recorder = ProductionRecorder(run.calibration.device, device_name or run.calibration.device_name)
    for number in range(100):
        seconds = factor * predicted * 10 / 1000 * (1 if number < 98 else 3)
        for images, guided in ((batch, False), (batch, True), (1, False)):
            version = f"{run.name}/{candidate}"
            recorder.observe(
                RequestObservation(
                    request=f"r{number}",
                    arm=Arm.STABLE,
                    version=version,
                    client="c",
                    at=float(number),
                    outcome=Outcome.OK,
                    compute_seconds=seconds if images == batch and not guided else 7.0,
                    batch=images,
                    steps=10,
                    guided=guided,
                )
            )
    recorder.observe_worker(WorkerObservation(Arm.STABLE, f"{run.name}/{candidate}", 1.0, True, 123_000_000))
    recorder.observe_kid(f"{run.name}/{candidate}", 2.0, -0.01, 0.02, 512)
    return recorder


def test_what_was_measured_is_an_input_and_limits_are_held_against_it(tmp_path: Path, store: FeedbackStore) -> None:
    run = search(tmp_path / "run", objectives=("kid", "latency_ms"))
    best = champion(run)
    assert best is not None and best.evaluation is not None  # noqa: PT018
    measured_by(run, best.id, 2.0).store(store)
    assert snapshot_deployment(run, 1, store).published == ("production.json",)
    content = json.loads(run.ledger.read(input_name(1, "production.json")) or b"")
    assert content["latency_factor"] == pytest.approx(2.0, rel=1e-5)
    version = content["versions"][best.id]
    assert version["rss_bytes"] == 123_000_000
    assert version["online_kid"] == {"kid": -0.01, "standard_error": 0.02, "images": 512}
    (shape,) = (
        item for item in version["compute"] if item["batch"] == run.evaluation.serving_batch and not item["guided"]
    )
    assert shape["p99_seconds"] == pytest.approx(3 * shape["p50_seconds"])
    evolve_generation(run, TellingPool(near), "g1")
    assert latency_factor(run) == content["latency_factor"]
    assert set(replay(run, 2).values()) == {None}

    tightened = tightened_preference(run, {"run": run.name, "candidate": best.id})
    assert tightened is not None
    submit(run, {"form": "tightened"}, {"prefer": tightened}, datetime(2026, 1, 1, tzinfo=UTC))
    among = [item.evaluation.objectives["latency_ms"] for item in run.evolution().front() if item.evaluation]
    assert float(tightened.rpartition("<=")[2]) >= 2 * min(among) * (1 - 1e-5)
    assert champion(run) is not None  # the fastest member keeps the limit at least, and may be released
    assert choose(run, None).candidate is not None

    limit = 1.5 * best.evaluation.objectives["latency_ms"]
    submit(run, {"form": "limit"}, {"prefer": f"latency_ms<{limit}"}, datetime(2026, 1, 2, tzinfo=UTC))
    instead = champion(run)
    assert instead is None or instead.evaluation is not None
    assert instead is None or 2 * instead.evaluation.objectives["latency_ms"] < limit  # type: ignore[union-attr]
    evolve_generation(run, TellingPool(near), "g2")  # nothing was joined: predictions hold again
    assert latency_factor(run) == 1.0


def test_another_device_says_nothing_of_the_targets_latency(tmp_path: Path, store: FeedbackStore) -> None:
    run = search(tmp_path / "run")
    (name, *_) = front(run)
    measured_by(run, name, 2.0, device_name="another").store(store)
    snapshot_deployment(run, 1, store)
    assert "latency_factor" not in json.loads(run.ledger.read(input_name(1, "production.json")) or b"")
    evolve_generation(run, TellingPool(near), "g1")
    assert latency_factor(run) == 1.0


def test_a_driver_takes_the_services_store_when_it_opens_a_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = search(tmp_path / "run")
    best, second, *_ = front(run)
    monkeypatch.setenv("EVODIFF_FEEDBACK_STORE", str(tmp_path / "service.sqlite"))
    monkeypatch.setenv("EVODIFF_RELEASE_FILE", str(tmp_path / "release.json"))
    monkeypatch.setenv("EVODIFF_MIN_RATERS", "2")
    record_deployment(run, 1)
    assert not (tmp_path / "service.sqlite").exists()
    entry = {"run": "run", "candidate": best, "generation": 0}
    (tmp_path / "release.json").write_text(json.dumps({**EMPTY, "champion": entry}))
    with FeedbackStore(tmp_path / "service.sqlite") as store:
        like(store, run, second, [best], raters=2)
    evolve_generation(run, TellingPool(near), "g1")
    content = json.loads(run.ledger.read(input_name(1, "ratings.json")) or b"")
    assert content["weight"] == 0.2
    assert content["reference"] == f"run/{best}"
    assert content["preferences"][second] > 0 == content["preferences"][best]
    (tmp_path / "service.sqlite").write_text("damaged " * 1000)
    with pytest.warns(UserWarning, match="joins no votes"):
        evolve_generation(run, TellingPool(near), "g2")
    assert run.ledger.closed == 3


def test_the_weight_of_votes_is_steered_and_left_out_where_nobody_said_it(tmp_path: Path) -> None:
    run = search(tmp_path / "run")
    record_steering(run, 1)
    assert "rating_weight" not in json.loads(run.ledger.read(input_name(1, "steering.json")) or b"")
    submit(run, {"form": "w"}, {"rating_weight": 0.5}, datetime(2026, 1, 2, tzinfo=UTC))
    assert steering(run).rating_weight == 0.5
    record_steering(run, 2)
    assert json.loads(run.ledger.read(input_name(2, "steering.json")) or b"")["rating_weight"] == 0.5
    for weight in (1.5, -0.1, float("nan")):
        with pytest.raises(SettingsError, match="rating_weight"):
            check_steering({"rating_weight": weight}, ["kid"])
    assert Settings().min_raters == 3
