"""Start and end what the Procfile names, in process groups of their own, and remember which ones they are."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from evodiff.errors import EvodiffError
from evodiff.local.environment import LOOPBACK, Site, service_environment
from evodiff.local.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

START_SECONDS = 240.0
GRACE_SECONDS = 20.0
LOG_BYTES = 10_000_000  # a longer log of the services before is set aside


class ServiceError(EvodiffError):
    """The services cannot be started, or did not stay alive."""


@dataclass(frozen=True)
class Started:
    """The process that holds the services, and when the system says it began, so that a reused id is not mistaken."""

    process_id: int
    created: float

    def alive(self) -> bool:
        """Tell whether it still runs."""
        import psutil

        try:
            process = psutil.Process(self.process_id)
            return bool(process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


def up(site: Site, say: Callable[[str], None]) -> bool:
    """Start the services and wait until they are healthy; return False where they ran already.

    Raises:
        ServiceError: a port is taken, or a service does not start.
    """
    running = started(site)
    if running is not None and running.alive():
        return False
    for port in (site.airflow_port, site.mlflow_port):
        _require_free(port)
    environment = service_environment(site)
    say("Preparing the databases ...")
    migrate(site, environment)
    say(f"Starting Airflow on {site.airflow_url} and MLflow on {site.mlflow_url} ...")
    if site.log.exists() and site.log.stat().st_size > LOG_BYTES:
        site.log.replace(site.log.with_name("services.log.1"))
    with site.log.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 - a command of ours
            [sys.executable, "-m", "honcho", "start", "--no-prefix", "-f", str(site.project / "Procfile")],
            env=environment,
            cwd=site.project,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    holder = _remember(site, process.pid)
    try:
        _wait(site, holder)
        make_pools(Scheduler(site))
    except BaseException:  # Ctrl-C too leaves nothing behind
        down(site)
        raise
    return True


def down(site: Site) -> bool:
    """End exactly what :func:`up` started, groups and all; return False where nothing ran."""
    running = started(site)
    if running is None:
        return False
    if running.alive():
        end_tree(running.process_id)
    _file(site).unlink(missing_ok=True)
    return True


def end_tree(process_id: int, grace_seconds: float = GRACE_SECONDS) -> None:
    """End a process, its descendants, and the groups that they lead: asked first, killed after ``grace_seconds``."""
    import psutil

    try:
        root = psutil.Process(process_id)
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        _signal(process, signal.SIGTERM)
    _, left = psutil.wait_procs(tree, timeout=grace_seconds)
    for process in left:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=grace_seconds)


def started(site: Site) -> Started | None:
    """Return what :func:`up` remembered, None where nothing was started or it was ended."""
    try:
        content = json.loads(_file(site).read_text(encoding="utf-8"))
        return Started(int(content["process_id"]), float(content["created"]))
    except (OSError, ValueError, KeyError):
        return None


def make_pools(scheduler: Scheduler) -> None:
    """Make the pools that the DAGs name."""
    cores = os.cpu_count() or 1
    scheduler.make_pool("training", cores, "training on this machine: one slot a core")
    scheduler.make_pool("mps", cores, "judging: one slot a core here; one a machine where Macs do it")
    scheduler.make_pool("dvc", 1, "the archive has one writer")


def migrate(site: Site, environment: dict[str, str]) -> None:
    """Bring the databases of Airflow and MLflow up to date, once a version, before anything uses them.

    Raises:
        ServiceError: a migration failed.
    """
    stamp = site.home / "migrated.json"
    versions = {name: version(name) for name in ("apache-airflow", "mlflow")}
    try:
        if json.loads(stamp.read_text(encoding="utf-8")) == versions:
            return
    except (OSError, ValueError):
        pass  # never migrated, or the stamp is damaged: migrating twice does no harm
    (site.home / "mlflow").mkdir(parents=True, exist_ok=True)
    store = environment["MLFLOW_BACKEND_STORE_URI"]
    _run_all([["airflow", "db", "migrate"], ["mlflow", "db", "upgrade", store]], environment)
    stamp.write_text(json.dumps(versions), encoding="utf-8")


def _run_all(commands: Sequence[Sequence[str]], environment: dict[str, str]) -> None:
    """Run commands side by side and wait for all of them."""
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603
        for command in commands
    ]
    outputs = [process.communicate()[0] for process in processes]
    for command, process, output in zip(commands, processes, outputs, strict=True):
        if process.returncode != 0:
            raise ServiceError(
                f"`{' '.join(command[:3])}` failed with {process.returncode}: {output[-800:]}",
                remedy="Mend what it names, then start again.",
            )


def _wait(site: Site, holder: Started) -> None:
    import httpx

    scheduler = Scheduler(site)
    deadline = time.monotonic() + START_SECONDS
    waiting: dict[str, Callable[[], bool]] = {
        "MLflow": lambda: httpx.get(f"{site.mlflow_url}/health", timeout=5.0).status_code == 200,
        "Airflow": scheduler.healthy,
        "its DAGs": lambda: "evolve_architecture" in scheduler.dags(),
    }
    while waiting:
        name, ready = next(iter(waiting.items()))
        try:
            if ready():
                del waiting[name]
                continue
        except (httpx.HTTPError, EvodiffError):
            pass  # not yet
        if not holder.alive():
            raise ServiceError(f"The services ended while {name} started.", remedy=f"Read {site.log}.")
        if time.monotonic() > deadline:
            raise ServiceError(f"{name} was not ready after {START_SECONDS:g} s.", remedy=f"Read {site.log}.")
        time.sleep(0.5)


def _remember(site: Site, process_id: int) -> Started:
    import psutil

    holder = Started(process_id, psutil.Process(process_id).create_time())
    content: dict[str, Any] = {"process_id": holder.process_id, "created": holder.created}
    _file(site).write_text(json.dumps(content), encoding="utf-8")
    return holder


def _file(site: Site) -> Path:
    return site.home / "up.json"


def _signal(process: Any, number: signal.Signals) -> None:
    import psutil

    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ServiceError(
                f"Port {port} is taken: {error.strerror}.",
                remedy="Set EVODIFF_AIRFLOW_PORT or EVODIFF_MLFLOW_PORT to a free one, or end what listens there.",
            ) from error
