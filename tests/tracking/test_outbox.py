"""A registration waits from the closing of its generation until it is done, and its weights with it."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from tracked_runs import publish_weights, tell_generation, told_run

from evodiff.errors import LedgerError
from evodiff.pipeline.archive import create_archive
from evodiff.pipeline.archive.contents import kept_weights
from evodiff.pipeline.archive.entries import Entries, write_entries
from evodiff.pipeline.generation import select
from evodiff.pipeline.prune import prune, superfluous_weights
from evodiff.pipeline.release import EMPTY
from evodiff.pipeline.run import Run
from evodiff.tracking import TrackingError, delivery, outbox, track_run
from evodiff.tracking.records import RunRecords

SERVER = "http://127.0.0.1:1"  # nobody listens there
POPULATION = 3


def notes(run: Run) -> list[str]:
    return sorted(path.name for path in (run.path / "outbox").glob("*.json"))


def weights(run: Run) -> set[str]:
    return {folder.name for _, _, folder in run.ledger.weights_folders()}


def closed_run(path: Path, generations: int = 3) -> Run:
    """A run whose generations were selected as a search does it, each with weights."""
    run = told_run(path, generations=0, population=POPULATION)
    for generation in range(generations):
        tell_generation(run, publish_weights)
        select(run, generation)
    return run


def to_register(run: Run) -> set[str]:
    records = RunRecords(run)
    return {
        f"{candidate}.r0"
        for generation in range(run.ledger.closed)
        for candidate in records.new_members(generation)[:3]
    }


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is tracked or archived unless a test says so."""
    monkeypatch.delenv("EVODIFF_TRACKING_URI", raising=False)
    monkeypatch.setenv("EVODIFF_ARCHIVE", str(tmp_path / "archive"))


def test_what_waits_to_be_registered_keeps_its_weights_while_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = closed_run(tmp_path / "alone")
    assert not (alone.path / "outbox").exists()
    assert to_register(alone) - weights(alone), "the seed of this test makes nobody leave the front"
    monkeypatch.setenv("EVODIFF_TRACKING_URI", SERVER)
    run = closed_run(tmp_path / "tracked")
    assert notes(run) == [f"register-{generation:04d}.json" for generation in range(3)]
    assert to_register(run) <= weights(run)
    prune(run)
    assert to_register(run) <= weights(run)
    for generation in range(3):
        outbox.take_away(run, outbox.register_note(generation))
    prune(run)
    assert weights(run) == weights(alone)


def test_what_serves_or_is_to_keeps_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVODIFF_RELEASE_FILE", str(tmp_path / "release.json"))
    alone = closed_run(tmp_path / "served")
    gone = sorted(to_register(alone) - weights(alone))
    assert gone, "the seed of this test makes nobody leave the front"
    shutil.rmtree(tmp_path / "served")
    candidate = gone[0].partition(".")[0]
    roles = {"champion": {"run": "served", "candidate": candidate}, "pending": {"model": "other", "version": "1"}}
    (tmp_path / "release.json").write_text(json.dumps({**EMPTY, **roles}))
    run = closed_run(tmp_path / "served")
    assert {name for name in weights(run) if name.startswith(candidate)} == {gone[0]}
    (tmp_path / "release.json").write_text("{")
    assert superfluous_weights(run) == []


def test_a_registration_waits_also_where_the_server_refuses_and_the_others_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVODIFF_TRACKING_URI", SERVER)
    run = closed_run(tmp_path / "refused")
    tried = []

    def register(client: Any, experiment: str, run: Run, generation: int) -> list[Any]:
        tried.append(generation)
        if generation == 0:
            raise TrackingError("The tracking server refuses (status 403).", remedy="Ask it.")
        return []

    @contextmanager
    def connected(tracking_uri: str) -> Iterator[None]:
        yield

    monkeypatch.setattr(delivery, "connected", connected)
    monkeypatch.setattr(delivery, "open_experiment", lambda client, run: "1")
    monkeypatch.setattr(delivery, "_track", lambda *given: None)
    monkeypatch.setattr(delivery, "register_new_members", register)
    with pytest.raises(TrackingError, match="403"):
        track_run(run, SERVER)
    assert tried == [0, 1, 2]
    assert notes(run) == ["register-0000.json"]


def test_a_wait_on_purpose_is_a_trouble_once_the_server_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = closed_run(tmp_path / "waiting", generations=1)
    outbox.ask_registration(run, 0)
    refused, inherited = False, True

    def register(client: Any, experiment: str, run: Run, generation: int) -> list[Any]:
        if refused:
            raise TrackingError("The tracking server refuses (status 403).", remedy="Ask it.")
        return []

    def note() -> dict[str, Any]:
        content: dict[str, Any] = json.loads((run.path / "outbox" / "register-0000.json").read_text())
        return content

    monkeypatch.setattr(delivery, "connected", lambda uri: nullcontext())
    monkeypatch.setattr(delivery, "open_experiment", lambda client, run: "1")
    monkeypatch.setattr(delivery, "_track", lambda *given: None)
    monkeypatch.setattr(delivery, "register_new_members", register)
    monkeypatch.setattr(delivery, "awaits_scratch", lambda run, candidate: inherited)
    track_run(run, SERVER)
    assert note()["on_purpose"] is True
    refused = True
    with pytest.raises(TrackingError, match="403"):
        track_run(run, SERVER)
    assert "on_purpose" not in note()
    assert "403" in note()["reason"]
    refused = False
    track_run(run, SERVER)
    assert note()["on_purpose"] is True
    inherited = False
    track_run(run, SERVER)
    assert notes(run) == []


def test_a_generation_that_is_open_is_not_registered_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVODIFF_TRACKING_URI", SERVER)
    run = closed_run(tmp_path / "open", generations=1)
    run.evolution().ask(POPULATION)
    with pytest.raises(LedgerError, match="not done"):
        select(run, 1)
    assert outbox.waiting_registrations(run) == [0]


def test_who_delivers_for_ever_is_not_waited_for_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = closed_run(tmp_path / "held", generations=1)
    (run.path / "outbox").mkdir()
    monkeypatch.setattr(outbox, "PATIENCE_SECONDS", 0.2)
    with (run.path / "outbox" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "Another process has been delivering for held" in track_run(run, SERVER).waiting


def test_what_an_archive_has_yet_to_take_keeps_its_weights(tmp_path: Path) -> None:
    create_archive(tmp_path / "archive")
    run = closed_run(tmp_path / "told")
    wanted = {name for generation in range(3) for name in kept_weights(run.ledger, generation)}
    assert wanted <= weights(run)
    write_entries(tmp_path / "archive", Entries(generations={f"told-g{number:04d}": {} for number in range(3)}))
    assert superfluous_weights(run) == run.evolution().prunable_weights() != []


def test_an_archive_that_never_takes_a_run_does_not_keep_all_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_archive(tmp_path / "archive")
    monkeypatch.setenv("EVODIFF_RETENTION_GENERATIONS", "1")
    run = closed_run(tmp_path / "told")
    shutil.rmtree(tmp_path / "archive")
    assert superfluous_weights(run) == []


def test_weights_are_removed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = closed_run(tmp_path / "told", generations=1)
    folder = next(folder for _, _, folder in run.ledger.weights_folders())
    seen = []
    monkeypatch.setattr("evodiff.pipeline.prune.superfluous_weights", lambda run: [folder])
    monkeypatch.setattr("evodiff.pipeline.prune.shutil.rmtree", lambda *given, **options: seen.append(folder.exists()))
    prune(run)
    assert seen[0] is False
