"""Housekeeping removes what is old, spares what is at work, and goes on where one chore fails."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from quick_search import CommandLine
from told_runs import TellingPool, new_run

from evodiff.errors import EvodiffError
from evodiff.pipeline.archive import create_archive
from evodiff.pipeline.evolve import evolve
from evodiff.pipeline.generation import plan
from evodiff.pipeline.housekeeping import Removal, do_chore, keep_house
from evodiff.pipeline.run import Run
from evodiff.settings import Settings
from evodiff.tracking import Expired

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=60)


def settings(folder: Path, **given: Any) -> Settings:
    return Settings(
        **{
            "runs_dir": folder / "runs",
            "archive": folder / "archive",
            "release_file": folder / "runs" / "release.json",
            **given,
        }
    )


def run_with_checkpoint(folder: Path, name: str = "run") -> Run:
    run = new_run(folder / "runs" / name, population=2)
    evolve(run, TellingPool(lambda trial: {"kid": 0.1}), generations=1, holder="test")
    (run.path / "scratch").mkdir(exist_ok=True)
    (run.path / "scratch" / "checkpoint.safetensors").write_bytes(b"0" * 1000)
    return run


def keep(
    folder: Path, *chores: str, now: datetime = LATER, dry_run: bool = False, home: Path | None = None, **given: Any
) -> list[Removal]:
    environment = {**os.environ, **({"AIRFLOW_HOME": str(home)} if home else {})}
    return keep_house(settings(folder, **given), now=now, dry_run=dry_run, chores=chores, environment=environment)


def test_checkpoints_of_a_run_at_rest_go_and_its_results_stay(tmp_path: Path) -> None:
    run = run_with_checkpoint(tmp_path)
    results = {path: path.read_bytes() for path in (run.path / "generations").rglob("*") if path.is_file()}
    said = keep(tmp_path, "weights", dry_run=True)
    assert (run.path / "scratch" / "checkpoint.safetensors").exists()
    assert keep(tmp_path, "weights") == said
    assert [(item.subject, item.failed) for item in said] == [("run", False)]
    assert (said[0].size or 0) >= 1000
    assert not (run.path / "scratch").exists()
    assert all(path.read_bytes() == content for path, content in results.items())
    assert len(plan(Run.open(run.path), 1)) == 2  # and it goes on


def test_a_run_that_somebody_works_on_is_left_alone(tmp_path: Path) -> None:
    run = run_with_checkpoint(tmp_path)
    assert keep(tmp_path, "weights", now=NOW) == [Removal("weights", "", size=0)]
    assert (run.path / "scratch" / "checkpoint.safetensors").exists()


def test_reading_a_run_and_reporting_on_it_is_no_work(tmp_path: Path) -> None:
    run = run_with_checkpoint(tmp_path)
    (run.path / "report").mkdir()
    page = run.path / "report" / "index.html"
    page.touch()
    os.utime(page, (LATER.timestamp(), LATER.timestamp()))
    assert keep(tmp_path, "weights")[0].subject == "run"


def test_a_run_that_cannot_be_read_is_said_and_does_not_stop_the_others(tmp_path: Path) -> None:
    run_with_checkpoint(tmp_path, "sound")
    damaged = run_with_checkpoint(tmp_path, "damaged")
    (damaged.path / "experiment.json").write_text("{}")
    found = {item.subject: item for item in keep(tmp_path, "weights")}
    assert found["damaged"].failed
    assert not found["sound"].failed
    assert not (tmp_path / "runs" / "sound" / "scratch").exists()
    assert (damaged.path / "scratch").exists()


def test_old_logs_go_with_the_folders_that_they_leave_empty(tmp_path: Path) -> None:
    logs = tmp_path / "airflow" / "logs"
    old, young, other = logs / "dag" / "old" / "1.log", logs / "dag" / "young" / "1.log", logs / "notes.txt"
    outside = tmp_path / "precious.log"
    for path in (old, young, other, outside):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0" * 10)
    (logs / "latest.log").symlink_to(outside)
    month_ago = (NOW - timedelta(days=31)).timestamp()
    for path in (old, other, outside):
        os.utime(path, (month_ago, month_ago))
    said = keep(tmp_path, "logs", now=NOW, home=tmp_path / "airflow", dry_run=True)
    assert old.exists()
    assert keep(tmp_path, "logs", now=NOW, home=tmp_path / "airflow") == said
    assert (said[0].items, said[0].size) == (1, 10)
    assert not old.parent.exists()
    assert young.exists()
    assert other.exists()
    assert outside.exists()
    assert keep(tmp_path, "logs", now=NOW, home=tmp_path / "airflow", retention_days=1)[0].items == 0


def test_what_is_not_set_up_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AIRFLOW"):
            monkeypatch.delenv(name)
    found = keep(tmp_path, "tracking", "archive", "logs", "database")
    assert [item.chore for item in found] == ["tracking", "archive", "logs", "database"]
    assert all(item.note and not item.failed for item in found)
    assert not (tmp_path / "archive").exists()


def test_a_chore_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    run_with_checkpoint(tmp_path)
    create_archive(tmp_path / "archive")
    (tmp_path / "archive" / "evodiff-archive.json").write_text('{"format": "another"}')
    found = {item.chore: item for item in keep(tmp_path, "archive", "tracking", "weights", tracking_uri="nonsense")}
    assert found["archive"].failed
    assert found["tracking"].failed
    assert not found["weights"].failed
    assert found["weights"].items == 1


def test_a_chore_of_a_scheduler_says_what_it_did_and_fails_if_it_did(tmp_path: Path) -> None:
    create_archive(tmp_path / "archive")
    lines: list[str] = []
    do_chore(settings(tmp_path), "archive", now=NOW, say=lines.append)
    assert lines == [f"{tmp_path / 'archive'}: 0 removed, 0.0 MB"]
    (tmp_path / "archive" / "evodiff-archive.json").write_text('{"format": "another"}')
    with pytest.raises(EvodiffError, match="another format"):
        do_chore(settings(tmp_path), "archive", now=NOW, say=lines.append)


def test_what_is_released_is_spared_in_both_forms_of_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_with_checkpoint(tmp_path)
    given: dict[str, Any] = {}
    monkeypatch.setattr("evodiff.tracking.expire_artifacts", lambda *_, **options: given.update(options) or Expired())
    named = {"champion": {"model": "run", "version": 7}, "previous": {"model": "other", "version": 8}}
    monkeypatch.setattr(
        "evodiff.pipeline.housekeeping.read_release",
        lambda file: {**named, "challenger": {"run": "run", "candidate": "f" * 16}, "pending": None},
    )
    assert not keep(tmp_path, "tracking", tracking_uri="http://127.0.0.1:1")[0].failed
    assert (given["keep"], given["keep_versions"]) == (["f" * 16], ["7"])


@pytest.fixture(scope="module")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of Airflow with a database in SQLite; tests copy it."""
    home = tmp_path_factory.mktemp("airflow")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env={**inherited, "AIRFLOW_HOME": str(home)},
        check=True,
        capture_output=True,
        timeout=300,
    )
    return home


def insert_events(database: Path, events: Sequence[tuple[str, datetime]]) -> None:
    with sqlite3.connect(database) as connection:
        for name, at in events:
            connection.execute("insert into log (dttm, event) values (?, ?)", (at.isoformat(sep=" "), name))
    connection.close()


def events(database: Path) -> set[str]:
    with sqlite3.connect(database) as connection:
        found = {row[0] for row in connection.execute("select event from log where event in ('old', 'young')")}
    connection.close()
    return found


@pytest.mark.e2e
@pytest.mark.parametrize("inside_a_task", [False, True])
def test_old_records_of_airflow_go_also_where_a_task_asks(
    airflow_home: Path, tmp_path: Path, inside_a_task: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "airflow"
    shutil.copytree(airflow_home, home)
    database = home / "airflow.db"
    insert_events(database, [("old", NOW - timedelta(days=31)), ("young", NOW - timedelta(days=1))])
    # What Airflow does to the environment of a task; see airflow.sdk.execution_time.supervisor.
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "airflow-db-not-allowed:///")
    given = {} if inside_a_task else {"airflow_database": f"sqlite:///{database}"}
    if inside_a_task:
        (home / "airflow.cfg").unlink(missing_ok=True)
    (found,) = keep(tmp_path, "database", now=NOW, home=home, **given)
    assert (found.note, found.failed) == ("", False)
    assert found.items >= 1
    assert events(database) == {"young"}


def insert_run(database: Path, dag: str, state: str, start: datetime) -> None:
    """Put a DAG and one run of it into a database of Airflow; what may not be null and nobody reads is empty."""
    at = start.isoformat(sep=" ")
    with sqlite3.connect(database) as connection:
        for table, given in (
            ("dag_bundle", {"name": "dags"}),
            ("dag", {"dag_id": dag, "bundle_name": "dags", "is_paused": 1, "is_stale": 0}),
            ("dag_run", {"dag_id": dag, "run_id": f"{dag}-1", "state": state, "start_date": at, "run_after": at}),
        ):
            empty = {"INTEGER": 1, "BOOLEAN": 1, "JSON": "{}"}
            needed = {
                name: "manual" if name == "run_type" else empty.get(kind, "")
                for _, name, kind, needed, default, _ in connection.execute(f"pragma table_info({table})")
                if needed and default is None
            }
            row = {**needed, **given}
            marks = ", ".join("?" * len(row))
            connection.execute(f"insert or ignore into {table} ({', '.join(row)}) values ({marks})", [*row.values()])
    connection.close()


@pytest.mark.e2e
@pytest.mark.parametrize(("state", "stays"), [("running", True), ("success", False)])
def test_a_run_that_a_pause_has_frozen_stays_as_long_as_it_does(
    airflow_home: Path, tmp_path: Path, state: str, stays: bool
) -> None:
    home = tmp_path / "airflow"
    shutil.copytree(airflow_home, home)
    database = home / "airflow.db"
    insert_events(database, [("old", NOW - timedelta(days=31)), ("young", NOW - timedelta(days=1))])
    insert_run(database, "evolve_architecture", state, NOW - timedelta(days=40))
    found = keep(tmp_path, "database", now=NOW, home=home, airflow_database=f"sqlite:///{database}")
    assert not any(item.failed for item in found), found
    assert any("evolve_architecture-1" in item.note for item in found) == stays
    assert events(database) == {"young"}
    with sqlite3.connect(database) as connection:
        assert connection.execute("select count(*) from dag_run").fetchone() == (int(stays),)
    connection.close()


@pytest.mark.e2e
def test_the_command_line_lists_what_goes(
    evodiff: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_with_checkpoint(tmp_path)
    old = (NOW - timedelta(days=40)).timestamp()
    for path in (run.path, *run.path.rglob("*")):
        os.utime(path, (old, old))
    monkeypatch.chdir(tmp_path)  # ./runs and ./.archive are this test's
    said = evodiff("housekeeping", "--dry-run").stdout
    assert "What would go" in said
    assert "weights" in said
    assert (run.path / "scratch").exists()
    assert "What went" in evodiff("housekeeping").stdout
    assert not (run.path / "scratch").exists()
