"""What the ledger alone tells, against what the engine itself says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from page_reading import read_page
from report_examples import DIGITS, run_search

from evodiff.architecture.cost import parameter_count
from evodiff.architecture.genome import ArchitectureGenome
from evodiff.architecture.graph import resolve
from evodiff.architecture.space import ArchitectureSpace
from evodiff.engine import Evolution
from evodiff.errors import LedgerError
from evodiff.reporting import random_arm_from_ledger, view_from_ledger, write_report


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_search(tmp_path_factory.mktemp("ledger") / "search", failing=0.15)


def test_candidates_and_front_are_those_of_the_engine(run: Path) -> None:
    view = view_from_ledger(run)
    evolution = Evolution.open(ArchitectureSpace(DIGITS, objectives=["memory_mb"]), run)
    front = {item.id: item for item in evolution.front()}
    assert {item.id for item in view.front} == set(front)
    assert view.failed
    for item in view.front:
        expected = front[item.id]
        assert expected.evaluation is not None
        assert dict(item.objectives) == dict(expected.evaluation.objectives)
        assert item.fitness_score == expected.fitness_score
        assert item.parents == expected.parents
        assert item.standard_errors["kid"] == expected.evaluation.details["kid_standard_error"]
    assert view.champion == max(front.values(), key=lambda item: item.fitness_score or 0.0).id
    assert [point.best_fitness for point in view.generations] == [item.best_fitness for item in evolution.history()]


def test_parameters_and_compute_come_from_the_genome(run: Path) -> None:
    view = view_from_ledger(run)
    assert view.failed
    for item in view.candidates:
        resolved = resolve(ArchitectureGenome.from_json(item.genome), DIGITS)
        assert item.parameters == parameter_count(resolved)
        assert item.flops is not None
        assert item.training_flops == pytest.approx(3 * 64 * 120 * item.flops)


def test_settings_digests_floors_and_units_are_read(run: Path) -> None:
    view = view_from_ledger(run)
    assert view.floors["kid"].value == 0.0065
    assert set(view.digests) == {"dataset.safetensors", "feature_net.safetensors"}
    assert [objective.unit for objective in view.objectives] == ["", "ms", "MB"]
    assert view.settings["training"] == {"batch_size": 64, "steps": 120}
    assert view.shape == (1, 8, 10)
    assert view.generations[-1].evaluations == 24


def test_an_open_generation_counts_with_what_was_told(tmp_path: Path) -> None:
    folder = run_search(tmp_path / "open", generations=1)
    evolution = Evolution.open(ArchitectureSpace(DIGITS, objectives=["memory_mb"]), folder)
    first, *_ = evolution.ask(8)
    evolution.tell(first.id, {"kid": 0.5, "latency_ms": 1.0})
    view = view_from_ledger(folder)
    assert len(view.candidates) == 9
    assert len(view.generations) == 1
    assert any("still open" in text for text in view.warnings)


def test_a_run_that_lost_a_trial_to_its_machine_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "lost"
    evolution = Evolution(
        ArchitectureSpace(DIGITS, objectives=[]), objectives=["kid"], population_size=4, ledger=folder
    )
    trials = evolution.ask(4)
    for _ in range(3):
        evolution.tell_failure(trials[0].id, "out of memory", kind="environment")
    for trial in trials[1:]:
        evolution.tell(trial.id, {"kid": 1.0})
    view = view_from_ledger(folder)
    assert view.shape is None
    assert any("Not exactly reproducible" in text and trials[0].id in text for text in view.warnings)
    assert view.candidate(trials[0].candidate).failure == "out of memory"  # type: ignore[union-attr]  # it was asked


def test_the_random_arm_is_measured_in_the_box_of_the_run(run: Path) -> None:
    view = view_from_ledger(run)
    arm = random_arm_from_ledger(run, beside=run)
    assert arm.generations == view.generations
    assert [item.fitness_score for item in arm.candidates] == [item.fitness_score for item in view.candidates]


def test_what_was_tried_again_is_shown_with_the_error_of_its_mean_and_how_often(tmp_path: Path) -> None:
    folder = tmp_path / "ties"
    evolution = Evolution(
        ArchitectureSpace(DIGITS, objectives=["memory_mb"]),
        objectives=["kid", "memory_mb"],
        population_size=8,
        ledger=folder,
        strategy="nsga2",
        replicate_ties=True,
    )
    for _ in range(4):
        for trial in evolution.ask(8):
            evolution.tell(trial.id, {"kid": 1.0 + trial.seed % 97 / 97}, details={"kid_standard_error": 0.5})
    view = view_from_ledger(folder)
    twice = next(item for item in view.candidates if item.replicates == 2)
    assert twice.standard_errors["kid"] == pytest.approx(0.5 / 2**0.5)
    text = read_page(write_report(view, tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "mean of 2 trials" in text
    assert view.generations[-1].evaluations == sum(len(item.trials) for item in view.candidates)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"experiment\.json"):
        view_from_ledger(tmp_path)


def test_reporting_does_not_import_torch() -> None:
    code = "import sys, evodiff.reporting; sys.exit('torch' in sys.modules or 'plotly.graph_objects' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
