"""Housekeeping: what is older than the retention settings say is removed, a chore at a time.

============  ====================================================================================================
``weights``   checkpoints and superfluous weights of runs on which nobody worked for ``retention_days``
``tracking``  models and grids of samples in MLflow, of candidates that left the front ``retention_generations`` ago
``archive``   data in the archive that no commit names
``logs``      log files of Airflow
``database``  records of Airflow, by its own ``airflow db clean``; those of runs stay while an old one is unfinished
============  ====================================================================================================

A chore for which something is not set up is left out, and says so; one that fails does not keep the others from work.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evodiff.errors import EvodiffError
from evodiff.pipeline.chain import experiments
from evodiff.pipeline.prune import prune
from evodiff.pipeline.release import ROLES, read_release
from evodiff.pipeline.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from evodiff.settings import Settings

# What work on a run changes; reports and audits are not work.
_WORKED_ON: Final = (
    "experiment.json",
    "generations",
    "scratch",
    "telemetry",
    "requests",
    "leases",
    "final",
    "scratch-front",
    "validation",
)

# Tables that grow with time. Not among them is ``trigger``: it is cleaned by when a trigger was made, and the trigger
# of an asset watcher is as old as its DAG.
_TABLES: Final = ("callback", "log", "job", "import_error", "asset_event", "revoked_token")
# Airflow cleans these by when a run began, also of one that a pause has frozen in the middle.
_RUN_TABLES: Final = ("dag_run", "task_instance", "task_instance_history", "task_reschedule", "xcom")
_CHAIN: Final = "evolve_architecture"  # the DAG whose runs a pause may freeze for as long as anybody likes
_ROWS: Final = re.compile(r"^\[\s*\{.*\]\s*$", re.DOTALL | re.MULTILINE)
_FOUND: Final = re.compile(r"Found (\d+) rows meeting deletion criteria")
# What Airflow puts in the place of its database's address before it runs a task.
_BLOCKED: Final = "airflow-db-not-allowed:"
_DATABASE: Final = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


@dataclass(frozen=True)
class Removal:
    """What a chore removed, or would: ``items`` things of ``size`` bytes in all, where that can be told.

    ``note`` says what was left out, or what went wrong (``failed``).
    """

    chore: str
    subject: str
    items: int = 0
    size: int | None = None
    note: str = ""
    failed: bool = False


@dataclass(frozen=True)
class House:
    """What is kept, and by which settings; ``environment`` says where Airflow is."""

    settings: Settings
    now: datetime
    environment: Mapping[str, str]
    dry_run: bool

    @property
    def limit(self) -> datetime:
        """What is older goes."""
        return self.now - timedelta(days=self.settings.retention_days)


def keep_house(
    settings: Settings,
    *,
    now: datetime,
    dry_run: bool = False,
    chores: Collection[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> list[Removal]:
    """Do the chores, by default all, and return what they removed, or with ``dry_run`` would remove."""
    house = House(settings, now, environment, dry_run)
    removals = []
    for name in CHORES if chores is None else chores:
        try:
            removals += list(CHORES[name](house)) or [Removal(name, "", size=0)]
        except (EvodiffError, OSError) as error:
            removals.append(Removal(name, "", note=str(error), failed=True))
    return removals


def do_chore(settings: Settings, chore: str, *, now: datetime, say: Callable[[str], None]) -> None:
    """Do one chore for a scheduler, saying what was removed.

    Raises:
        EvodiffError: it failed, if only in part.
    """
    removals = keep_house(settings, now=now, chores=[chore])
    for removal in removals:
        size = "" if removal.size is None else f", {removal.size / 1e6:.1f} MB"
        say(f"{removal.subject or chore}: {removal.note or f'{removal.items} removed{size}'}")
    failed = [removal for removal in removals if removal.failed]
    if failed:
        raise EvodiffError(
            f"Housekeeping failed at {chore}: {failed[0].note}", remedy="See the lines above; nothing else was touched."
        )


def _weights(house: House) -> Iterator[Removal]:
    def prune_old(run: Run) -> Removal | None:
        if _last_work(run) >= house.limit.timestamp():
            return None
        size = prune(run, dry_run=house.dry_run)
        return Removal("weights", run.name, 1, size) if size else None

    return _each_run(house, "weights", prune_old)


def _tracking(house: House) -> Iterator[Removal]:
    from evodiff.tracking import TrackingUnreachable, expire_artifacts

    settings = house.settings
    uri = settings.tracking_uri
    if uri is None:
        yield Removal("tracking", "", note="no tracking server is set (EVODIFF_TRACKING_URI)")
        return
    release = read_release(settings.release_file)
    released = [release[role] for role in ROLES if release.get(role) is not None]

    def expire(run: Run) -> Removal | None:
        expired = expire_artifacts(
            run,
            uri,
            now=house.now,
            days=settings.retention_days,
            generations=settings.retention_generations,
            keep=[entry["candidate"] for entry in released if entry.get("run") == run.name],
            keep_versions=[str(entry.get("version")) for entry in released if entry.get("model") == run.name],
            dry_run=house.dry_run,
        )
        return Removal("tracking", run.name, len(expired.candidates), expired.size) if expired.candidates else None

    yield from _each_run(house, "tracking", expire, fatal=TrackingUnreachable)


def _archive(house: House) -> Iterator[Removal]:
    from evodiff.pipeline.archive import collect_garbage

    where = house.settings.archive
    garbage = collect_garbage(where, dry_run=house.dry_run)
    if garbage is None:
        yield Removal("archive", str(where), note="there is no archive")
    else:
        yield Removal("archive", str(where), garbage.files, garbage.size)


def _logs(house: House) -> Iterator[Removal]:
    folder = _log_folder(house.environment)
    if folder is None or not folder.is_dir():
        yield Removal("logs", "", note="no folder of Airflow's logs is known (AIRFLOW_HOME)")
        return
    old = [
        path
        for path in folder.rglob("*.log*")
        if path.is_file() and not path.is_symlink() and _changed(path) < house.limit.timestamp()
    ]
    size = sum(path.stat().st_size for path in old)
    if not house.dry_run:
        for path in old:
            path.unlink(missing_ok=True)
        _remove_empty({path.parent for path in old}, folder)
    yield Removal("logs", str(folder), len(old), size)


def _database(house: House) -> Iterator[Removal]:
    environment = _airflow_environment(house)
    if environment is None or importlib.util.find_spec("airflow") is None:
        yield Removal("database", "", note="no database of Airflow is known (EVODIFF_AIRFLOW_DATABASE)")
        return
    frozen = _frozen_run(house, environment)
    tables = _TABLES if frozen else (*_RUN_TABLES, *_TABLES)
    command = ["db", "clean", "--yes", "--skip-archive", "--error-on-cleanup-failure"]
    command += ["--clean-before-timestamp", house.limit.isoformat(timespec="seconds"), "--tables", ",".join(tables)]
    done = _airflow(environment, *command, *(["--dry-run"] if house.dry_run else []))
    if done.returncode != 0:
        raise _airflow_failed("db clean", done)
    yield Removal("database", "records", sum(map(int, _FOUND.findall(done.stdout))))
    if frozen:
        yield Removal(
            "database", "runs of DAGs", note=f"all stay until {frozen} has ended, which began before the limit"
        )


def _frozen_run(house: House, environment: Mapping[str, str]) -> str | None:
    """Return the id of an unfinished run of a chain that is older than the limit, None where there is none.

    Raises:
        EvodiffError: Airflow does not say.
    """
    done = _airflow(environment, "dags", "list-runs", _CHAIN, "--state", "running", "--output", "json")
    if done.returncode != 0 and "does not exist" in done.stderr:
        return None
    if done.returncode != 0:
        raise _airflow_failed("dags list-runs", done)
    rows = json.loads(found[0]) if (found := _ROWS.search(done.stdout)) else []
    old = [
        row["run_id"] for row in rows if row["start_date"] and datetime.fromisoformat(row["start_date"]) < house.limit
    ]
    return min(old, default=None)


def _airflow(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - commands of ours
        [sys.executable, "-m", "airflow", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _airflow_failed(command: str, done: subprocess.CompletedProcess[str]) -> EvodiffError:
    said = " ".join((done.stderr or done.stdout).split())[-500:]
    return EvodiffError(f"`airflow {command}` failed with {done.returncode}: {said}", remedy="Mend what it names.")


CHORES: Final[Mapping[str, Callable[[House], Iterator[Removal]]]] = {
    "weights": _weights,
    "tracking": _tracking,
    "archive": _archive,
    "logs": _logs,
    "database": _database,
}


def _each_run(
    house: House,
    chore: str,
    work: Callable[[Run], Removal | None],
    fatal: type[EvodiffError] | tuple[()] = (),
) -> Iterator[Removal]:
    """Work on every run and yield what went; one that fails, but not by ``fatal``, does not stop the others."""
    for path in experiments(house.settings.runs_dir):
        try:
            removal = work(Run.open(path))
        except fatal:
            raise
        except EvodiffError as error:
            removal = Removal(chore, path.name, note=str(error), failed=True)
        if removal is not None:
            yield removal


def _last_work(run: Run) -> float:
    """Return when something of a run changed last, in seconds of the epoch."""
    roots = [run.path / name for name in _WORKED_ON]
    inside = [Path(folder, name) for root in roots for folder, _, names in os.walk(root) for name in (".", *names)]
    return max(map(_changed, [*roots, *inside]))


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # it is not there, or somebody was faster
        return 0.0


def _log_folder(environment: Mapping[str, str]) -> Path | None:
    if folder := environment.get("AIRFLOW__LOGGING__BASE_LOG_FOLDER"):
        return Path(folder)
    return Path(home) / "logs" if (home := environment.get("AIRFLOW_HOME")) else None


def _remove_empty(folders: Collection[Path], root: Path) -> None:
    """Remove those folders, and their parents below ``root``, that hold nothing any more."""
    for folder in folders:
        while folder != root and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


def _airflow_environment(house: House) -> dict[str, str] | None:
    """Return an environment in which the ``airflow`` command finds its database, None where none is known.

    Inside a task Airflow hides it: what remains is the setting, or the file that Airflow makes by default.
    """
    environment = {
        name: value
        for name, value in house.environment.items()
        if not value.startswith(_BLOCKED) and not name.startswith("_AIRFLOW")
    }
    if house.settings.airflow_database is not None:
        return {**environment, _DATABASE: house.settings.airflow_database}
    home = environment.get("AIRFLOW_HOME")
    known = _DATABASE in environment or (home is not None and (Path(home) / "airflow.db").exists())
    return environment if known else None
