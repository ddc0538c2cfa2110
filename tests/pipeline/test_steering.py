"""What is wanted of a run is written as requests; whether it goes on follows from them, the ledger and the time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from told_runs import TellingPool, new_run

from evodiff.errors import LedgerError, SettingsError
from evodiff.pipeline import driver
from evodiff.pipeline.control import State, next_step, set_state
from evodiff.pipeline.evolve import evolve_generation
from evodiff.pipeline.final import champion
from evodiff.pipeline.generation import plan
from evodiff.pipeline.lease import leases, open_generation
from evodiff.pipeline.requests import pending, requests, submit
from evodiff.pipeline.run import Run
from evodiff.pipeline.steering import (
    Policy,
    Steering,
    check_steering,
    end_reason,
    record_steering,
    spent_tflop,
    steering,
)

MONDAY = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return MONDAY + timedelta(minutes=minutes)


def work(run: Run, holder: str, tell: Any = lambda trial: {"kid": int(trial["candidate"], 16) / 2**64}) -> None:
    assert evolve_generation(run, TellingPool(tell), holder)


def test_the_same_cause_is_one_request_and_the_first_word_stays(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    first = submit(run, {"form": "a"}, {"generations": 3}, at(0))
    second = submit(run, {"form": "a"}, {"generations": 9}, at(5))
    assert first == second
    assert [request.id for request in requests(run)] == [first.id]


def test_a_lease_consumes_what_waited_and_nothing_that_comes_later(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    first = submit(run, {"form": "a"}, {}, at(0))
    lease = open_generation(run, "driver")
    later = submit(run, {"form": "b"}, {}, at(1))
    assert lease.requests == (first.id,)
    assert [request.id for request in pending(run)] == [later.id]


def test_the_latest_word_on_each_field_holds_and_extra_generations_add_up(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {"policy": "on alert", "generations": 3}, at(0))
    submit(run, {"alert": 1}, {"extra_generations": 2}, at(1))
    submit(run, {"alert": 2}, {"extra_generations": 1, "prefer": "kid<1"}, at(2))
    held = steering(run)
    assert (held.policy, held.generations, held.extra_generations, held.prefer) == (Policy.ON_ALERT, 3, 3, "kid<1")
    assert steering(run, {"generations": 8}).generations == 8
    assert steering(run).generations == 3


def test_a_generation_keeps_what_held_when_it_opened(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {"generations": 3}, at(0))
    record_steering(run, 0)
    submit(run, {"form": "b"}, {"generations": 9}, at(1))
    record_steering(run, 0)
    kept = json.loads((run.path / "generations/0000/inputs/steering.json").read_text())
    assert kept["generations"] == 3


@pytest.mark.parametrize(
    "values",
    [
        {"population": 9},
        {"policy": "sometimes"},
        {"policy": "cron"},
        {"policy": "cron", "cron": "every now and then"},
        {"policy": "cron", "cron": "a b c d e"},
        {"policy": "cron", "cron": "0 0 30 2 *"},
        {"policy": "cron", "cron": "* * * * * *"},
        {"policy": "cron", "cron": "@daily"},
        {"cron": "0 3 * * *"},
        {"policy": "on alert", "cron": "0 3 * * *"},
        {"generations": "many"},
        {"prefer": "beauty<2"},
    ],
)
def test_steering_that_cannot_be_is_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as refused:
        check_steering(values, ["kid"])
    assert str(next(iter(values.values()))) in str(refused.value) or next(iter(values)) in str(refused.value)
    assert refused.value.remedy


def test_policy_and_cron_are_checked_against_what_holds() -> None:
    nightly = Steering(policy=Policy.CRON, cron="0 3 * * *")
    check_steering({"policy": "cron"}, ["kid"], nightly)
    check_steering({"cron": "0 4 * * *"}, ["kid"], nightly)
    check_steering({"policy": "continuous"}, ["kid"], nightly)
    with pytest.raises(SettingsError, match="expected the policy cron, found 'continuous'"):
        check_steering({"policy": "continuous", "cron": "0 4 * * *"}, ["kid"], nightly)


@pytest.mark.parametrize("word", [{"policy": "weekly"}, {"surprise": 1}, {"generations": "many"}])
def test_a_request_that_no_form_checked_is_named_with_its_file(tmp_path: Path, word: dict[str, Any]) -> None:
    run = new_run(tmp_path / "run")
    request = submit(run, {"alert": 1}, word, at(0))
    with pytest.raises(LedgerError, match=rf"{request.id}\.json.*{next(iter(word))}") as refused:
        steering(run)
    assert "Remove the file" in str(refused.value)


def test_the_last_word_is_the_last_though_a_clock_was_set_back(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {"generations": 3}, at(60))
    second = submit(run, {"form": "b"}, {"generations": 5}, at(0))
    assert steering(run).generations == 5
    assert submit(run, {"form": "b"}, {"generations": 9}, at(99)) == second
    assert [request.cause["form"] for request in requests(run)] == ["a", "b"]


def test_a_request_from_the_future_does_not_hold_up_a_cron(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {"policy": "cron", "cron": "0 * * * *"}, at(5))
    submit(run, {"form": "from a clock that is ahead"}, {}, at(9999))
    work(run, "g0")
    assert not next_step(run, at(50)).wanted
    assert next_step(run, at(61)).wanted
    work(run, "g1")
    assert not next_step(run, at(63)).wanted
    assert next_step(run, at(121)).wanted


def test_a_request_that_vanishes_while_we_look_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path / "run")
    gone, left = (submit(run, {"form": form}, {}, at(0)) for form in "ab")
    real = run.ledger.read

    def read(path: Path | str) -> bytes | None:
        return None if gone.id in str(path) else real(path)

    monkeypatch.setattr(run.ledger, "read", read)
    assert requests(run) == [left]


def test_a_damaged_request_is_named_with_what_to_do(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    request = submit(run, {"form": "a"}, {}, at(0))
    (run.path / "requests" / f"{request.id}.json").write_text("{")
    with pytest.raises(LedgerError, match=request.id):
        requests(run)


def test_nobody_asked_so_nothing_is_continued(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    work(run, "command line")
    assert not next_step(run, at(0)).wanted
    assert requests(run) == []


def test_a_continuous_run_asks_for_each_generation_once_until_its_end(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {"generations": 2}, at(0))
    assert next_step(run, at(1)).wanted
    work(run, "g0")
    for minute in (2, 3, 4):  # asked again and again, it asks once
        step = next_step(run, at(minute))
        assert (step.wanted, step.generation) == (True, 1)
    assert [request.cause for request in pending(run)] == [{"predecessor": 0}]
    work(run, "g1")
    step = next_step(run, at(5))
    assert not step.wanted
    assert "2 generations are done" in step.reason


def test_what_was_begun_is_finished_whatever_the_ends_say(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {"generations": 1, "policy": "on alert"}, at(0))
    open_generation(run, "a driver that died")
    step = next_step(run, at(1))
    assert step.wanted
    assert "unfinished" in step.reason


def test_a_look_reads_no_request_more_than_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {}, at(0))
    work(run, "g0")
    waiting = submit(run, {"form": "b"}, {}, at(1))
    read: list[str] = []
    real = run.ledger.read
    monkeypatch.setattr(run.ledger, "read", lambda path: read.append(str(path)) or real(path))
    assert next_step(run, at(2)).reason == f"asked for by {waiting.id}"
    assert read.count(f"requests/{waiting.id}.json") == 2


@pytest.mark.parametrize("state", [State.PAUSED, State.STOPPED])
def test_what_a_person_said_comes_before_everything(state: State, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {}, at(0))
    open_generation(run, "a driver")
    set_state(run, state)
    assert not next_step(run, at(1)).wanted
    set_state(run, State.RUNNING)
    assert next_step(run, at(2)).wanted


def test_a_cron_run_waits_for_its_tick_and_makes_one_generation_of_it(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {"policy": "cron", "cron": "0 * * * *"}, at(5))
    work(run, "g0")
    assert not next_step(run, at(50)).wanted
    assert next_step(run, at(61)).wanted
    assert next_step(run, at(62)).wanted
    assert [request.cause for request in pending(run)] == [{"tick": at(60).isoformat()}]
    work(run, "g1")
    assert not next_step(run, at(63)).wanted
    assert next_step(run, at(121)).wanted


def hardly_better(trial: Mapping[str, Any]) -> Mapping[str, float]:
    return {"kid": 1.0 + (trial["generation"] > 0)}


@pytest.mark.parametrize("end", [{"generations": 1}, {"compute_budget_tflop": 1e-9}, {"stop_on_plateau": True}])
def test_alerts_open_as_many_generations_beyond_an_end_as_they_grant(tmp_path: Path, end: dict[str, Any]) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {"policy": "on alert", **end}, at(0))
    for generation in range(4 if "stop_on_plateau" in end else 2):  # a command line went beyond the generations
        work(run, f"g{generation}", hardly_better)
    assert end_reason(run, steering(run))
    assert not next_step(run, at(1)).wanted
    submit(run, {"alert": "fingerprint", "startsAt": "then"}, {"extra_generations": 1}, at(2))
    assert next_step(run, at(3)).wanted
    work(run, "beyond", hardly_better)
    assert not next_step(run, at(4)).wanted
    assert end_reason(run, steering(run))


def test_grants_follow_each_other(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {"compute_budget_tflop": 1e-9}, at(0))
    work(run, "g0")
    for alert in range(2):
        submit(run, {"alert": alert}, {"extra_generations": 1}, at(1))
    assert next_step(run, at(2)).wanted
    work(run, "g1")  # takes both requests
    assert next_step(run, at(3)).wanted
    work(run, "g2")
    assert not next_step(run, at(4)).wanted


def test_a_space_with_nothing_left_to_try_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {}, at(0))
    work(run, "g0")
    submit(run, {"alert": 1}, {"extra_generations": 1}, at(1))
    open_generation(run, "g1")
    monkeypatch.setattr("evodiff.engine.run.plan_generation", lambda *given, **more: b"")
    said: list[str] = []
    assert driver.plan(run, 1, said.append) == []
    assert said == ["nothing is left to try"]
    step = next_step(run, at(2))
    assert (step.wanted, step.reason) == (False, "nothing is left to try")
    assert end_reason(run, steering(run)) == "nothing is left to try"
    monkeypatch.undo()
    plan(run, 1)  # somebody found something after all
    assert next_step(run, at(3)).wanted


def test_the_compute_budget_counts_what_the_plans_asked_for(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {}, at(0))
    work(run, "g0")
    one = spent_tflop(run)
    assert one > 0
    submit(run, {"form": "b"}, {"compute_budget_tflop": 1.01 * one}, at(1))
    assert end_reason(run, steering(run)) is None
    work(run, "g1")
    assert spent_tflop(run) > one
    assert "TFLOP" in str(end_reason(run, steering(run)))


def test_a_search_that_converged_ends_where_that_was_asked_for(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {}, at(0))
    for generation in range(4):
        work(run, f"g{generation}", hardly_better)
    assert end_reason(run, steering(run)) is None
    assert "converged" in str(end_reason(run, steering(run, {"stop_on_plateau": True})))


def test_a_request_narrows_from_which_part_of_the_front_the_champion_is_taken(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", objectives=("kid", "memory_mb"))
    submit(run, {"form": "a"}, {}, at(0))
    work(run, "g0", lambda trial: {"kid": -run.space.costs(run.space.from_json(trial["genome"]))["memory_mb"]})
    front = {item.id: item.evaluation.objectives["kid"] for item in run.evolution().front() if item.evaluation}
    assert len(front) > 1
    first = champion(run)
    assert first is not None
    other, kid = next(item for item in front.items() if item[0] != first.id)
    submit(run, {"form": "b"}, {"prefer": f"kid<={kid!r},kid>={kid!r}"}, at(1))
    second = champion(run)
    assert second is not None
    assert second.id == other
    submit(run, {"form": "c"}, {"prefer": "kid<-9"}, at(2))
    assert champion(run) is None


def test_twins_that_open_one_generation_share_its_lease(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    submit(run, {"form": "a"}, {}, at(0))
    assert open_generation(run, "one") == open_generation(run, "other")
    assert len(leases(run)) == 1
