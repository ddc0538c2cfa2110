"""Records of how architectures fared, from votes and measurements, and what the command line prints of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evodiff.cli import app
from evodiff.deployment import DeploymentFeedback
from evodiff.deployment.feedback.records import LAST_ERRORS, feedback_records
from evodiff.deployment.feedback.store import FeedbackStore
from evodiff.deployment.feedback.votes import Vote, VoteKind
from evodiff.deployment.observation import Arm, Outcome, RequestObservation, WorkerObservation
from evodiff.deployment.production import KEPT, SHAPES, VERSIONS, ProductionRecorder
from evodiff.errors import SettingsError
from evodiff.pipeline.release import EMPTY, write_release

A, B, C = "run/aaaa", "run/bbbb", "run/cccc"


def request(
    version: str = A, outcome: Outcome = Outcome.OK, seconds: float = 0.5, **changes: object
) -> RequestObservation:
    values: dict[str, object] = {"batch": 8, "steps": 10, "at": 7.0}
    return RequestObservation(
        request="r",
        arm=Arm.STABLE,
        version=version,
        client="c",
        outcome=outcome,
        compute_seconds=seconds,
        **(values | changes),  # type: ignore[arg-type]
    )


def votes() -> list[Vote]:
    return [
        Vote("c1", "home", "r0", VoteKind.RATING, A, 0.0, 5.0),
        Vote("c2", "home", "r1", VoteKind.RATING, A, 0.0, 2.0),
        Vote("c3", "work", "r2", VoteKind.RATING, A, 0.0, 4.0),
        Vote("c3", "work", "r3+r4", VoteKind.COMPARISON, B, 0.0, 1.0, other=C),
        *(Vote("c3", "work", f"e{n}", VoteKind.ERROR, B, float(n), text=f"grey {n}") for n in range(30)),
    ]


def test_records_hold_what_people_said_and_what_was_measured() -> None:
    recorder = ProductionRecorder("cpu", "a chip")
    for number in range(100):
        recorder.observe(request(seconds=0.5 if number < 98 else 2.0))
    recorder.observe(request(guided=True, seconds=1.0))
    recorder.observe(request(outcome=Outcome.BLANK))
    recorder.observe(request(outcome=Outcome.REFUSED))
    recorder.observe_worker(WorkerObservation(Arm.STABLE, A, 8.0, True, 300))
    recorder.observe_worker(WorkerObservation(Arm.STABLE, A, 9.0, True, 200))
    recorder.observe_kid(A, 9.0, -0.002, 0.001, 512)
    first, second, third = feedback_records(votes(), recorder.metrics(), failed=[B])
    assert first == DeploymentFeedback(
        architecture_id=A,
        user_ratings=(3.5, 4.0),
        performance_metrics={
            "requests_total": 102.0,
            "failed_requests_total": 1.0,
            "rss_bytes": 300.0,
            "online_kid": -0.002,
            "batch_8_steps_10_compute_p50_seconds": 0.5,
            "batch_8_steps_10_compute_p99_seconds": 2.0,
            "batch_8_steps_10_guided_compute_p50_seconds": 1.0,
            "batch_8_steps_10_guided_compute_p99_seconds": 1.0,
        },
    )
    assert (second.architecture_id, second.deployment_success, len(second.error_logs)) == (B, False, LAST_ERRORS)
    assert second.error_logs[-1] == "grey 29"
    assert third == DeploymentFeedback(C)


def test_what_is_kept_of_production_is_bounded() -> None:
    recorder = ProductionRecorder("cpu", "a chip")
    for number in range(KEPT + 500):
        recorder.observe(request(seconds=9.0 if number < 500 else 1.0))
    (shape,) = recorder.metrics()[A]["compute"]
    assert (shape["requests"], shape["p99_seconds"]) == (KEPT, 1.0)
    for steps in range(1, 200):
        recorder.observe(request(steps=steps))
    assert len(recorder.metrics()[A]["compute"]) == SHAPES
    for number in range(100):
        recorder.observe(request(f"run/{number}"))
    assert list(recorder.metrics()) == [f"run/{number}" for number in range(100 - VERSIONS, 100)]


def test_the_command_line_prints_records_and_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quarantine = [{"version": B, "at": 0.0, "reason": "slow", "digest": None}]
    write_release(tmp_path / "release.json", {**EMPTY, "quarantine": quarantine})
    monkeypatch.setenv("EVODIFF_RELEASE_FILE", str(tmp_path / "release.json"))
    file = tmp_path / "feedback.sqlite"
    with FeedbackStore(file) as store:
        for vote in votes():
            store.add(vote)
        store.record_production(A, {"requests": 5, "failed": 0}, 1.0)
    printed = CliRunner().invoke(app, ["feedback", "--store", str(file)])
    assert printed.exit_code == 0, printed.output
    records = [DeploymentFeedback.from_json(json.loads(line)) for line in printed.output.splitlines()]
    assert records == feedback_records(votes(), {A: {"requests": 5, "failed": 0}}, failed=[B])
    assert [record.architecture_id for record in records if not record.deployment_success] == [B]
    every = CliRunner().invoke(app, ["feedback", "--votes", "--store", str(file)]).output.splitlines()
    assert [json.loads(line) for line in every] == [vote.to_json() for vote in votes()]
    missing = CliRunner().invoke(app, ["feedback", "--store", str(tmp_path / "none")])
    assert isinstance(missing.exception, SettingsError)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_measurement_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(SettingsError, match="finite"):
        feedback_records([], {A: {"rss_bytes": value}})
