"""What alerts ask of searches: one generation each, once, of the run whose champion serves."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pretended_scheduler import PretendedScheduler
from told_runs import TellingPool, new_run

from evodiff.monitoring.alerts import Alert
from evodiff.pipeline.alerts import COOLDOWN, Answer, answer_alerts, tightened_preference
from evodiff.pipeline.control import next_step
from evodiff.pipeline.evolve import evolve_generation
from evodiff.pipeline.final import champion
from evodiff.pipeline.lease import leases, open_generation
from evodiff.pipeline.preference import parse_preference
from evodiff.pipeline.release import EMPTY, read_release
from evodiff.pipeline.requests import pending, requests, submit
from evodiff.pipeline.run import Run
from evodiff.pipeline.steering import preference, record_steering, steering
from evodiff.settings import Settings

MONDAY = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def score(trial: Any) -> dict[str, float]:
    return {"kid": int(trial["candidate"], 16) / 2**64}


def alert(fingerprint: str = "f1", minutes: float = 0, **labels: str) -> Alert:
    starts_at = (MONDAY + timedelta(minutes=minutes)).isoformat(timespec="milliseconds")
    told = {"alertname": "LatencyOverLimit", "arm": "stable", "degraded": "latency", **labels}
    return Alert(fingerprint, starts_at, told, {"summary": f"seen at {minutes}"})


class Site:
    """A folder of runs, the first of which serves; ``answer`` tells alerts so many minutes after Monday noon."""

    def __init__(self, folder: Path, **steering: Any) -> None:
        self.settings = Settings(runs_dir=folder / "runs", release_file=folder / "release.json")
        self.run = self.add_run("digits", **steering)
        self.serve(self.run)

    def add_run(self, name: str, **steering: Any) -> Run:
        run = new_run(self.settings.runs_dir / name, objectives=("kid", "latency_ms"), strategy="random")
        submit(run, {"form": name}, {"policy": "on alert", **steering}, MONDAY - timedelta(days=1))
        assert evolve_generation(run, TellingPool(score), f"{name}-form")
        return run

    def serve(self, run: Run) -> None:
        best = champion(run)
        assert best is not None
        entry = {"run": run.name, "candidate": best.id, "generation": 0}
        self.settings.release_file.write_text(json.dumps({**EMPTY, "champion": entry}))

    def answer(self, *alerts: Alert, minutes: float = 0, scheduler: PretendedScheduler | None = None) -> list[Answer]:
        now = MONDAY + timedelta(minutes=minutes)
        return answer_alerts(alerts, self.settings, now=now, scheduler=scheduler or PretendedScheduler())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, generations=1)


def test_an_alert_grants_a_generation_beyond_the_end_and_names_the_run_to_start(site: Site) -> None:
    assert not next_step(site.run, MONDAY).wanted
    (answer,) = site.answer(alert())
    assert (answer.settled, answer.experiment, answer.run_id) == (True, "digits", "digits-g0001")
    assert [request.id for request in pending(site.run)] == [answer.request]
    assert next_step(site.run, MONDAY).wanted


def test_the_generation_has_the_alert_in_its_inputs(site: Site) -> None:
    site.answer(alert())
    lease = open_generation(site.run, "digits-g0001")
    record_steering(site.run, lease.generation)
    kept = json.loads((site.run.path / "generations/0001/inputs/steering.json").read_text())
    assert [(item["alert"], item["fingerprint"]) for item in kept["alerts"]] == [("LatencyOverLimit", "f1")]
    assert kept["alerts"][0]["labels"]["arm"] == "stable"
    assert kept["extra_generations"] == 1


def test_fifty_repeats_write_one_request_and_one_generation_follows(site: Site) -> None:
    alive = PretendedScheduler()
    runs = set()
    for minute in range(50):
        (answer,) = site.answer(alert(), minutes=minute, scheduler=alive)
        assert answer.settled
        if answer.run_id is not None:
            runs.add(answer.run_id)
            alive.alive.add(answer.run_id)
        if minute == 20:
            assert evolve_generation(site.run, TellingPool(score), "digits-g0001")
            alive.alive.clear()
            alive.done.add("digits-g0001")
    assert runs == {"digits-g0001"}
    assert len(requests(site.run)) == 2  # the form's and the alert's
    assert site.run.ledger.closed == 2
    assert pending(site.run) == []


def test_the_same_alert_told_fifty_times_at_once_is_one_answer(site: Site) -> None:
    assert len(site.answer(*[alert()] * 50)) == 1


def test_a_different_alert_during_the_generation_gets_its_own(site: Site) -> None:
    working = PretendedScheduler("digits-g0001")
    site.answer(alert())
    open_generation(site.run, "digits-g0001")
    (answer,) = site.answer(alert("f2", degraded="rating"), minutes=5, scheduler=working)
    assert answer.settled
    assert answer.run_id is None
    assert [request.id for request in pending(site.run)] == [answer.request]
    assert evolve_generation(site.run, TellingPool(score), "digits-g0001")
    assert next_step(site.run, MONDAY).wanted
    assert evolve_generation(site.run, TellingPool(score), "digits-g0002")
    assert not next_step(site.run, MONDAY).wanted
    assert [lease.generation for lease in leases(site.run)] == [0, 1, 2]


def test_an_alert_after_the_search_has_converged_gets_one(tmp_path: Path) -> None:
    site = Site(tmp_path, stop_on_plateau=True)
    for generation in range(1, 8):
        assert evolve_generation(site.run, TellingPool(lambda trial: {"kid": 1.0}), f"g{generation}")
    assert "converged" in next_step(site.run, MONDAY).reason
    (answer,) = site.answer(alert())
    assert answer.run_id == "digits-g0008"


def test_one_that_ends_and_begins_again_waits_for_the_cooldown_and_is_not_settled(site: Site) -> None:
    site.answer(alert())
    assert evolve_generation(site.run, TellingPool(score), "digits-g0001")
    (cooling,) = site.answer(alert(minutes=10), minutes=10)
    assert (cooling.settled, cooling.failed, cooling.request) == (False, False, None)
    assert "waits until" in cooling.reason
    (answer,) = site.answer(alert(minutes=10), minutes=COOLDOWN.total_seconds() / 60)
    assert answer.run_id == "digits-g0002"


@pytest.mark.parametrize("labels", [{"arm": "canary"}, {"arm": ""}, {"degraded": ""}])
def test_only_what_degrades_the_stable_variant_counts(site: Site, labels: dict[str, str]) -> None:
    (answer,) = site.answer(alert(**labels))
    assert (answer.settled, answer.request, answer.run_id) == (True, None, None)
    assert pending(site.run) == []


def test_the_run_that_answered_once_answers_again_though_another_serves_now(site: Site) -> None:
    site.answer(alert())
    other = site.add_run("other", generations=1)
    site.serve(other)
    (answer,) = site.answer(alert(), minutes=5)
    assert answer.experiment == "digits"
    assert len(requests(other)) == 1
    (answer,) = site.answer(alert("f2"), minutes=5)
    assert answer.experiment == "other"


def latency_limit(run: Run) -> float:
    limits = parse_preference(preference(run), ["kid", "latency_ms"])
    return next(limit.value for limit in limits if limit.name == "latency_ms")


def test_a_latency_alert_tightens_the_limit_and_leaves_a_champion(site: Site) -> None:
    best = champion(site.run)
    assert best is not None
    assert best.evaluation is not None
    before = best.evaluation.objectives["latency_ms"]
    fastest = min(item.evaluation.objectives["latency_ms"] for item in site.run.evolution().front() if item.evaluation)
    site.answer(alert())
    assert latency_limit(site.run) == pytest.approx(max(0.8 * before, fastest))
    assert champion(site.run) is not None


def test_values_of_another_machines_run_of_the_same_name_limit_nothing(site: Site) -> None:
    run = site.run
    serving = read_release(site.settings.release_file)["champion"]
    assert tightened_preference(run, {**serving, "experiment": run.identity}) is not None
    assert tightened_preference(run, {**serving, "experiment": "0" * 64}) is None


def test_an_alert_on_another_machines_run_of_the_same_name_asks_nothing_of_the_one_here(site: Site) -> None:
    release = read_release(site.settings.release_file)
    release["champion"]["experiment"] = "0" * 64
    site.settings.release_file.write_text(json.dumps(release))
    (answer,) = site.answer(alert())
    assert (answer.settled, answer.failed, pending(site.run)) == (False, True, [])
    assert "another run of the name digits" in answer.reason


@pytest.mark.parametrize("digest", [None, "0" * 64])
def test_an_alert_on_a_registered_champion_whose_candidate_is_not_known_yet_has_its_generation(
    site: Site, digest: str | None
) -> None:
    champion = {"model": "digits", "version": "3"} | ({} if digest is None else {"digest": digest})
    site.settings.release_file.write_text(json.dumps({**EMPTY, "champion": champion}))
    (answer,) = site.answer(alert())
    assert (answer.settled, answer.experiment) == (True, "digits")
    assert preference(site.run) is None  # which values it has is not known


def test_limits_on_other_objectives_stay_and_a_limit_that_holds_is_where_it_goes_on_from(tmp_path: Path) -> None:
    site = Site(tmp_path, generations=1)
    front = site.run.evolution().front()
    latencies = [item.evaluation.objectives["latency_ms"] for item in front if item.evaluation]
    held = 2 * max(latencies)
    submit(site.run, {"form": "again"}, {"prefer": f"kid<9,latency_ms<{held!r}"}, MONDAY - timedelta(hours=1))
    site.answer(alert())
    found = preference(site.run)
    assert found is not None
    assert found.startswith("kid<9.0,")
    assert latency_limit(site.run) < held


def test_a_quality_alert_lets_no_kid_be_traded_for_anything_else(tmp_path: Path) -> None:
    site = Site(tmp_path)
    space = site.run.space
    slow_is_good = TellingPool(lambda row: {"kid": -space.costs(space.from_json(row["genome"]))["latency_ms"]})
    assert evolve_generation(site.run, slow_is_good, "digits-g0001")
    front = sorted(site.run.evolution().front(), key=lambda item: item.evaluation.objectives["kid"])  # type: ignore[union-attr]
    assert len(front) > 2
    kids = [item.evaluation.objectives["kid"] for item in front if item.evaluation]
    entry = {"run": site.run.name, "candidate": front[1].id, "generation": 0}
    site.settings.release_file.write_text(json.dumps({**EMPTY, "champion": entry}))
    site.answer(alert(degraded="quality"))
    assert preference(site.run) == f"kid<={kids[1]!r}"
    best = champion(site.run)
    assert best is not None
    assert best.id in {item.id for item in front[:2]}


def test_limits_of_several_alerts_leave_a_champion(site: Site) -> None:
    kinds = ["latency", "quality", "latency", "quality", "latency"]
    for number, kind in enumerate(kinds):
        site.answer(alert(f"f{number}", degraded=kind))
        assert champion(site.run) is not None
    assert {limit.name for limit in parse_preference(preference(site.run), ["kid", "latency_ms"])} == {
        "kid",
        "latency_ms",
    }


@pytest.mark.parametrize(("held", "weights"), [(None, [0.4, 0.8, 1.0]), (0.0, [0.0, 0.0, 0.0])])
def test_a_rating_alert_lets_people_count_more_and_no_limit_changes(
    tmp_path: Path, held: float | None, weights: list[float]
) -> None:
    site = Site(tmp_path, **({} if held is None else {"rating_weight": held}))
    for number, weight in enumerate(weights):
        site.answer(alert(f"f{number}", degraded="rating"))
        assert steering(site.run).rating_weight == weight
    assert preference(site.run) is None


def test_an_alert_on_anything_else_steers_nothing(site: Site) -> None:
    before = steering(site.run)
    site.answer(alert(degraded="something"))
    assert steering(site.run) == replace(before, extra_generations=1)


def test_a_word_of_a_person_holds_and_the_alert_waits(site: Site) -> None:
    from evodiff.pipeline.control import State, set_state

    set_state(site.run, State.PAUSED)
    (answer,) = site.answer(alert())
    assert (answer.settled, answer.run_id) == (True, None)
    assert "paused" in answer.reason
    assert len(pending(site.run)) == 1


def test_what_cannot_be_answered_says_why_and_holds_up_no_other(site: Site) -> None:
    site.answer(alert())
    site.settings.release_file.write_text(json.dumps({**EMPTY, "champion": {"run": "gone", "candidate": "c"}}))
    lost, known = site.answer(alert("f2"), alert(), minutes=1)
    assert (lost.settled, lost.failed) == (False, True)
    assert "gone" in lost.reason
    assert known.settled
    site.settings.release_file.write_text("rubbish")
    assert site.answer(alert("f3"))[0].failed


def test_nothing_serves_so_nobody_knows_which_search_to_go_on_with(site: Site) -> None:
    site.settings.release_file.unlink()
    (answer,) = site.answer(alert())
    assert answer.failed
    assert "nothing serves" in answer.reason
