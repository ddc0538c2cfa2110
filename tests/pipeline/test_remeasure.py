"""Of a candidate whose weights are gone its architecture is measured again, by a network that was never trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from told_runs import TellingPool, new_run

from evodiff.errors import LedgerError
from evodiff.pipeline.choice import WEIGHTS_GONE, choose
from evodiff.pipeline.evolve import evolve_generation
from evodiff.pipeline.final import trial_row
from evodiff.pipeline.remeasure import FOLDER, remeasure_candidate, remeasuring
from evodiff.pipeline.run import Run
from evodiff.settings import Settings
from evodiff.workers import WorkerContext

CONTEXT = WorkerContext(device="cpu", report=lambda said: None, should_stop=lambda: False)


def told(path: Path, generations: int = 1, **settings: Any) -> Run:
    """A run on this machine that was told its KIDs; no weights were ever published."""
    run = new_run(path, objectives=("kid", "latency_ms"), target="local", **settings)
    for generation in range(generations):
        evolve_generation(
            run, TellingPool(lambda trial: {"kid": int(trial["candidate"], 16) / 2**64}), f"g{generation}"
        )
    return run


def payload(run: Run, candidate: str) -> dict[str, Any]:
    return {"run": str(run.path), "trial": trial_row(run, candidate)}


def test_without_weights_latency_is_measured_and_the_score_is_that_on_record(tmp_path: Path) -> None:
    run = told(tmp_path / "run")
    best = run.evolution().front()[0]
    assert best.evaluation is not None
    content = remeasure_candidate(payload(run, best.id), CONTEXT)
    assert json.loads((run.path / FOLDER / f"{best.id}.json").read_bytes()) == content
    assert content["fresh_weights"] is True
    found = content["evaluation"]
    assert found["objectives"]["kid"] == best.evaluation.objectives["kid"]
    assert 0 < found["objectives"]["latency_ms"] != best.evaluation.objectives["latency_ms"]
    assert found["details"]["latency_ms_standard_error"] >= 0
    said = list[str]()
    with remeasuring(Settings(), said.append) as remeasure:  # it is not measured a third time
        again = remeasure(run, best.id)
        assert again.to_json() == {**found, "details": {**found["details"], WEIGHTS_GONE: True}}
        assert choose(run, None, remeasure=remeasure).candidate is None  # what has no weights cannot serve
    assert said == []


def test_what_was_measured_with_weights_is_kept_when_they_are_gone(tmp_path: Path) -> None:
    run = told(tmp_path / "run")
    best = run.evolution().front()[0].id
    content = remeasure_candidate(payload(run, best), CONTEXT)
    content["evaluation"] |= {"weights": "a" * 64, "objectives": {"kid": 7.0, "latency_ms": 1.0}}
    (run.path / FOLDER / f"{best}.json").write_text(json.dumps(content))
    with remeasuring(Settings(), print) as remeasure:
        assert remeasure(run, best).objectives["kid"] == 7.0


def test_what_serves_is_compared_though_its_weights_are_gone(tmp_path: Path) -> None:
    run = told(tmp_path / "run")
    serving = run.evolution().front()[0].id
    for item in run.evolution().front():
        remeasure_candidate(payload(run, item.id), CONTEXT)
    with remeasuring(Settings(), print) as remeasure:
        choice = choose(run, {"run": run.name, "candidate": serving, "generation": 0}, remeasure=remeasure)
    assert choice.settled


def test_an_heir_that_was_never_trained_from_scratch_has_no_score(tmp_path: Path) -> None:
    run = told(tmp_path / "run")
    asked = payload(run, run.evolution().front()[0].id)
    asked["trial"] |= {"inherits_from": ["f" * 16 + ".r0.0"]}
    with pytest.raises(LedgerError, match="from scratch"):
        remeasure_candidate(asked, CONTEXT)
