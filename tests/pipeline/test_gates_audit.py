"""The audit of a run: a sound run passes, each kind of damage is named, and nothing in the run is touched."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from told_runs import new_run

from evodiff.data.gate_result import GateResult
from evodiff.errors import GateFailed
from evodiff.pipeline.audit import audit_run
from evodiff.pipeline.generation import plan, select
from evodiff.pipeline.run import Run
from evodiff.training.weights import save_weights

GENERATIONS = 3


def work(run: Run, generation: int, *, trials: int | None = None) -> None:
    """Bring back something for the trials of a generation, with weights, as a training would."""
    evolution = run.evolution()
    for trial in plan(run, generation)[:trials]:
        number = int(trial.candidate[:8], 16) / 2**32
        digest = save_weights(run.ledger.weights_folder(trial), {"weight": torch.full((2,), number)}, {"steps": 1})
        evolution.tell(trial.id, {"kid": number}, weights=digest)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three generations; tests spoil copies of it."""
    run = new_run(tmp_path_factory.mktemp("runs") / "run")
    for generation in range(GENERATIONS):
        work(run, generation)
        select(run, generation)
    return run.path


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "run"))


def contents(run: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in run.rglob("*") if path.is_file()}


def failures(run: Path, out: Path) -> dict[str, Any]:
    """Names of the expectations that a spoiled run does not meet, with their checks."""
    with pytest.raises(GateFailed) as caught:
        audit_run(Run.open(run), out=out)
    return {check.expectation.name: check for check in GateResult.load(caught.value.folder).failed}


def rewrite(path: Path, change: Callable[[list[Any]], Any]) -> None:
    """Change the lines of a file of JSON lines."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(f"{json.dumps(row, sort_keys=True, separators=(',', ':'))}\n" for row in rows))


def generation(run: Path, number: int) -> Path:
    return run / "generations" / f"{number:04d}"


def planned(change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    """Spoil the plan of generation 1."""
    return lambda run: rewrite(generation(run, 1) / "plan.jsonl", change)


def evaluated(change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    """Spoil what the trials of generation 1 brought back."""
    return lambda run: rewrite(generation(run, 1) / "evaluations.jsonl", change)


def concluded(**changes: Any) -> Callable[[Path], None]:
    """Spoil the result of generation 1."""

    def spoil(run: Path) -> None:
        path = generation(run, 1) / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def some_weights(run: Path) -> Path:
    return next(run.glob("generations/*/weights/*"))


def forget_an_evaluation(run: Path) -> str:
    lost = json.loads((generation(run, 1) / "plan.jsonl").read_text().splitlines()[0])["id"]
    (generation(run, 1) / "evaluations" / f"{lost}.json").unlink()
    evaluated(lambda rows: rows.pop(0))(run)
    return str(lost)


def begin_too_early(run: Path) -> None:
    later = generation(run, GENERATIONS + 1)
    later.mkdir()
    shutil.copy(generation(run, GENERATIONS - 1) / "plan.jsonl", later)


def replace_weights(run: Path) -> None:
    folder = some_weights(run)
    shutil.rmtree(folder)
    save_weights(folder, {"weight": torch.zeros(3)}, {"steps": 1})


NOBODY = "f" * 16

SPOILED: dict[str, Callable[[Path], object]] = {
    "readable files": lambda run: (generation(run, 1) / "result.json").write_text("{"),
    "inputs as frozen": lambda run: (run / "inputs" / "feature_net.safetensors").write_bytes(b"another net"),
    "each trial once": planned(lambda rows: rows.append(rows[0])),
    "names of trials": planned(lambda rows: rows[0].update(id=f"{NOBODY}.r0.0")),
    "names of candidates": planned(lambda rows: rows[0].update(genome=rows[1]["genome"])),
    "seeds": planned(lambda rows: rows[0].update(seed=rows[0]["seed"] + 1)),
    "trials in place": planned(lambda rows: rows[0].update(generation=0)),
    "closed lineage": planned(lambda rows: rows[0].update(parents=[NOBODY])),
    "known origin": planned(lambda rows: rows[0].update(inherits_from=f"{NOBODY}.r0.0")),
    "planned evaluations": evaluated(lambda rows: rows.append({**rows[0], "trial": f"{NOBODY}.r0.0"})),
    "evaluations agree": evaluated(lambda rows: rows[0]["objectives"].update(kid=2.0)),
    "whole evaluations": evaluated(lambda rows: rows[0]["objectives"].clear()),
    "judged by the run's net": evaluated(lambda rows: rows[0]["details"].update(feature_net="another")),
    "finite objectives": evaluated(lambda rows: rows[0]["objectives"].update(kid=float("inf"))),
    "generations in turn": begin_too_early,
    "results in place": concluded(generation=0),
    "every trial told": forget_an_evaluation,
    "in the plan's order": evaluated(lambda rows: rows.reverse()),
    "known survivors": concluded(survivors=[NOBODY]),
    "whole weights": lambda run: (some_weights(run) / "weights.safetensors").write_bytes(b"others"),
    "weights as judged": replace_weights,
    "weights kept": lambda run: [shutil.rmtree(folder) for folder in run.glob("generations/*/weights")],
    "decisions replay": concluded(front=[]),
}


def test_every_expectation_has_a_way_of_being_spoiled(run: Path, tmp_path: Path) -> None:
    checks = audit_run(Run.open(run), out=tmp_path / "audit").checks
    assert [check.expectation.name for check in checks] == list(SPOILED)


@pytest.mark.parametrize("name", SPOILED)
def test_each_kind_of_damage_is_told_by_its_expectation(name: str, run: Path, tmp_path: Path) -> None:
    SPOILED[name](run)
    opened = Run.open(run)
    with suppress(GateFailed):
        audit_run(opened, out=tmp_path / "audit")
    result = GateResult.load(tmp_path / "audit")
    assert name in [check.expectation.name for check in (*result.failed, *result.warnings)]


def test_a_sound_run_passes_with_its_decisions_made_once_more(run: Path, tmp_path: Path) -> None:
    before = contents(run)
    result = audit_run(Run.open(run), out=tmp_path / "audit")
    assert result.passed
    assert result.warnings == ()
    assert result.counts["trials"] == result.counts["evaluations"] == 4 * GENERATIONS
    assert next(check.rows for check in result.checks if check.expectation.name == "decisions replay") == 3 * 3
    assert contents(run) == before


def test_result_and_page_are_in_the_report_where_nothing_else_is_said(run: Path) -> None:
    assert audit_run(Run.open(run)).result == run / "report" / "audit" / "result.json"


def test_a_run_in_the_middle_of_a_generation_passes(run: Path, tmp_path: Path) -> None:
    work(Run.open(run), GENERATIONS, trials=2)
    result = audit_run(Run.open(run), out=tmp_path / "audit")
    assert [row["state"] for row in result.tables["Generations"]] == ["closed"] * GENERATIONS + ["open"]


def test_a_run_that_has_planned_nothing_passes(tmp_path: Path) -> None:
    assert audit_run(new_run(tmp_path / "run"), out=tmp_path / "audit").passed


def test_a_run_that_started_from_another_front_passes_while_that_is_there(run: Path, tmp_path: Path) -> None:
    genomes = [candidate.genome for candidate in Run.open(run).evolution().front()]
    warm = new_run(tmp_path / "warm", warm_start=genomes)
    work(warm, 0)
    select(warm, 0)
    assert audit_run(warm, out=tmp_path / "audit").passed
    next(warm.inputs.glob("warm_start-*")).unlink()
    assert "inputs as frozen" in failures(warm.path, tmp_path / "audit")


def test_a_file_that_is_no_json_is_named_and_left_where_it_is(run: Path, tmp_path: Path) -> None:
    path = next((generation(run, 1) / "evaluations").glob("*.json"))
    path.write_text("{")
    before = contents(run)
    found = failures(run, tmp_path / "audit")
    assert found["readable files"].examples[0]["file"] == path.relative_to(run).as_posix()
    assert contents(run) == before


def test_a_record_without_its_fields_is_named_with_what_is_missing(run: Path, tmp_path: Path) -> None:
    path = generation(run, 2) / "plan.jsonl"
    rewrite(path, lambda rows: rows[1].pop("parents"))
    problem = failures(run, tmp_path / "audit")["readable files"].examples[0]["problem"]
    assert "line 2" in problem
    assert "parents" in problem


def test_an_input_that_is_not_what_was_frozen_is_named(run: Path, tmp_path: Path) -> None:
    (run / "inputs" / "feature_net.safetensors").write_bytes(b"another net")
    found = failures(run, tmp_path / "audit")
    assert set(found) == {"inputs as frozen"}
    assert found["inputs as frozen"].examples[0]["file"] == "feature_net"


def test_an_objective_that_is_not_finite_is_named(run: Path, tmp_path: Path) -> None:
    path = generation(run, 1) / "evaluations.jsonl"
    rewrite(path, lambda rows: rows[2]["objectives"].update(kid=float("nan")))
    found = failures(run, tmp_path / "audit")
    assert {"finite objectives", "evaluations agree"} <= set(found)
    assert found["finite objectives"].examples[0]["name"] == "kid"


def test_a_value_that_was_changed_everywhere_does_not_replay(run: Path, tmp_path: Path) -> None:
    def worsen(record: dict[str, Any]) -> None:
        record["objectives"]["kid"] += 1.0

    front = json.loads((generation(run, 0) / "result.json").read_text())["front"][0]
    own = generation(run, 0) / "evaluations" / f"{front}.r0.0.json"
    rewrite(
        generation(run, 0) / "evaluations.jsonl", lambda rows: [worsen(row) for row in rows if front in row["trial"]]
    )
    rewrite(own, lambda rows: worsen(rows[0]))
    found = failures(run, tmp_path / "audit")
    assert set(found) == {"decisions replay"}
    assert found["decisions replay"].examples[0]["file"] == "generations/0000/result.json"


def test_a_result_that_was_changed_does_not_replay(run: Path, tmp_path: Path) -> None:
    path = generation(run, 2) / "result.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "survivors": content["survivors"][::-1]}))
    assert set(failures(run, tmp_path / "audit")) == {"decisions replay"}


def test_a_parent_that_was_never_tried_breaks_the_lineage(run: Path, tmp_path: Path) -> None:
    rewrite(generation(run, 1) / "plan.jsonl", lambda rows: rows[0].update(parents=["f" * 16]))
    assert failures(run, tmp_path / "audit")["closed lineage"].examples[0]["stray_parent"] == "f" * 16


def test_a_parent_in_another_run_does_not(run: Path, tmp_path: Path) -> None:
    rewrite(generation(run, 0) / "plan.jsonl", lambda rows: rows[0].update(parents=[f"other/{'f' * 16}"]))
    assert "closed lineage" not in failures(run, tmp_path / "audit")


def test_a_trial_that_is_planned_twice_is_named(run: Path, tmp_path: Path) -> None:
    first = (generation(run, 0) / "plan.jsonl").read_text().splitlines()[0]
    rewrite(generation(run, 1) / "plan.jsonl", lambda rows: rows.append({**json.loads(first), "generation": 1}))
    assert len(failures(run, tmp_path / "audit")["each trial once"].offending) == 2


def test_a_genome_that_is_not_its_candidates_is_named(run: Path, tmp_path: Path) -> None:
    def swap(rows: list[Any]) -> None:
        rows[0]["genome"], rows[1]["genome"] = rows[1]["genome"], rows[0]["genome"]

    rewrite(generation(run, 1) / "plan.jsonl", swap)
    assert failures(run, tmp_path / "audit")["names of candidates"].offending == (4, 5)


def test_a_missing_evaluation_of_a_closed_generation_is_named(run: Path, tmp_path: Path) -> None:
    lost = forget_an_evaluation(run)
    assert failures(run, tmp_path / "audit")["every trial told"].examples == ({"generation": 1, "untold": lost},)


def test_weights_that_were_changed_are_named(run: Path, tmp_path: Path) -> None:
    folder = some_weights(run)
    (folder / "weights.safetensors").write_bytes(b"others")
    found = failures(run, tmp_path / "audit")
    assert set(found) == {"whole weights"}
    assert found["whole weights"].examples[0]["folder"] == folder.relative_to(run).as_posix()


def test_weights_other_than_those_that_were_judged_are_named(run: Path, tmp_path: Path) -> None:
    replace_weights(run)
    assert set(failures(run, tmp_path / "audit")) == {"weights as judged"}


def test_weights_that_are_pruned_while_they_are_read_are_no_damage(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = some_weights(run)

    def prune_meanwhile(folder: Path) -> str:
        if folder == pruned:
            shutil.rmtree(folder)
        return ""

    monkeypatch.setattr("evodiff.training.digests.weights_damage", prune_meanwhile)
    result = audit_run(Run.open(run), out=tmp_path / "audit")
    assert result.passed


def test_weights_that_are_gone_are_a_warning(run: Path, tmp_path: Path) -> None:
    SPOILED["weights kept"](run)
    result = audit_run(Run.open(run), out=tmp_path / "audit")
    assert [check.expectation.name for check in result.warnings] == ["weights kept"]


def test_a_run_that_another_version_began_is_not_decided_once_more(run: Path, tmp_path: Path) -> None:
    path = run / "experiment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "evodiff": "0.0.1"}))
    result = audit_run(Run.open(run), out=tmp_path / "audit")
    assert result.passed
    assert "decisions replay" not in [check.expectation.name for check in result.checks]


def test_what_offends_is_set_aside_until_it_is_mended(run: Path, tmp_path: Path) -> None:
    path = run / "inputs" / "feature_net.safetensors"
    path.write_bytes(b"another net")
    failures(run, tmp_path / "audit")
    rows = [json.loads(line) for line in (tmp_path / "audit" / "quarantine" / "inputs.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows if row["offends"] == ["inputs as frozen"]] == ["feature_net"]
    path.write_bytes(b"")
    assert audit_run(Run.open(run), out=tmp_path / "audit").passed
    assert not (tmp_path / "audit" / "quarantine").exists()
