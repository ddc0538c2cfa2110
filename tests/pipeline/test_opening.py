"""A form opens a generation or says why not; a chain of a scheduler's runs mends itself."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from told_runs import TellingPool, new_run

from evodiff.errors import SettingsError
from evodiff.pipeline import opening
from evodiff.pipeline.chain import ATTEMPTS, generation_run_id, successor, wanted_runs
from evodiff.pipeline.control import State, set_state, state
from evodiff.pipeline.evolve import evolve_generation
from evodiff.pipeline.lease import leases
from evodiff.pipeline.opening import AlreadyLooping, Form, NothingToDo, Opened, open_chained, open_form
from evodiff.pipeline.requests import pending, requests
from evodiff.pipeline.run import Run
from evodiff.settings import load_settings

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
clock = itertools.count()


def nobody(run_id: str) -> bool:
    return False


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """An experiment ``faces`` that nothing has worked on."""
    monkeypatch.setenv("EVODIFF_RUNS_DIR", str(tmp_path / "runs"))
    return new_run(tmp_path / "runs" / "faces")


def fill(holder: str, is_active: Callable[[str], bool] = nobody, **fields: Any) -> Opened:
    form = Form.of({"experiment": "faces", **fields})
    now = NOW + timedelta(seconds=next(clock))  # what a person says later comes later
    return open_form(form, holder, now=now, is_active=is_active, say=lambda line: None)


def chain(holder: str, is_active: Callable[[str], bool] = nobody) -> Opened:
    return open_chained("faces", holder, now=NOW, is_active=is_active)


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
        fill("manual-2", lambda holder: holder == "manual-1", generations=50)
    assert requests(run) == before
    assert [lease.holder for lease in leases(run)] == ["manual-1"]


def test_of_two_forms_at_once_the_slower_takes_its_request_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    faster = Form.of({"experiment": "faces"})
    real = opening.submit

    def overtaken(*arguments: Any) -> Any:  # between the slower one's look and its lease
        request = real(*arguments)
        monkeypatch.setattr(opening, "submit", real)
        open_form(faster, "manual-1", now=NOW, is_active=nobody, say=lambda line: None)
        return request

    monkeypatch.setattr(opening, "submit", overtaken)
    with pytest.raises(AlreadyLooping, match="manual-1"):
        fill("manual-2", lambda holder: holder == "manual-1", generations=9)
    assert [request.cause for request in requests(run)] == [{"form": "manual-1"}]
    assert pending(run) == []


def test_a_successor_that_waits_its_turn_counts_as_looping(run: Run) -> None:
    fill("manual-1")
    work(run, "manual-1")
    with pytest.raises(AlreadyLooping, match="faces-g0001"):
        fill("manual-2", lambda holder: holder == "faces-g0001")


def test_an_unfinished_generation_whose_driver_died_is_adopted(run: Run) -> None:
    fill("manual-1")
    assert chain("faces-g0000").generation == 0
    assert fill("manual-2").generation == 0


@pytest.mark.parametrize(
    ("field", "value"), [("population", 9), ("seed", 7), ("steps", 999), ("objectives", ["kid", "memory_mb"])]
)
def test_a_form_with_other_frozen_values_is_refused_by_name(run: Run, field: str, value: object) -> None:
    with pytest.raises(SettingsError, match=field):
        fill("manual-1", **{field: value})
    assert requests(run) == []


def test_a_form_may_repeat_what_is_frozen(run: Run) -> None:
    assert fill("manual-1", population=4, objectives=["kid"], seed=0).generation == 0


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
    assert fill("manual-2").generation == 1
    assert state(run) is State.RUNNING


@pytest.mark.parametrize("name", ["", "..", "../elsewhere", "a/b", ".hidden", "-rf", "a b"])
def test_a_name_that_is_no_folder_below_runs_is_refused(run: Run, name: str) -> None:
    with pytest.raises(SettingsError, match="name"):
        open_form(Form.of({"experiment": name}), "manual-1", now=NOW, is_active=nobody, say=lambda line: None)


def test_of_two_chained_drivers_the_second_is_told_who_works(run: Run) -> None:
    fill("manual-1")
    work(run, "manual-1")
    assert chain("faces-g0001").generation == 1
    with pytest.raises(AlreadyLooping, match="faces-g0001"):
        chain("faces-g0001-attempt2", lambda holder: holder == "faces-g0001")


def test_the_chain_goes_on_by_the_generations_own_id(run: Run) -> None:
    fill("manual-1", generations=3)
    work(run, "manual-1")
    assert wanted_runs(load_settings({}), now=NOW, is_active=nobody, is_known=nobody)[0] == [
        {"run_id": "faces-g0001", "experiment": "faces"}
    ]


def test_a_run_that_is_alive_is_left_alone(run: Run) -> None:
    fill("manual-1")
    wanted, lines = wanted_runs(load_settings({}), now=NOW, is_active=lambda holder: True, is_known=nobody)
    assert wanted == []
    assert "manual-1" in lines[0]


def test_failed_attempts_are_followed_by_others_and_then_by_a_person(run: Run) -> None:
    fill("manual-1")
    known: set[str] = set()
    for attempt in range(1, ATTEMPTS + 1):
        run_id, _ = successor(run, is_active=nobody, is_known=known.__contains__)
        assert run_id == generation_run_id(run, 0, attempt)
        known.add(str(run_id))
    run_id, reason = successor(run, is_active=nobody, is_known=known.__contains__)
    assert run_id is None
    assert f"failed {ATTEMPTS} times" in reason
    assert "--resume" in reason


def test_one_damaged_experiment_does_not_hold_up_the_others(run: Run) -> None:
    fill("manual-1")
    (run.path.with_name("broken")).mkdir()
    (run.path.with_name("broken") / "experiment.json").write_text("{")
    wanted, lines = wanted_runs(load_settings({}), now=NOW, is_active=nobody, is_known=nobody)
    assert [item["experiment"] for item in wanted] == ["faces"]
    assert any(line.startswith("broken: ") and "experiment.json" in line for line in lines)
