"""What a run froze holds for whoever goes on with it; what may change is remembered where it makes sense."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from told_runs import TellingPool, inputs, new_run

from evodiff import smoke
from evodiff.architecture.zoo import tiny
from evodiff.errors import LedgerError, SettingsError
from evodiff.pipeline.create import check_folder, check_settings, create_run
from evodiff.pipeline.frozen import check_resume
from evodiff.pipeline.run import Run
from evodiff.pipeline.single import evaluate_genome
from evodiff.reporting.progress import ProgressDisplay
from evodiff.search import EvolutionaryDiffusionSearch, arm_folder, random_arm, resume_search
from evodiff.settings import EvaluationSettings, TrainingSettings, load_settings


@pytest.fixture(autouse=True)
def _folder_and_variables_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


def resume(run: Run, **given: Any) -> None:
    check_resume(run, load_settings(given), given)


def photos(path: Path, size: int = 16, **settings: Any) -> Run:
    """A run that says it is over photographs."""
    run = new_run(path, size=size, **settings)
    rewrite(path / "experiment.json", lambda frozen: frozen["settings"]["dataset"].update(name=f"photos:{size}"))
    return Run.open(run.path)


def rewrite(file: Path, change: Any) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "given",
    [
        {"dataset": "photos"},
        {"dataset": "photos:16", "image_size": 16},
        {"dataset": "photos", "image_size": None},
        {"objectives": ["kid"]},
        {"seed": "0", "population": 4},
        {"training": {"steps": 120}},
        {"training": TrainingSettings(), "evaluation": {"samples": 500}},
        {"steps": 120, "device": "auto"},
        {"generations": 9, "workers": 3, "time_budget_seconds": 4.0, "stop_on_plateau": True},
    ],
)
def test_other_words_for_what_is_frozen_and_what_may_change_are_accepted(given: dict[str, Any], tmp_path: Path) -> None:
    resume(photos(tmp_path / "run"), **given)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"dataset": "photos:32"}, "--dataset"),
        ({"dataset": "digits"}, "--dataset"),
        ({"image_size": 32}, "--image-size"),
        ({"objectives": ["kid", "latency_ms"]}, "--objectives"),
        ({"seed": 1}, "--seed"),
        ({"steps": 9}, "--steps"),
        ({"training": {"batch_size": 9}}, "training.batch_size"),
        ({"training": TrainingSettings(steps=9)}, "--steps"),
        ({"evaluation": EvaluationSettings(samples=99)}, "evaluation.samples"),
        ({"device": "cuda"}, "--device"),
    ],
)
def test_options_that_contradict_a_run_are_named(given: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"^{named} of .* is frozen") as caught:
        resume(photos(tmp_path / "run"), **given)
    assert "--champion-steps" in caught.value.remedy


def test_two_paths_of_one_folder_are_one_dataset(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    rewrite(run.path / "experiment.json", lambda frozen: frozen["settings"]["dataset"].update(name="folder:../mine"))
    run = Run.open(run.path)
    resume(run, dataset=f"folder:{tmp_path / 'mine'}")
    with pytest.raises(SettingsError, match="--dataset"):
        resume(run, dataset=f"folder:{tmp_path / 'other'}")


def test_a_variable_that_contradicts_a_run_is_refused_unless_an_option_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tmp_path / "run")
    monkeypatch.setenv("EVODIFF_TRAINING__STEPS", "9")
    with pytest.raises(SettingsError, match=r"^EVODIFF_TRAINING__STEPS of .* expected 120, found 9"):
        resume(run)
    resume(run, steps=120)
    monkeypatch.setenv("EVODIFF_TRAINING__STEPS", "120")
    resume(run)


def test_the_file_of_parameters_never_stops_a_run_but_what_it_cannot_change_is_said(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", seed=5, training=TrainingSettings(steps=7))
    defaults = "population: 8\ntraining: {steps: 120, batch_size: 64}\n"
    Path("params.yaml").write_text(f"seed: 3\n{defaults}")
    with pytest.warns(UserWarning, match="seed of .* stays 5, though params.yaml says 3") as said:
        resume(run)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resume(run, seed=5)


class SearchPool(TellingPool):
    """Tells trials that the second letter of an id decides."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(scored)


def scored(trial: Mapping[str, Any]) -> Mapping[str, float]:
    return {"kid": int(trial["candidate"], 16) / 2**64}


@pytest.fixture
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evodiff.pipeline.session.WorkerPool", SearchPool)


@pytest.mark.usefixtures("_no_workers")
def test_the_facade_opens_its_own_run_again_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evodiff.search.gather_inputs", lambda *given, **more: inputs(tmp_path / "cache", size=16))
    given = {"objectives": ["kid"], "training": {"steps": 4}, "target": "m1", "out": tmp_path / "run"}
    first = EvolutionaryDiffusionSearch(4, dataset="photos", **given)
    rewrite(first.run.path / "experiment.json", lambda all_: all_["settings"]["dataset"].update(name="photos:16"))
    first.evolve_generation()
    again = EvolutionaryDiffusionSearch(4, dataset="photos", **given)
    assert again.population == first.population
    for change in ({"training": {"steps": 5}}, {"evaluation": {"samples": 17}}, {"seed": 3}):
        with pytest.raises(SettingsError, match="is frozen"):
            EvolutionaryDiffusionSearch(4, dataset="photos", **{**given, **change})


def test_one_genome_is_judged_as_its_run_froze_it_whatever_holds_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = {"seed": 4, "training": TrainingSettings(steps=7), "evaluation": EvaluationSettings(samples=33)}
    run = new_run(tmp_path / "run", **frozen)
    monkeypatch.setenv("EVODIFF_TRAINING__STEPS", "99")
    monkeypatch.setenv("EVODIFF_SEED", "8")
    genome = tiny(run.shape)
    assert evaluate_genome(run, genome, TellingPool(scored)).keys() == {"kid"}
    (single,) = (Run.open(path) for path in (run.path / "single").iterdir())
    assert {**single.options(), "population": 4} == run.options()
    assert single.settings == run.settings
    assert single.experiment["seed"] == 4


@pytest.mark.parametrize("stored", ["[]", "3", "{", '{"generations": "x", "champion_steps": [], "stop_on_plateau": 1}'])
@pytest.mark.usefixtures("_no_workers")
def test_a_resume_takes_of_what_was_wanted_only_what_makes_sense(stored: str, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    (run.path / "telemetry").mkdir(exist_ok=True)
    (run.path / "telemetry" / "wanted.json").write_text(stored)
    given = {"generations": 1}
    resume_search(run.path, load_settings(given), given=given, display=ProgressDisplay())
    resume_search(run.path, load_settings({}), given={}, display=ProgressDisplay())
    assert run.ledger.closed == 1


@pytest.mark.parametrize("missing", ["space", "population_size", "seed", "strategy", "objectives", "rungs"])
def test_an_experiment_that_lost_a_field_is_damaged(missing: str, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    rewrite(run.path / "experiment.json", lambda frozen: frozen.pop(missing))
    with pytest.raises(LedgerError, match=r"experiment\.json .* damaged"):
        Run.open(run.path)


@pytest.mark.parametrize("missing", ["dataset", "image_shape", "digests", "evaluation", "target", "device", "prefer"])
def test_an_experiment_that_lost_a_setting_is_damaged(missing: str, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    rewrite(run.path / "experiment.json", lambda frozen: frozen["settings"].pop(missing))
    with pytest.raises(LedgerError, match=r"experiment\.json .* damaged"):
        Run.open(run.path)


def test_only_a_random_search_over_the_same_is_a_runs_random_arm(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", seed=2)
    beside = arm_folder(run.path)
    assert random_arm(run) is None
    for number, other in enumerate(({"strategy": "nsga2", "seed": 2}, {"strategy": "random", "seed": 3})):
        new_run(beside, **other)
        assert random_arm(run) is None
        beside.rename(tmp_path / f"other{number}")
    new_run(beside, strategy="random", seed=2, size=16)
    assert random_arm(run) is None
    beside.rename(tmp_path / "other-images")
    new_run(beside, strategy="random", seed=2)
    arm = random_arm(run)
    assert arm is not None
    assert arm.path == beside
    (beside / "experiment.json").write_text("{")
    with pytest.warns(UserWarning, match="no random-search arm"):
        assert random_arm(run) is None


def test_a_place_that_cannot_be_written_is_found_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for place in (file / "run", file / "a" / "run", tmp_path / "new" / ("x" * 300)):
        with pytest.raises(LedgerError, match="cannot be written") as caught:
            check_folder(place)
        assert "--out" in caught.value.remedy
    check_folder(tmp_path / "new" / "deep" / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "here"]
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    "evaluation",
    [{"sampler_steps": 5000}, {"sigma_min": 90.0}, {"sigma_min": 1.0, "sigma_max": 1.01}],
)
def test_a_score_that_cannot_be_sampled_is_refused_before_anything_is_computed(
    evaluation: dict[str, Any], tmp_path: Path
) -> None:
    settings = load_settings({"evaluation": evaluation, "target": "m1"})
    with pytest.raises(SettingsError, match="steps"):
        check_settings(settings)
    with pytest.raises(SettingsError, match="steps"):
        create_run(settings, tmp_path / "run", inputs(tmp_path / "cache"))
    assert not (tmp_path / "run").exists()


def test_rungs_of_equally_many_steps_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    settings = load_settings({"steps": 12, "rungs": 5, "target": "m1"})
    with pytest.raises(SettingsError, match=r"5 rungs of 1, 1, 1, 4, 12 steps.*3 rungs at most"):
        check_settings(settings)
    with pytest.raises(SettingsError, match="rungs"):
        create_run(settings, tmp_path / "run", inputs(tmp_path / "cache"))
    assert not (tmp_path / "run").exists()
    check_settings(load_settings({"steps": 12, "rungs": 3, "target": "m1"}))


def test_replicates_of_heirs_are_refused_before_anything_is_computed() -> None:
    with pytest.raises(SettingsError, match="inherit and replicate_ties together"):
        check_settings(load_settings({"inherit": True, "replicate_ties": True, "target": "m1"}))


def test_a_run_of_many_rungs_can_be_tried_out_and_asked_for_a_genome_in_few_steps(tmp_path: Path) -> None:
    check_settings(smoke._small(load_settings({"steps": 120, "rungs": 5, "target": "m1"})))
    run = new_run(tmp_path / "run", rungs=5)
    rewrite(run.path / "experiment.json", lambda frozen: frozen["settings"]["training"].update(steps=12))
    assert evaluate_genome(Run.open(run.path), tiny(run.shape), TellingPool(scored)).keys() == {"kid"}


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "cosine"])
def test_the_usual_score_can_be_sampled_on_every_schedule(schedule: str) -> None:
    for steps in (10, 11):  # the first is the default, which is taken as known
        check_settings(
            load_settings({"training": {"noise_schedule": schedule}, "evaluation": {"sampler_steps": steps}})
        )
