"""Records are the ledger's numbers, and nothing that a tracking server would refuse."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from tracked_runs import told_run

from evodiff.errors import LedgerError
from evodiff.pipeline.run import Run
from evodiff.tracking.artifacts import candidate_files, generation_files
from evodiff.tracking.records import RunRecords, experiment_tags

ALLOWED_NAME = re.compile(r"[\w\-. /:]{1,250}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of three generations; tests must not change it."""
    return told_run(tmp_path_factory.mktemp("records") / "blank", generations=3)


def test_every_trial_of_a_generation_is_in_one_record_with_the_ledgers_values(run: Run) -> None:
    records = RunRecords(run)
    for generation in range(3):
        evaluations = run.ledger.evaluations(generation)
        found = records.candidates(generation)
        assert [record.name for record in found] == [row["candidate"] for row in run.ledger.plan(generation)]
        for record, row in zip(found, run.ledger.plan(generation), strict=True):
            evaluation = evaluations[row["id"]]
            assert record.failed == (evaluation.failure is not None)
            assert {name: record.metrics.get(name) for name in evaluation.objectives} == dict(evaluation.objectives)
            assert ("evodiff.failure" in record.tags) == record.failed
            assert record.params["seed"] == str(row["seed"])


def test_fitness_and_hypervolume_are_those_of_the_search(run: Run) -> None:
    records = RunRecords(run)
    scores = {item.id: item.fitness_score for item in run.evolution().front()}
    tracked = {
        record.name: record.metrics["fitness_score"]
        for generation in range(3)
        for record in records.candidates(generation)
    }
    assert {candidate: tracked[candidate] for candidate in scores} == scores
    result = run.ledger.result(2)
    assert result is not None
    assert records.generation(2).metrics["hypervolume"] == result["hypervolume"]
    assert records.generation(2).metrics["best_fitness"] == result["metrics"]["best_fitness"]


def test_new_members_are_those_that_the_front_before_had_not_the_fittest_first(run: Run) -> None:
    records = RunRecords(run)
    seen: set[str] = set()
    for generation in range(3):
        result = run.ledger.result(generation)
        assert result is not None
        found = records.new_members(generation)
        assert set(found) == set(result["front"]) - seen
        scores = [records.fitness_score(generation, candidate) for candidate in found]
        assert scores == sorted(scores, reverse=True)
        seen = set(result["front"])


def test_the_loss_curve_ends_at_the_last_training_step(run: Run) -> None:
    record = RunRecords(run).candidates(0)[0]
    assert record.curves == {"loss": {20: 0.4, 40: 0.2}}


def test_the_span_comes_from_telemetry_and_is_left_out_without_it(run: Run, tmp_path: Path) -> None:
    record = RunRecords(run).candidates(0)[1]
    assert record.span is not None
    assert record.span[1] - record.span[0] == pytest.approx(2.0)
    assert record.metrics["seconds"] == pytest.approx(2.0)
    silent = told_run(tmp_path / "silent", generations=1)
    (silent.path / "telemetry" / "events.jsonl").write_text('{"event": "trial", "ti')  # cut by a crash
    assert RunRecords(silent).candidates(0)[1].span is None


def test_nothing_exceeds_what_mlflow_takes(run: Run) -> None:
    records = RunRecords(run)
    for record in [records.generation(0), *records.candidates(1)]:
        assert all(ALLOWED_NAME.fullmatch(name) for name in (*record.metrics, *record.params, *record.tags))
        assert all(math.isfinite(value) for value in record.metrics.values())
        assert all(isinstance(value, str) and len(value) <= 6000 for value in record.params.values())
        assert all(isinstance(value, str) and len(value) <= 8000 for value in record.tags.values())
        assert len(record.params) + len(record.tags) <= 100
    assert all(len(value) <= 20_000 for value in experiment_tags(run, "0").values())


def test_files_hold_genome_diagram_and_decisions_and_no_grid_without_weights(run: Run) -> None:
    records = RunRecords(run)
    files = candidate_files(run, run.ledger.plan(1)[0], samples=True)
    assert set(files) == {"genome.json", "diagram.svg"}
    assert files["diagram.svg"].startswith(b"<svg")
    assert set(generation_files(records, 1)) == {"result.json", "front.json", "innovations.json"}


def test_an_open_generation_has_no_record(tmp_path: Path) -> None:
    run = told_run(tmp_path / "blank", generations=1)
    run.evolution().ask(4)
    with pytest.raises(LedgerError, match="Generation 1 of blank is not closed"):
        RunRecords(run).generation(1)
