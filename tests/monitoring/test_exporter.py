"""Metrics of searches, read from run folders at a scrape; and every metric that is named anywhere is exported."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from evodiff.deployment.metrics import Metrics
from evodiff.deployment.observation import Arm, Outcome, RequestObservation, WorkerObservation
from evodiff.monitoring.exporter import CACHE_SECONDS, RunsCollector, serve_metrics
from evodiff.monitoring.watch import write_heartbeat

PROJECT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"\bevodiff_[a-z0-9_]+")


def run_folder(runs: Path, name: str, closed: int = 2, failed: int = 1) -> Path:
    """A run folder of closed generations of four trials each, ``failed`` of which have failed."""
    path = runs / name
    path.mkdir(parents=True)
    (path / "experiment.json").write_text("{}")
    for generation in range(closed):
        folder = path / "generations" / f"{generation:04d}"
        folder.mkdir(parents=True)
        rows = [{"id": f"t{index}", "failure": {"cause": "x"} if index < failed else None} for index in range(4)]
        (folder / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "result.json").write_text(json.dumps({"hypervolume": 0.25 * (generation + 1)}))
    return path


def scraped(runs: Path) -> dict[tuple[str, ...], float]:
    registry = CollectorRegistry()
    registry.register(RunsCollector(runs))
    return samples(generate_latest(registry))


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_a_search_is_told_by_generations_hypervolume_and_failures(tmp_path: Path) -> None:
    path = run_folder(tmp_path, "digits")
    found = scraped(tmp_path)
    assert found["evodiff_search_generations", "digits"] == 2
    assert found["evodiff_search_hypervolume", "digits"] == 0.5
    assert found["evodiff_search_trials_total", "digits", "failed"] == 2
    assert found["evodiff_search_trials_total", "digits", "ok"] == 6
    closed_at = (path / "generations" / "0001" / "result.json").stat().st_mtime
    assert found["evodiff_search_last_generation_timestamp_seconds", "digits"] == pytest.approx(closed_at)
    assert found["evodiff_search_in_progress", "digits"] == 0
    assert found["evodiff_search_damaged_runs",] == 0


def test_a_generation_that_is_taken_is_in_progress_until_it_is_closed_or_found_empty(tmp_path: Path) -> None:
    path = run_folder(tmp_path, "digits")
    (path / "leases").mkdir()
    (path / "leases" / "0002.json").write_text("{}")
    assert scraped(tmp_path)["evodiff_search_in_progress", "digits"] == 1
    exhausted = path / "generations" / "0002" / "inputs" / "exhausted.json"
    exhausted.parent.mkdir(parents=True)
    exhausted.write_text("{}")
    assert scraped(tmp_path)["evodiff_search_in_progress", "digits"] == 0


def test_what_mlflow_has_not_heard_of_is_counted(tmp_path: Path) -> None:
    path = run_folder(tmp_path, "digits")
    assert scraped(tmp_path)["evodiff_outbox_notes", "digits"] == 0
    (path / "outbox").mkdir()
    for name, content in (("track.json", "{}"), ("register-0001.json", "[]"), ("lock", ""), ("damaged.json", "{")):
        (path / "outbox" / name).write_text(content)
    assert scraped(tmp_path)["evodiff_outbox_notes", "digits"] == 3
    (path / "outbox" / "register-0000.json").write_text('{"on_purpose": true}')
    assert scraped(tmp_path)["evodiff_outbox_notes", "digits"] == 3


@pytest.mark.parametrize("damage", ["", "[]", '{"hypervolume": "much"}', "\x00\xff", '{"hypervolume": null}'])
def test_a_damaged_run_is_counted_and_hides_no_other(tmp_path: Path, damage: str) -> None:
    run_folder(tmp_path, "good")
    broken = run_folder(tmp_path, "broken")
    (broken / "generations" / "0001" / "result.json").write_text(damage)
    found = scraped(tmp_path)
    assert found["evodiff_search_damaged_runs",] == 1
    assert ("evodiff_search_generations", "broken") not in found
    assert found["evodiff_search_generations", "good"] == 2


def test_no_folder_at_all_is_no_search(tmp_path: Path) -> None:
    assert scraped(tmp_path / "nowhere") == {("evodiff_search_damaged_runs",): 0}


def test_the_disk_is_read_once_in_a_while_however_often_is_scraped(tmp_path: Path) -> None:
    now = [0.0]
    registry = CollectorRegistry()
    registry.register(RunsCollector(tmp_path, clock=lambda: now[0]))
    assert ("evodiff_search_generations", "late") not in samples(generate_latest(registry))
    run_folder(tmp_path, "late")
    now[0] = CACHE_SECONDS - 1
    assert ("evodiff_search_generations", "late") not in samples(generate_latest(registry))
    now[0] = CACHE_SECONDS
    assert samples(generate_latest(registry))["evodiff_search_generations", "late"] == 2


def test_the_watchers_last_poll_is_exported_and_rubbish_is_not(tmp_path: Path) -> None:
    write_heartbeat(tmp_path, 1234.5, 2)
    assert scraped(tmp_path)["evodiff_alert_watcher_last_poll_timestamp_seconds",] == 1234.5
    (tmp_path / "alert-watcher.json").write_text("rubbish")
    assert ("evodiff_alert_watcher_last_poll_timestamp_seconds",) not in scraped(tmp_path)


def test_a_watcher_that_is_expected_and_never_asked_is_told_apart_from_one_that_did(tmp_path: Path) -> None:
    polled = ("evodiff_alert_watcher_last_poll_timestamp_seconds",)
    registry, now = CollectorRegistry(), [0.0]
    registry.register(RunsCollector(tmp_path, clock=lambda: now[0], watcher_expected=True))
    assert samples(generate_latest(registry))[polled] == 0
    write_heartbeat(tmp_path, 1234.5, 0)
    now[0] = CACHE_SECONDS
    assert samples(generate_latest(registry))[polled] == 1234.5


def test_it_is_scraped_over_http(tmp_path: Path) -> None:
    run_folder(tmp_path, "digits")
    port, stop = serve_metrics(tmp_path, 0, watcher_expected=True)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            found = samples(answer.read())
        assert found["evodiff_search_generations", "digits"] == 2
        assert ("evodiff_alert_watcher_last_poll_timestamp_seconds",) in found
    finally:
        stop()


def exported_names(runs: Path) -> set[str]:
    """Return the name of every series of a site on which everything has happened once."""
    path = run_folder(runs, "digits")
    (path / "outbox").mkdir()
    (path / "outbox" / "track.json").write_text("{}")
    write_heartbeat(runs, 1.0, 0)
    metrics = Metrics()
    metrics.registry.register(RunsCollector(runs))
    observed: dict[str, Any] = {"version": "v", "client": "c", "at": 0.0, "outcome": Outcome.OK}
    metrics.observe_request(RequestObservation("r", Arm.STABLE, **observed, compute_seconds=1.0, total_seconds=1.0))
    metrics.observe_worker(WorkerObservation(Arm.STABLE, "v", 0.0, True, 1))
    metrics.set_online_kid(Arm.STABLE, 0.1, 512)
    metrics.set_smoke_test_kid(Arm.STABLE, 0.1)
    metrics.set_latency_limit(1.0)
    metrics.set_release({"revision": 1}, weight=0.0, changed_at=0.0)
    metrics.count_decision("promote")
    return {name[0] for name in samples(metrics.render())}


def test_every_metric_that_rules_or_dashboard_name_is_exported(tmp_path: Path) -> None:
    exported = exported_names(tmp_path)
    files = [*(PROJECT / "deploy/prometheus/rules").glob("*.yml"), *(PROJECT / "deploy/grafana").rglob("*.json")]
    assert len(files) == 3
    for file in files:
        text = re.sub(r"#.*|\b\w+:evodiff_\w+:\w+", "", file.read_text())  # comments and recorded series aside
        unknown = set(NAMED.findall(text)) - exported
        assert unknown == set(), f"{file.name} names {unknown}"


def test_every_recorded_series_that_is_used_is_recorded() -> None:
    recording = (PROJECT / "deploy/prometheus/rules/recording.yml").read_text()
    recorded = set(re.findall(r"record: (\S+)", recording))
    files = [*(PROJECT / "deploy/prometheus/rules").glob("*.yml"), *(PROJECT / "deploy/grafana").rglob("*.json")]
    used = {name for file in files for name in re.findall(r"(?<!record: )\b\w+:evodiff_\w+:\w+", file.read_text())}
    assert used <= recorded
    assert recorded <= used


def test_names_have_base_units_and_counters_end_in_total(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.count_decision("promote")
    metrics.registry.register(RunsCollector(tmp_path))
    for family in text_string_to_metric_families(metrics.render().decode()):
        assert family.name.startswith("evodiff_")
        assert not re.search(r"_(ms|milliseconds|kb|mb|percent)(_|$)", family.name)
        assert family.documentation
        assert set().union(*(sample.labels for sample in family.samples)) <= {
            *("arm", "outcome", "batch", "role", "action", "experiment", "version", "python", "le"),
        }


@pytest.mark.skipif(
    shutil.which("promtool") is None and os.environ.get("EVODIFF_REQUIRE_SERVERS") != "1",
    reason="promtool is not installed",
)
def test_every_question_of_the_dashboard_is_one_that_prometheus_understands(tmp_path: Path) -> None:
    dashboard = json.loads((PROJECT / "deploy/grafana/dashboards/evodiff.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    rules = [{"record": f"panel:evodiff:{number}", "expr": expression} for number, expression in enumerate(asked)]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(asked) > 20


def test_the_dashboard_asks_the_source_that_is_provisioned() -> None:
    source = yaml.safe_load((PROJECT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
    dashboard = json.loads((PROJECT / "deploy/grafana/dashboards/evodiff.json").read_text())
    asked = {panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel}
    assert asked == {source["datasources"][0]["uid"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.e2e
def test_the_command_answers_scrapes_until_it_is_asked_to_end(tmp_path: Path) -> None:
    run_folder(tmp_path, "digits")
    environment = {**os.environ, "EVODIFF_RUNS_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "evodiff", "metrics", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert samples(answer.read())["evodiff_search_generations", "digits"] == 2
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
