"""A champion's contest: who takes part, for how long, what is done again and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from told_runs import TellingPool, new_run

from evodiff.architecture.cost import memory_mb, training_flops
from evodiff.architecture.graph import resolve
from evodiff.architecture.zoo import ZOO, zoo
from evodiff.engine.candidate import Failure
from evodiff.errors import Interrupted, LedgerError
from evodiff.pipeline.contest import hold_contest
from evodiff.pipeline.evolve import evolve
from evodiff.pipeline.generation import Listener
from evodiff.pipeline.prune import prune
from evodiff.pipeline.rivals import Contest, plan_contest, score_file, warm_up_steps, weights_folder
from evodiff.pipeline.run import Run
from evodiff.reporting.run_view import view_of_run
from evodiff.settings import TrainingSettings
from evodiff.workers import Outcome, Task

STEPS = 30


def scored(trial: Mapping[str, Any]) -> Mapping[str, float]:
    return {"kid": int(trial["candidate"], 16) / 2**64}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = new_run(tmp_path / "run", population=8)
    evolve(run, TellingPool(scored), generations=2, holder="me")
    return run


@pytest.fixture
def contest(run: Run) -> Contest:
    """The champion against the first two of the zoo that are not itself."""
    whole = plan_contest(run, steps=STEPS, seeds=2, samples=64)
    return replace(whole, rivals=whole.rivals[:3])


class ScoringPool:
    """Stands where a worker pool does: scores every stage at once, or ends a task as ``endings`` says."""

    def __init__(self, run: Run, endings: Mapping[str, Failure | None] | None = None) -> None:
        self.asked: list[Task] = []
        self._run = run
        self._endings = endings or {}

    def run(self, tasks: Sequence[Task], *, on_progress: Callable[..., None] | None = None) -> Iterator[Outcome]:
        for task in tasks:
            self.asked.append(task)
            if on_progress is not None:
                on_progress(task.id, {"step": 1, "steps": 2})
            if task.id in self._endings:
                failure = self._endings[task.id]
                yield Outcome(task.id, None, failure, 0.0, 0, interrupted=failure is None)
                continue
            self._do(task.payload)
            yield Outcome(task.id, {}, None, 0.0, 0)

    def _do(self, payload: Mapping[str, Any]) -> None:
        if "genomes" in payload:
            measured = {name: {"median_ms": 2.0, "low_ms": 1.0, "high_ms": 3.0} for name in payload["genomes"]}
            self._run.ledger.replace("validation/latency.json", json.dumps({"networks": measured}).encode())
            return
        for steps in payload["stages"]:
            kid = int(payload["candidate"], 16) / 2**64 + 0.001 * payload["seed"] + 1 / steps
            content = {"kid": kid, "kid_standard_error": 0.01, "label_accuracy": None, "samples": payload["samples"]}
            name = score_file(payload["candidate"], steps, payload["seed"])
            self._run.ledger.replace(name, json.dumps(content).encode())


def trainings(pool: ScoringPool) -> list[Task]:
    return [task for task in pool.asked if "stages" in task.payload]


def test_the_champion_meets_every_network_of_the_zoo(run: Run) -> None:
    contest = plan_contest(run)
    assert contest.rivals[0].name == "champion"
    named = [rival.name for rival in contest.rivals[1:]]
    assert sorted([*named, *contest.left_out]) == sorted(ZOO)
    assert contest.steps == run.training.steps
    stock = {rival.name for rival in contest.rivals if rival.stock}
    assert {name for name in named if name.startswith("ddpm_unet")} <= stock
    assert "tiny" not in stock


def test_a_champion_out_of_the_zoo_does_not_meet_itself(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", warm_start=[zoo_of(8)["dit"]], population=2)
    evolve(run, TellingPool(scored), generations=1, holder="me")
    candidate = next(rival.candidate for rival in plan_contest(run).rivals if rival.name == "dit")
    contest = plan_contest(run, candidate[:10])
    assert contest.candidate == candidate
    assert contest.left_out["dit"] == f"it is the {contest.rivals[0].name} itself"
    assert candidate not in [rival.candidate for rival in contest.rivals[1:]]


def zoo_of(size: int) -> dict[str, Any]:
    from evodiff.architecture.genome import ImageShape

    return zoo(ImageShape(channels=1, size=size, classes=0))


def test_a_network_that_the_target_cannot_hold_is_left_out_with_that_reason(tmp_path: Path) -> None:
    genomes = zoo_of(8)
    run = new_run(tmp_path / "run")
    needed = sorted(memory_mb(resolve(genome, run.shape), 8) for genome in genomes.values())
    limited = new_run(tmp_path / "limited", given={"working_set_mb": needed[3]}, population=8)
    evolve(limited, TellingPool(scored), generations=1, holder="me")
    left_out = plan_contest(limited).left_out
    assert [why for why in left_out.values() if "itself" not in why] == ["it breaks working_set"] * 3


def test_equal_compute_gives_every_network_the_champions_operations(contest: Contest) -> None:
    run = contest.run
    for rival in contest.rivals:
        a_step = training_flops(resolve(rival.genome, run.shape), run.training.batch_size)
        steps = contest.steps_of(rival)
        assert steps["equal_steps"] == STEPS
        assert abs(steps["equal_compute"] * a_step - contest.budget_flops) <= a_step / 2 or steps["equal_compute"] == 1
    assert contest.steps_of(contest.rivals[0]) == {"equal_steps": STEPS, "equal_compute": STEPS}


def test_a_giant_gets_one_step_of_a_dwarfs_compute(contest: Contest) -> None:
    dwarf, giant = sorted(contest.rivals, key=contest.step_flops)[:: len(contest.rivals) - 1]
    little = replace(contest, rivals=(dwarf, giant), steps=1)
    assert little.steps_of(giant)["equal_compute"] == 1


@pytest.mark.parametrize(("steps", "expected"), [(1, 0), (9, 3), (60, 20), (5000, 20)])
def test_a_warm_up_takes_no_more_than_a_third(steps: int, expected: int) -> None:
    assert warm_up_steps(TrainingSettings(warmup_steps=20), steps) == expected


def test_each_network_trains_once_a_seed_through_both_budgets(contest: Contest) -> None:
    pool = ScoringPool(contest.run)
    result = hold_contest(contest, pool)
    asked = {(task.payload["candidate"], task.payload["seed"]): task.payload["stages"] for task in trainings(pool)}
    assert len(asked) == len(trainings(pool)) == 6
    for rival in contest.rivals:
        expected = sorted(set(contest.steps_of(rival).values()))
        assert asked[rival.candidate, 0] == asked[rival.candidate, 1] == expected
    champion = result["networks"][0]
    kids = [score["kid"] for score in champion["budgets"]["equal_steps"]["trainings"]]
    assert kids[1] - kids[0] == pytest.approx(0.001)
    assert champion["measured"]["median_ms"] == 2.0


def test_a_second_contest_does_nothing_again_and_more_seeds_only_what_is_new(contest: Contest) -> None:
    hold_contest(contest, ScoringPool(contest.run))
    file = contest.run.path / "validation" / f"{contest.candidate}.json"
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    again = ScoringPool(contest.run)
    hold_contest(contest, again)
    assert again.asked == []
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    more = ScoringPool(contest.run)
    hold_contest(replace(contest, seeds=3), more)
    assert {task.payload["seed"] for task in more.asked} == {2}
    other = ScoringPool(contest.run)
    hold_contest(replace(contest, samples=65), other)
    assert len(trainings(other)) == 6


def test_a_stop_keeps_what_is_done(contest: Contest) -> None:
    third = f"{contest.rivals[2].candidate}.seed1"
    with pytest.raises(Interrupted, match="what it had done is stored"):
        hold_contest(contest, ScoringPool(contest.run, {third: None}))
    pool = ScoringPool(contest.run)
    hold_contest(contest, pool)
    assert [task.id for task in trainings(pool)] == [third]


def test_a_lost_training_is_named_and_tried_again(contest: Contest) -> None:
    name = f"{contest.rivals[1].candidate}.seed0"
    lost = {name: Failure("timeout", "it was ended after 60 seconds", "environment")}
    result = hold_contest(contest, ScoringPool(contest.run, lost))
    assert result["lost"] == {f"{contest.rivals[1].name}, seed 0": "timeout: it was ended after 60 seconds"}
    assert result["networks"][1]["budgets"]["equal_steps"]["trainings"][0] is None
    view = view_of_run(contest.run).rivals
    assert view is not None
    assert view.networks[1].showings["equal_steps"].kids[0] is None
    pool = ScoringPool(contest.run)
    assert hold_contest(contest, pool)["lost"] == {}
    assert [task.id for task in trainings(pool)] == [name]


def test_a_full_disk_ends_the_contest(contest: Contest) -> None:
    full = {f"{contest.rivals[0].candidate}.seed0": Failure("storage", "no space left", "environment")}
    with pytest.raises(LedgerError, match="no space left"):
        hold_contest(contest, ScoringPool(contest.run, full))


def test_a_stored_failure_is_a_result(contest: Contest) -> None:
    rival = contest.rivals[2]
    for steps in contest.steps_of(rival).values():
        content = json.dumps({"failure": {"cause": "non_finite_loss", "detail": "step 3"}}).encode()
        contest.run.ledger.replace(score_file(rival.candidate, steps, 0), content)
    pool = ScoringPool(contest.run)
    hold_contest(contest, pool)
    assert (rival.candidate, 0) not in {(task.payload["candidate"], task.payload["seed"]) for task in trainings(pool)}
    view = view_of_run(contest.run).rivals
    assert view is not None
    assert view.networks[2].showings["equal_steps"].problem == "non_finite_loss"
    assert view.networks[2].showings["equal_steps"].kids[1] is not None


def test_a_damaged_score_is_made_again(contest: Contest) -> None:
    hold_contest(contest, ScoringPool(contest.run))
    rival = contest.rivals[1]
    (contest.run.path / score_file(rival.candidate, STEPS, 1)).write_text("[")
    pool = ScoringPool(contest.run)
    hold_contest(contest, pool)
    assert [(task.payload["seed"], task.payload["stages"]) for task in pool.asked] == [(1, [STEPS])]


def test_what_is_left_to_do_is_predicted_and_shared_among_workers(contest: Contest) -> None:
    alone, together = contest.predicted_seconds(1), contest.predicted_seconds(1000)
    longest = max(contest.seconds(rival, stages) for rival, _, stages in contest.open_trainings())
    assert together == longest < alone
    assert alone == pytest.approx(
        2 * sum(contest.seconds(rival, contest.open_stages(rival, 0)) for rival in contest.rivals)
    )
    hold_contest(contest, ScoringPool(contest.run))
    assert contest.predicted_seconds(1) == 0


def test_progress_names_the_network_and_counts_trainings(contest: Contest) -> None:
    heard: list[tuple[str, Mapping[str, Any]]] = []
    ended: list[str] = []
    hold_contest(
        contest,
        ScoringPool(contest.run),
        Listener(progress=lambda name, content: heard.append((name, content)), done=ended.append),
    )
    assert ("rivals", {"done": 6, "total": 6}) in heard
    titles = {content["title"] for _, content in heard if "title" in content}
    assert {"champion, seed 0", "champion, seed 1"} <= titles
    assert len(ended) == 6


def test_pruning_drops_the_weights_and_keeps_the_scores(contest: Contest) -> None:
    hold_contest(contest, ScoringPool(contest.run))
    folder = weights_folder(contest.run, contest.candidate, STEPS, 0)
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(bytes(1000))
    assert prune(contest.run) >= 1000
    assert not folder.exists()
    pool = ScoringPool(contest.run)
    hold_contest(contest, pool)
    assert pool.asked == []


@pytest.mark.parametrize("content", ["", "x", "[]", "{}", '{"networks": 3}', '{"networks": [{"name": "a"}]}'])
def test_a_report_leaves_out_a_contest_that_cannot_be_read_and_names_it(contest: Contest, content: str) -> None:
    hold_contest(contest, ScoringPool(contest.run))
    file = contest.run.path / "validation" / f"{contest.candidate}.json"
    file.write_text(content)
    view = view_of_run(contest.run)
    assert view.rivals is None
    assert sum(file.name in warning for warning in view.warnings) == 1
