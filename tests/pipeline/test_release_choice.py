"""What a run would have released in the place of what serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import pytest
from told_runs import TellingPool, new_run
from tracked_runs import told_run

from evodiff.deployment.worker.model_checks import check_model_folder
from evodiff.engine import Evaluation, Objective
from evodiff.errors import LedgerError
from evodiff.pipeline.choice import beaten_objectives, choose, promising_heir
from evodiff.pipeline.evolve import evolve_generation
from evodiff.pipeline.export import export_candidate
from evodiff.pipeline.final import trial_row
from evodiff.pipeline.heritage import inherits
from evodiff.pipeline.release import read_release, request_release, write_release
from evodiff.pipeline.run import Run
from evodiff.pipeline.scratch import awaits_scratch, front_from_scratch, retrain_front
from evodiff.pipeline.steering import preference
from evodiff.workers import Outcome, Task

OBJECTIVES = ("kid", "denoising_loss")


def told(path: Path, **settings: Any) -> Run:
    """A run whose candidates all lie on one front: what KID gains, the loss pays."""
    run = new_run(path, objectives=OBJECTIVES, population=8, **settings)

    def tell(trial: Any) -> dict[str, float]:
        share = int(trial["candidate"], 16) / 2**64
        return {"kid": 1 + share, "denoising_loss": 1 + (1 - share) ** 2}

    evolve_generation(run, TellingPool(tell), "g0")
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return told(tmp_path / "run")


def ranked(run: Run) -> list[Any]:
    """Return the front, the nearest to what is wanted first."""
    return sorted(run.evolution().front(), key=lambda item: (item.fitness_score, item.id), reverse=True)


def entry(run: Run, candidate: str) -> dict[str, Any]:
    return {"run": run.name, "candidate": candidate, "generation": 0}


def test_of_the_front_the_nearest_to_what_is_wanted_is_the_first_to_serve(run: Run) -> None:
    best, *others = ranked(run)
    assert len(others) >= 2
    assert choose(run, None).candidate == best.id
    for other in others:
        assert choose(run, entry(run, other.id)).candidate == best.id


def test_what_serves_is_not_replaced_by_what_is_no_nearer(run: Run) -> None:
    best = ranked(run)[0]
    choice = choose(run, entry(run, best.id))
    assert (choice.candidate, choice.settled) == (None, True)
    assert best.id in choice.reason


def test_a_gain_within_the_standard_error_is_none(run: Run) -> None:
    best, second, third = ranked(run)[:3]

    def blurred(of: Run, candidate: str) -> Evaluation:
        evaluation = of.evolution().candidate(candidate).evaluation
        assert evaluation is not None
        error = 100.0 if candidate == best.id else 0.0
        return replace(evaluation, details={f"{name}_standard_error": error for name in OBJECTIVES})

    assert choose(run, entry(run, third.id), remeasure=blurred).candidate == second.id
    choice = choose(run, entry(run, second.id), remeasure=blurred)
    assert choice.candidate is None
    assert "standard error" in choice.reason


def test_what_was_lucky_is_found_out_when_it_is_measured_again(tmp_path: Path) -> None:
    run = told(tmp_path / "run", prefer="kid<1.6")
    best, *others = [item for item in ranked(run) if item.evaluation.objectives["kid"] < 1.6]

    def sober(of: Run, candidate: str) -> Evaluation:
        evaluation = of.evolution().candidate(candidate).evaluation
        assert evaluation is not None
        kid = 2.0 if candidate == best.id else evaluation.objectives["kid"]
        return replace(evaluation, objectives={**evaluation.objectives, "kid": kid})

    assert choose(run, None).candidate == best.id
    assert choose(run, None, remeasure=sober).candidate == others[0].id


def test_what_serves_outside_of_the_limits_is_replaced_by_what_is_inside(tmp_path: Path) -> None:
    run = told(tmp_path / "run")
    by_kid = sorted(run.evolution().front(), key=lambda item: item.evaluation.objectives["kid"])  # type: ignore[union-attr]
    best = ranked(run)[0]
    limited = told(tmp_path / "limited", prefer=f"kid<{by_kid[1].evaluation.objectives['kid']}")  # type: ignore[union-attr]
    assert preference(limited) is not None
    wanted = choose(limited, entry(limited, best.id)).candidate
    assert wanted == (None if best.id == by_kid[0].id else by_kid[0].id)


def test_nobody_is_released_where_nobody_is_inside_or_can_be_measured(tmp_path: Path, run: Run) -> None:
    strict = told(tmp_path / "strict", prefer="kid<0.5")
    choice = choose(strict, None)
    assert (choice.candidate, choice.settled) == (None, False)
    assert "kid<0.5" in choice.reason

    def gone(of: Run, candidate: str) -> Evaluation:
        raise LedgerError("The weights are gone.")

    choice = choose(run, None, remeasure=gone)
    assert choice.candidate is None
    assert "weights are gone" in choice.reason


def test_runs_that_measure_other_things_are_not_compared(tmp_path: Path, run: Run) -> None:
    same, other = told(tmp_path / "same", seed=3), new_run(tmp_path / "other")
    evolve_generation(other, TellingPool(lambda trial: {"kid": 0.0}), "g0")
    assert choose(run, entry(same, ranked(same)[-1].id)).settled
    choice = choose(run, entry(other, other.evolution().front()[0].id))
    assert (choice.candidate, choice.settled) == (None, False)
    assert "objectives" in choice.reason
    assert choose(run, {"run": "gone", "candidate": "0" * 16}).candidate is None
    assert choose(run, {"model": "by-hand", "version": "1"}).candidate is None


def test_a_model_of_another_machines_run_of_the_same_name_is_not_judged_by_the_values_here(
    tmp_path: Path, run: Run
) -> None:
    best = ranked(run)[0]
    for home in (run, told(tmp_path / "same", seed=3)):
        worst = entry(home, ranked(home)[-1].id)
        assert choose(run, {**worst, "experiment": home.identity}).candidate == best.id
        choice = choose(run, {**worst, "experiment": "0" * 64})
        assert (choice.candidate, choice.settled) == (None, False)
        assert f"another run of the name {home.name}" in choice.reason
    assert choose(run, {**entry(run, best.id), "experiment": run.identity}).settled


def test_what_was_registered_before_versions_named_their_run_is_known_by_its_weights(tmp_path: Path) -> None:
    run = told_run(tmp_path / "told", generations=1, weights=True)
    served = ranked(run)[-1].id
    registered = {**entry(run, served), "model": run.name, "version": "3"}
    export_candidate(run, served, tmp_path / "out")
    digest = check_model_folder(tmp_path / "out", max_bytes=10**8).digest
    assert choose(run, {**registered, "digest": digest}).settled
    assert "nothing says" in choose(run, registered).reason
    assert "its weights are not those" in choose(run, {**entry(run, served), "digest": "0" * 64}).reason
    choice = choose(run, {**registered, "digest": "0" * 64})
    assert (choice.candidate, choice.settled) == (None, False)
    assert "its weights are not those that the run told has of it here" in choice.reason
    longer, trial = run.path / "final" / served, run.ledger.weights_folder(trial_row(run, served))
    copytree(run.ledger.weights_folder(trial_row(run, ranked(run)[0].id)), longer)
    assert choose(run, {**registered, "digest": digest}).settled
    rmtree(longer)
    rmtree(trial)
    assert not choose(run, {**registered, "digest": digest}).settled
    assert choose(run, {**entry(run, served), "digest": digest}).settled


def test_the_request_says_why_and_takes_back_what_is_wanted_no_longer(tmp_path: Path, run: Run) -> None:
    file, best, second = tmp_path / "release.json", *ranked(run)[:2]
    asked = request_release(run, 0, file)
    assert (asked["pending"], asked["asked"]["candidate"]) == (entry(run, best.id), best.id)
    assert "first to serve" in asked["asked"]["reason"]
    served = {**read_release(file), "champion": entry(run, best.id), "pending": entry(run, second.id)}
    write_release(file, served)
    asked = request_release(run, 1, file)
    assert (asked["pending"], asked["asked"]["candidate"]) == (None, None)
    assert asked["revision"] == served["revision"] + 1
    before = file.stat().st_mtime_ns
    assert request_release(run, 1, file) == asked
    assert file.stat().st_mtime_ns == before


def test_a_gain_counts_in_the_direction_of_its_objective() -> None:
    objectives = [Objective("kid"), Objective("accuracy", maximise=True)]
    here = Evaluation({"kid": 1.0, "accuracy": 0.9}, details={"kid_standard_error": 0.3})
    there = Evaluation({"kid": 1.4, "accuracy": 0.8}, details={"kid_standard_error": 0.4})
    assert beaten_objectives(here, there, objectives) == ["accuracy"]  # 0.4 is within sqrt(0.3^2 + 0.4^2)
    assert beaten_objectives(there, here, objectives) == []


class InheritingPool(TellingPool):
    """Tells that weights were published, and a KID that is better by a half where they were inherited."""

    def run(self, tasks: Sequence[Task], *, on_progress: object = None) -> Iterator[Outcome]:
        for task in tasks:
            row = task.payload["trial"]
            self.told.append(task.id)
            value = {"kid": 1 + int(row["candidate"], 16) / 2**64 - 0.5 * inherits(row)}
            yield Outcome(task.id, {"objectives": value, "weights": "0" * 64, "details": {}}, None, 0.0, 0)


def test_an_heir_is_trained_from_scratch_while_it_looks_better_than_all_that_are_known(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", objectives=("kid", "parameters"), population=8, inherit=True)
    pool = InheritingPool(lambda row: {})
    assert promising_heir(run) is None
    for generation in range(3):
        evolve_generation(run, pool, f"g{generation}")
    waiting = {item.id: item.fitness_score for item in run.evolution().front() if awaits_scratch(run, item.id)}
    assert waiting
    pool.told.clear()
    while (heir := promising_heir(run)) is not None:
        assert waiting[heir] == max(waiting.values())
        retrain_front(run, pool, only=[heir])
        del waiting[heir]
    assert pool.told
    best = max(item.fitness_score or 0.0 for item in front_from_scratch(run))
    assert all((fitness or 0.0) <= best for fitness in waiting.values())
    assert choose(run, None).candidate is not None
    assert waiting, "the seed of this test leaves nobody to wait"
    barred = {f"{run.name}/{item.id}" for item in front_from_scratch(run)}  # rolled back: the next is worth a training
    assert choose(run, None, barred=barred).candidate is None
    assert promising_heir(run, barred) == max(waiting, key=lambda name: (waiting[name] or 0.0, name))
