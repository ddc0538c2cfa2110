"""A search whose children start from their parents' weights: the same bytes after kills, a champion from scratch."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc_commands import clone, dvc, outputs
from quick_search import QUICK, CommandLine

from evodiff.errors import LedgerError, SettingsError
from evodiff.pipeline import driver
from evodiff.pipeline.choice import promising_heir
from evodiff.pipeline.export import trained_folder
from evodiff.pipeline.final import champion
from evodiff.pipeline.frozen import check_resume
from evodiff.pipeline.generation import reference_curve
from evodiff.pipeline.heritage import from_scratch, inherited_folders, inherits
from evodiff.pipeline.run import Run
from evodiff.pipeline.scratch import front_from_scratch, heirs_of_front, scratch_evaluation, scratch_weights
from evodiff.reporting.run_view import view_of_run
from evodiff.settings import load_settings
from evodiff.tracking import delivery, outbox, registry
from evodiff.tracking.records import RunRecords
from evodiff.tracking.registry import RegisteredCandidate
from evodiff.training import load_weights, weights_digest

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

INHERITING = (*QUICK, "--population", "6", "--steps", "12", "--inherit")
KILLS = 4


def contents(run: Path) -> dict[str, bytes]:
    """Every file that must be the same on a rerun, by its path in the run, and what the front reached from scratch."""
    places = [run / "experiment.json", *(run / "inputs").rglob("*"), *(run / "generations").rglob("*")]
    places += (run / "scratch-front").rglob("*")
    return {str(path.relative_to(run)): path.read_bytes() for path in places if path.is_file()}


def heirs(run: Run) -> Iterator[dict[str, Any]]:
    for generation in range(run.ledger.generations):
        yield from (row for row in run.ledger.plan(generation) if inherits(row))


@pytest.fixture(scope="module")
def searched(evodiff: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of two generations."""
    run = tmp_path_factory.mktemp("inheriting") / "run"
    evodiff("evolve", *INHERITING, "--generations", 2, "--champion-steps", 16, "--out", run)
    return run


@pytest.fixture(scope="module")
def archived(evodiff: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of four generations without an interruption, archived generation by generation."""
    base = tmp_path_factory.mktemp("archived")
    run, archive = base / "run", base / "archive"
    evodiff("evolve", *INHERITING, "--generations", 1, "--out", run)
    evodiff("archive", run, "--archive", archive)
    for generations in (2, 3, 4):
        evodiff("evolve", "--resume", run, "--generations", generations, "--champion-steps", 16)
        evodiff("archive", run, "--archive", archive)
    return run


def test_children_start_from_the_weights_of_their_parents_and_say_what_they_got(searched: Path) -> None:
    run = Run.open(searched)
    rows = list(heirs(run))
    assert rows
    assert run.options()["inherit"] is True
    configs = [load_weights(folder)[1] for row in rows if (folder := run.ledger.weights_folder(row)).exists()]
    for config in configs:
        assert config["inherits_from"]
        assert 0 < config["inheritance"]["share"] <= 1
    assert configs


def test_a_search_that_is_killed_again_and_again_ends_with_the_same_bytes(
    archived: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = [str(Path(sys.executable).with_name("evodiff")), "evolve"]
    start = [*INHERITING, "--generations", "4", "--out", str(folder)]
    resume = ["--resume", str(folder), "--generations", "4", "--champion-steps", "16"]
    chance = random.Random(3)
    kills = 0
    while True:
        arguments = resume if (folder / "experiment.json").exists() else start
        process = subprocess.Popen(
            [*command, *arguments], env=environment, start_new_session=True, stderr=subprocess.PIPE
        )
        try:
            _, complaint = process.communicate(timeout=chance.uniform(3.0, 8.0) if kills < KILLS else 240.0)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, complaint.decode()
        break
    one, other = contents(archived), contents(folder)
    # What else was retrained belongs to fronts on the way, at which the other search ended for a while.
    ours = {name for name in one if not name.startswith("scratch-front")} | set(other)
    assert [name for name in sorted(ours) if one.get(name) != other.get(name)] == []


def test_the_champion_is_chosen_by_what_the_front_reaches_from_scratch(searched: Path) -> None:
    run = Run.open(searched)
    members = heirs_of_front(run)
    assert members
    for candidate in members:
        evaluation = scratch_evaluation(run, candidate)
        assert evaluation is not None
        assert evaluation.weights == weights_digest(scratch_weights(run, candidate))
        config = load_weights(scratch_weights(run, candidate))[1]
        assert config["steps"] == run.training.steps
        assert "inherits_from" not in config
        assert evaluation.objectives.keys() == {objective.name for objective in run.objectives}
        assert trained_folder(run, candidate) in (scratch_weights(run, candidate), run.final_folder(candidate))
    best = champion(run)
    assert best is not None
    front = front_from_scratch(run)
    assert best.fitness_score == max(item.fitness_score for item in front if item.evaluation.feasible)
    view = view_of_run(run)
    assert {item.candidate for item in view.retrained} == set(members)
    page = (searched / "report" / "index.html").read_text(encoding="utf-8")
    assert "The front from scratch" in page


def test_a_member_that_was_not_retrained_is_no_champion_and_its_weights_are_not_given_away(
    searched: Path, tmp_path: Path
) -> None:
    shutil.copytree(searched, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    members = heirs_of_front(run)
    shutil.rmtree(tmp_path / "run" / "scratch-front")
    shutil.rmtree(tmp_path / "run" / "final")
    best = champion(run)
    assert best is None or best.id not in members
    with pytest.raises(LedgerError, match="from scratch"):
        trained_folder(run, next(iter(members)))


def test_registrations_of_heirs_wait_for_their_training_from_scratch(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(searched, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    records, members = RunRecords(run), set(heirs_of_front(run))
    generation = next(index for index in range(run.ledger.closed) if members & set(records.new_members(index)))
    outbox.ask_registration(run, generation)
    monkeypatch.setattr(
        registry,
        "_register",
        lambda client, name, records, when, who: RegisteredCandidate(run.name, "1", who, when, "0" * 64, new=True),
    )
    before: list[RegisteredCandidate] = []
    after: list[RegisteredCandidate] = []
    shutil.rmtree(run.path / "scratch-front")
    delivery._register(None, "1", run, before)
    assert not members & {item.candidate for item in before}
    assert outbox.waiting_registrations(run) == [generation]
    (note,) = (run.path / "outbox").glob("*.json")
    assert json.loads(note.read_bytes())["on_purpose"] is True
    shutil.copytree(searched / "scratch-front", run.path / "scratch-front")
    delivery._register(None, "1", run, after)
    assert members & {item.candidate for item in after}
    assert outbox.waiting_registrations(run) == []


def test_the_most_promising_heir_is_trained_from_scratch_for_a_release(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(searched, tmp_path / "run")
    monkeypatch.setenv("EVODIFF_RELEASE_FILE", str(tmp_path / "release.json"))
    run, said = Run.open(tmp_path / "run"), list[str]()
    shutil.rmtree(run.path / "scratch-front")
    shutil.rmtree(run.path / "final")
    heir = promising_heir(run)
    assert driver.heirs_to_train(run, said.append) == [heir]
    assert heir is not None
    driver.train_heir(run, heir, said.append)
    release = driver.release(run, run.ledger.closed - 1, said.append)
    assert [name for name in heirs_of_front(run) if scratch_evaluation(run, name) is not None] == [heir]
    assert trained_folder(run, heir) == scratch_weights(run, heir)
    assert release["asked"]["candidate"] in {item.id for item in front_from_scratch(run)}
    known = scratch_evaluation(Run.open(searched), heir)
    assert known is not None
    assert scratch_evaluation(run, heir) == known  # as at the search's end


def test_the_final_training_of_a_champion_starts_from_scratch(searched: Path) -> None:
    run = Run.open(searched)
    best = champion(run)
    assert best is not None
    assert "inherits_from" not in load_weights(run.final_folder(best.id))[1]


def test_weights_to_inherit_that_are_missing_damaged_or_others_stop_the_run_with_a_remedy(
    searched: Path, tmp_path: Path, evodiff: CommandLine
) -> None:
    shutil.copytree(searched, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    evolution = run.evolution()
    row = next(trial for trial in evolution.ask(6) if trial.inherits_from)
    data = row.to_json(run.space.to_json(row.genome))
    (folder, *_) = inherited_folders(run, data)
    config = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(config + b" ")
    with pytest.raises(LedgerError, match="Trials inherit the weights in"):
        inherited_folders(run, data)
    failed = evodiff("evolve", "--resume", run.path, "--generations", 3, check=False)
    assert failed.returncode != 0
    assert "Restore the folder" in failed.stderr
    assert run.ledger.evaluations(2).get(row.id) is None
    (folder / "config.json").write_bytes(config)
    assert inherited_folders(run, data)
    shutil.rmtree(folder)
    with pytest.raises(LedgerError, match="Restore the folder"):
        inherited_folders(run, data)
    with pytest.raises(LedgerError, match="never planned"):
        inherited_folders(run, {**data, "inherits_from": ["f" * 16 + ".r0.0"]})
    assert not inherits(from_scratch(data))


def test_trials_from_scratch_are_stopped_early_by_their_like_alone(searched: Path) -> None:
    run = Run.open(searched)
    for generation in range(1, run.ledger.closed + 1):
        rows = run.ledger.plan(generation - 1)
        fresh = [row["id"] for row in rows if not inherits(row)]
        curve = reference_curve(run, generation)
        assert (curve is None) == (not fresh)
        if len(fresh) < len(rows) and fresh:
            assert curve != reference_curve(run, generation, inherited=True)


def test_inheritance_is_frozen(searched: Path) -> None:
    run = Run.open(searched)
    check_resume(run, load_settings({"inherit": True}), {"inherit": True})
    with pytest.raises(SettingsError, match="--inherit"):
        check_resume(run, load_settings({"inherit": False}), {"inherit": False})


def test_an_archive_builds_generations_that_inherit_again(archived: Path, tmp_path: Path) -> None:
    archive = archived.parent / "archive"
    recorded = json.loads((archive / "archive" / "run" / "g0003" / "inputs" / "recorded.json").read_text())
    assert recorded["pull_only"] is None
    copy = clone(archive, tmp_path / "clone")
    dvc(copy, "repro")
    assert outputs(copy) == outputs(archive)
