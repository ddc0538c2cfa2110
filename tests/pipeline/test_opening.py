"""A form opens a generation or says why not; a chain of a scheduler's runs mends itself."""

from __future__ import annotations

import itertools
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pretended_scheduler import NOBODY, PretendedScheduler
from told_runs import TellingPool, inputs, new_run

from evodiff.errors import SettingsError
from evodiff.pipeline import opening
from evodiff.pipeline.chain import ATTEMPTS, experiments, generation_run_id, successor, survey
from evodiff.pipeline.control import State, set_state, state
from evodiff.pipeline.evolve import evolve_generation
from evodiff.pipeline.generation import plan
from evodiff.pipeline.lease import leases, open_generation
from evodiff.pipeline.opening import AlreadyLooping, Form, NothingToDo, Opened, open_chained, open_form
from evodiff.pipeline.requests import pending, requests, submit
from evodiff.pipeline.run import Run
from evodiff.settings import load_settings

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
clock = itertools.count()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """An experiment ``faces`` that nothing has worked on."""
    monkeypatch.setenv("EVODIFF_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr("evodiff.pipeline.session.WorkerPool", lambda *given, **more: TellingPool(lambda trial: {}))
    return new_run(tmp_path / "runs" / "faces")


class Prepared:
    """Stands where prepared inputs do: blank images."""

    def __init__(self, folder: Path, size: int = 8) -> None:
        self.inputs = inputs(folder, size=size)


def fill(
    holder: str,
    scheduler: PretendedScheduler = NOBODY,
    *,
    prepare: Any = None,
    said: list[str] | None = None,
    **fields: Any,
) -> Opened:
    form = Form.of({"experiment": "faces", **fields})
    now = NOW + timedelta(seconds=next(clock))  # what a person says later comes later
    given = {} if prepare is None else {"prepare": prepare}
    return open_form(
        form, holder, now=now, scheduler=scheduler, say=said.append if said is not None else print, **given
    )


def chain(holder: str, scheduler: PretendedScheduler = NOBODY) -> Opened:
    return open_chained("faces", holder, now=NOW, scheduler=scheduler)


def wanted(scheduler: PretendedScheduler = NOBODY) -> list[str]:
    return [item["run_id"] for item in survey(load_settings({}), now=NOW, scheduler=scheduler).wanted]


def work(run: Run, holder: str) -> None:
    pool = TellingPool(lambda trial: {"kid": int(trial["candidate"], 16) / 2**64})
    assert evolve_generation(run, pool, holder)


def test_a_form_opens_the_first_generation_and_is_consumed_by_it(run: Run) -> None:
    opened = fill("manual-1", generations=2)
    assert opened == Opened(str(run.path.resolve()), 0)
    assert pending(run) == []
    assert json.loads((run.path / "generations/0000/inputs/steering.json").read_text())["generations"] == 2


def test_a_retry_of_the_same_driver_gets_its_generation_back(run: Run) -> None:
    assert fill("manual-1") == fill("manual-1")
    work(run, "manual-1")
    assert fill("manual-1").generation == 0
    assert len(requests(run)) == 1


def test_a_form_that_names_a_looping_experiment_is_told_so_and_consumes_nothing(run: Run) -> None:
    fill("manual-1")
    before = requests(run)
    with pytest.raises(AlreadyLooping, match="manual-1"):
        fill("manual-2", PretendedScheduler("manual-1"), generations=50)
    assert requests(run) == before
    assert [lease.holder for lease in leases(run)] == ["manual-1"]


def test_of_two_forms_at_once_the_slower_leaves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = opening.open_generation

    def overtaken(*given: Any, **more: Any) -> Any:  # between the slower one's look and its lease
        monkeypatch.setattr(opening, "open_generation", real)
        fill("manual-1", generations=5)
        return real(*given, **more)

    monkeypatch.setattr(opening, "open_generation", overtaken)
    set_state(run, State.PAUSED)
    with pytest.raises(AlreadyLooping, match="manual-1"):
        fill("manual-2", PretendedScheduler("manual-1"), generations=9)
    (request,) = requests(run)
    assert request.cause == {"form": "manual-1"}
    assert [(lease.holder, lease.requests) for lease in leases(run)] == [("manual-1", (request.id,))]
    assert json.loads((run.path / "generations/0000/inputs/steering.json").read_text())["generations"] == 5


def test_a_form_killed_after_its_lease_says_its_word_when_it_is_tried_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(opening, "submit", killed)
    with pytest.raises(KeyboardInterrupt):
        fill("manual-1", generations=7)
    monkeypatch.setattr(opening, "submit", submit)
    fill("manual-1", generations=7)
    assert [request.steering for request in requests(run)] == [{"generations": 7}]
    assert pending(run) == []


def test_a_form_asks_for_few_of_the_runs_that_an_old_experiment_had(run: Run) -> None:
    for generation in range(2):
        work(run, f"faces-g{generation:04d}")
    scheduler = PretendedScheduler()
    fill("manual-1", scheduler)
    assert scheduler.asked <= 3


def test_a_successor_that_waits_its_turn_counts_as_looping(run: Run) -> None:
    fill("manual-1")
    work(run, "manual-1")
    with pytest.raises(AlreadyLooping, match="faces-g0001"):
        fill("manual-2", PretendedScheduler("faces-g0001"))


def test_an_unfinished_generation_whose_driver_died_is_adopted(run: Run) -> None:
    fill("manual-1")
    assert chain("faces-g0000").generation == 0
    assert fill("manual-2").generation == 0
    assert [lease.holder for lease in leases(run)] == ["manual-1", "faces-g0000", "manual-2"]
    assert chain("faces-g0000") == fill("manual-1") == Opened(str(run.path.resolve()), 0)  # each gets its own back
    assert len(leases(run)) == 3


def test_who_adopted_a_generation_is_seen_by_forms_and_by_the_survey(run: Run) -> None:
    fill("manual-1")
    fill("manual-2", generations=1)  # the first one died
    adopter = PretendedScheduler("manual-2")
    with pytest.raises(AlreadyLooping, match="manual-2"):
        fill("manual-3", adopter, generations=9)
    assert wanted(adopter) == []
    assert wanted() == ["faces-g0000"]
    assert pending(run) == []  # the adopter's request is met by the generation that it works on
    assert [request.steering for request in requests(run)] == [{}, {"generations": 1}]


def test_of_two_that_adopt_at_once_one_does(run: Run) -> None:
    open_generation(run, "dead")
    scheduler = PretendedScheduler("one", "other")

    def take(holder: str) -> str:
        return open_generation(run, holder, is_active=lambda run_id: scheduler.active([run_id]) > 0).holder

    assert [take("one"), take("other"), take("one")] == ["one"] * 3


def test_adopters_are_read_in_the_order_of_their_turns(run: Run) -> None:
    names = [f"driver-{turn}" for turn in range(12)]
    for name in names:
        open_generation(run, name, is_active=lambda run_id: False)
    assert [lease.holder for lease in leases(run)] == names


def test_an_adopter_that_is_about_to_start_the_next_run_counts_as_looping(run: Run) -> None:
    fill("manual-1")
    chain("faces-g0000-attempt2")
    work(run, "faces-g0000-attempt2")
    with pytest.raises(AlreadyLooping, match="faces-g0000-attempt2"):
        fill("manual-2", PretendedScheduler("faces-g0000-attempt2"))


def test_a_request_that_waits_is_not_met_by_a_generation_that_was_begun_before(run: Run) -> None:
    fill("manual-1", policy="on alert")
    alert = submit(run, {"alert": 1}, {"extra_generations": 1}, NOW)
    chain("faces-g0000")
    assert [request.id for request in pending(run)] == [alert.id]


@pytest.mark.parametrize(
    ("field", "value"), [("population", 9), ("seed", 7), ("steps", 999), ("objectives", ["kid", "memory_mb"])]
)
def test_a_form_with_other_frozen_values_is_refused_by_name(run: Run, field: str, value: object) -> None:
    with pytest.raises(SettingsError, match=field):
        fill("manual-1", **{field: value})
    assert requests(run) == []


def test_a_form_may_repeat_what_is_frozen(run: Run) -> None:
    assert fill("manual-1", population=4, objectives=["kid"], seed=0).generation == 0


def test_the_order_in_which_objectives_were_clicked_does_not_matter(run: Run) -> None:
    new_run(run.path.with_name("two"), objectives=("kid", "memory_mb"))
    assert fill("manual-1", experiment="two", objectives=["memory_mb", "kid"]).generation == 0
    with pytest.raises(SettingsError, match="objectives"):
        fill("manual-2", experiment="two", objectives=["kid", "kid"])


def test_a_form_overtaken_in_creating_its_experiment_finds_the_values_of_the_other(run: Run, tmp_path: Path) -> None:
    def overtaken(*given: Any) -> Prepared:
        new_run(run.path.with_name("late"))
        return Prepared(tmp_path / "prepared")

    with pytest.raises(SettingsError, match="seed is frozen at 0, the form has 5"):
        fill("manual-1", experiment="late", dataset="blank", objectives=["kid"], target="m1", seed=5, prepare=overtaken)
    late = Run.open(run.path.with_name("late"))
    assert leases(late) == []
    assert requests(late) == []
    assert list(run.path.parent.glob(".*")) == []


NEW: dict[str, Any] = {"dataset": "blank", "population": 4, "objectives": ["kid"], "target": "m1"}


def test_a_new_experiment_over_images_of_another_shape_cannot_start_from_one(run: Run, tmp_path: Path) -> None:
    work(run, "somebody")
    with pytest.raises(SettingsError, match="1 x 16 x 16"):
        fill(
            "manual-1",
            **{**NEW, "experiment": "large", "transfer_from": "faces"},
            prepare=lambda *given: Prepared(tmp_path / "prepared", size=16),
        )
    assert not run.path.with_name("large").exists()


def test_where_an_experiment_started_from_is_frozen(run: Run, tmp_path: Path) -> None:
    work(run, "somebody")
    asked = {**NEW, "experiment": "second", "transfer_from": "faces"}
    first = fill("manual-1", **asked, prepare=lambda *given: Prepared(tmp_path / "prepared"))
    assert fill("manual-1", **asked) == first
    run.path.with_name("alias").symlink_to(run.path)
    assert fill("manual-1", **{**asked, "transfer_from": "alias"}) == first
    for experiment, source in (("second", "elsewhere"), ("faces", "second")):
        with pytest.raises(SettingsError, match=f"transfer_from of {experiment} .*'{source}'"):
            fill("manual-2", experiment=experiment, transfer_from=source)


def test_what_a_killed_creation_left_behind_is_no_experiment_and_is_swept(run: Run, tmp_path: Path) -> None:
    old, young = (run.path.with_name(f".new.{name}") for name in ("0ld", "y0ung"))
    for folder in (old, young):
        new_run(folder)
    day_before = time.time() - 25 * 3600
    os.utime(old, (day_before, day_before))
    assert [path.name for path in experiments(run.path.parent)] == ["faces"]
    fill("manual-1", **{**NEW, "experiment": "new"}, prepare=lambda *given: Prepared(tmp_path / "prepared"))
    assert not old.exists()
    assert young.exists()
    assert [path.name for path in experiments(run.path.parent)] == ["faces", "new"]


def test_a_form_for_what_has_ended_says_so_and_a_larger_budget_goes_on(run: Run) -> None:
    fill("manual-1", generations=1)
    work(run, "manual-1")
    with pytest.raises(NothingToDo, match="1 generations are done"):
        fill("manual-2")
    assert len(requests(run)) == 1
    assert fill("manual-3", generations=2).generation == 1


def test_a_form_begins_a_stopped_experiment_again(run: Run) -> None:
    fill("manual-1")
    work(run, "manual-1")
    set_state(run, State.STOPPED)
    with pytest.raises(NothingToDo, match="stopped"):
        chain("faces-g0001")
    said: list[str] = []
    assert fill("manual-2", said=said).generation == 1
    assert state(run) is State.RUNNING
    assert said == ["faces was stopped; this form has it go on"]


def test_a_form_for_a_generation_that_was_begun_finishes_it_whatever_the_ends_say(run: Run) -> None:
    fill("manual-1", compute_budget_tflop=1e-9)
    plan(run, 0)
    assert fill("manual-2").generation == 0


@pytest.mark.parametrize("name", ["", "..", "../elsewhere", "a/b", ".hidden", "-rf", "a b", "release.json", "x.JSON"])
def test_a_name_that_is_no_folder_below_runs_is_refused(run: Run, name: str) -> None:
    with pytest.raises(SettingsError, match="name"):
        fill("manual-1", experiment=name)


def test_of_two_chained_drivers_the_second_is_told_who_works(run: Run) -> None:
    fill("manual-1")
    work(run, "manual-1")
    assert chain("faces-g0001").generation == 1
    with pytest.raises(AlreadyLooping, match="faces-g0001"):
        chain("faces-g0001-attempt2", PretendedScheduler("faces-g0001"))


def test_the_chain_goes_on_by_the_generations_own_id(run: Run) -> None:
    fill("manual-1", generations=3)
    work(run, "manual-1")
    assert survey(load_settings({}), now=NOW, scheduler=NOBODY).wanted == [
        {"run_id": "faces-g0001", "experiment": "faces"}
    ]


def test_a_run_that_is_alive_is_left_alone(run: Run) -> None:
    fill("manual-1")
    found = survey(load_settings({}), now=NOW, scheduler=PretendedScheduler("manual-1"))
    assert found.wanted == []
    assert "manual-1" in found.lines[0]


def test_failed_attempts_are_followed_by_others_and_then_by_a_person(run: Run) -> None:
    fill("manual-1")
    scheduler = PretendedScheduler()
    for attempt in range(1, ATTEMPTS + 1):
        run_id, _ = successor(run, scheduler)
        assert run_id == generation_run_id(run, 0, attempt)
        scheduler.lost.add(str(run_id))
    run_id, reason = successor(run, scheduler)
    assert run_id is None
    assert f"failed {ATTEMPTS} times" in reason
    for way in ("form", "clear", "--resume"):
        assert way in reason


def test_runs_that_came_to_nothing_without_failing_use_no_attempt_up(run: Run) -> None:
    fill("manual-1")
    skipped = [generation_run_id(run, 0, attempt) for attempt in range(1, 5)]
    assert wanted(PretendedScheduler(done=skipped)) == ["faces-g0000-attempt5"]
    assert wanted(PretendedScheduler(done=skipped[:2], lost=skipped[2:])) == ["faces-g0000-attempt5"]


DAMAGED: dict[str, dict[str, Any]] = {
    "30 2": {"policy": "cron", "cron": "0 0 30 2 *"},
    "weekly": {"policy": "weekly"},
    "surprise": {"surprise": 1},
    "generations": {"generations": "many"},
    "isoformat": {"policy": "continuous"},
}


@pytest.mark.parametrize("word", [*DAMAGED, "experiment.json"])
def test_one_damaged_experiment_does_not_hold_up_the_others(run: Run, word: str) -> None:
    fill("manual-1")
    broken = new_run(run.path.with_name("broken"))
    if word == "experiment.json":
        (broken.path / word).write_text("{")
    else:
        submit(broken, {"alert": "unchecked"}, DAMAGED[word], NOW)
        if word == "isoformat":
            submit(broken, {"tick": "noon"}, {"policy": "cron", "cron": "0 3 * * *"}, NOW)
        open_generation(broken, "died")
        evolve_generation(broken, TellingPool(lambda trial: {"kid": 1.0}), "died")
    found = survey(load_settings({}), now=NOW, scheduler=NOBODY)
    assert [item["experiment"] for item in found.wanted] == ["faces"]
    assert len(found.damaged) == 1
    assert found.damaged[0] in found.lines
    assert found.damaged[0].startswith("broken: ")
    assert word in found.damaged[0]
