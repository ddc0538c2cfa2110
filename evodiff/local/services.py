"""Start and end what the Procfile names, each service in a session of its own, and remember which ones they are."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import psutil

from evodiff.errors import EvodiffError
from evodiff.local.environment import LOOPBACK, Site, make_private, service_environment
from evodiff.local.monitoring import monitoring_programs, write_prometheus_config
from evodiff.local.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

START_SECONDS = 240.0
GRACE_SECONDS = 20.0
SAME_SECONDS = 60.0  # when a process began is told by the wall clock, which may be set meanwhile
MARK = "EVODIFF_SERVICES_MARK"
LOG_BYTES = 10_000_000  # a longer log of the services before is set aside


class ServiceError(EvodiffError):
    """The services cannot be started, or did not stay alive."""


@dataclass(frozen=True)
class Started:
    """The process that holds the services, and when the system says it began, so that a reused id is not mistaken.

    ``sessions`` says the same of the first process of each session that belongs to it: its own, and one a service. A
    process stays in its session whatever becomes of its parents, so it is found even if they were killed. ``mark`` is
    in the environment of all of them, for those whose session nobody has seen before their parents ended.
    """

    process_id: int
    created: float
    sessions: Mapping[int, float] = field(default_factory=dict)
    mark: str = ""

    def alive(self) -> bool:
        """Tell whether it still runs."""
        return _began(self.process_id, self.created) is True

    def of_now(self) -> Started:
        """Return it with the sessions that its descendants are in now beside those that were known."""
        sessions = {self.process_id: self.created, **self.sessions}
        descendants = members({self.process_id}) if self.alive() else []
        for process in [*descendants, *_marked(self.mark)]:
            with suppress(OSError, psutil.Error):
                leader = os.getsid(process.pid)
                alive = psutil.pid_exists(leader)
                sessions.setdefault(leader, psutil.Process(leader).create_time() if alive else self.created)
        return replace(self, sessions=sessions)

    def ours(self) -> set[int]:
        """Return the sessions that are still those of the services: not a number that somebody else got meanwhile."""
        if psutil.boot_time() > self.created + SAME_SECONDS:
            return set()  # the machine was started since
        return {leader for leader, created in self.of_now().sessions.items() if _began(leader, created) is not False}


def up(site: Site, say: Callable[[str], None]) -> bool:
    """Start the services and wait until they are healthy; return False where they ran already.

    Of two calls at once the second waits for the first.

    Raises:
        ServiceError: a port is taken, or a service does not start.
    """
    with _starting(site, say):
        running = started(site)
        if running is not None and running.alive():
            return False
        if down(site):
            say("Ended what was left of services whose holder is gone.")
        site = watched(site, say)
        for name, port in site.ports.items():
            if port:
                _require_free(port, name)
        environment = service_environment(site)
        if site.prometheus_port:
            environment.update(monitoring_programs(environment["PATH"]))
            write_prometheus_config(site, environment)
        say("Preparing the databases ...")
        migrate(site, environment)
        say(f"Starting Airflow on {site.airflow_url} and MLflow on {site.mlflow_url} ...")
        holder = _start(site, environment)
        try:
            _wait(site, holder)
            make_pools(Scheduler(site))
        except BaseException:  # Ctrl-C too leaves nothing behind
            down(site)
            raise
        return True


def watched(site: Site, say: Callable[[str], None]) -> Site:
    """Return the site without Prometheus and Alertmanager where they are not installed."""
    if not (site.prometheus_port and site.alertmanager_port) or monitoring_programs():
        return site
    say(
        "Prometheus and Alertmanager are not installed, so nobody watches; packages: prometheus prometheus-alertmanager"
    )
    return replace(site, prometheus_port=0, alertmanager_port=0)


def down(site: Site) -> bool:
    """End exactly what :func:`up` started, with everything that it started in turn; return False where nothing ran.

    Raises:
        ServiceError: a process does not end.
    """
    running = started(site)
    if running is None:
        return False
    found = end_sessions(running.ours())
    _file(site).unlink(missing_ok=True)
    return found


def end_sessions(leaders: Collection[int], grace_seconds: float = GRACE_SECONDS) -> bool:
    """End all processes of sessions and their descendants: asked first, killed after ``grace_seconds``.

    They are looked for anew each time, as the last act of a process may be to start another. Returns whether there were
    any.

    Raises:
        ServiceError: a process does not end even when it is killed.
    """
    found = False
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
        if not (processes := members(leaders)):
            return found
        found = True
        for process in processes:
            with suppress(psutil.Error):
                process.send_signal(number)
        psutil.wait_procs(processes, timeout=grace_seconds)
    if left := [process.pid for process in members(leaders)]:
        raise ServiceError(f"Expected all services to end, found processes {left}.", remedy="Ask again, or restart.")
    return found


def members(leaders: Collection[int]) -> list[psutil.Process]:
    """Return the living processes of sessions, with their descendants wherever these went."""
    everyone: dict[int, tuple[psutil.Process, int, int]] = {}
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):  # it has ended meanwhile
            if process.status() != psutil.STATUS_ZOMBIE:
                everyone[process.pid] = (process, os.getsid(process.pid), process.ppid())
    found = {identifier for identifier, (_, leader, _) in everyone.items() if leader in leaders}
    while more := {identifier for identifier, (*_, parent) in everyone.items() if parent in found} - found:
        found |= more
    return [everyone[identifier][0] for identifier in found]


def started(site: Site) -> Started | None:
    """Return what :func:`up` remembered, None where nothing was started or it was ended."""
    try:
        content = json.loads(_file(site).read_text(encoding="utf-8"))
        sessions = {int(leader): float(created) for leader, created in content.get("sessions", {}).items()}
        return Started(int(content["process_id"]), float(content["created"]), sessions, content.get("mark", ""))
    except (OSError, ValueError, KeyError):
        return None


def make_pools(scheduler: Scheduler) -> None:
    """Make the pools that the DAGs name."""
    cores = os.cpu_count() or 1
    scheduler.make_pool("training", cores, "training on this machine: one slot a core")
    scheduler.make_pool("mps", cores, "judging: one slot a core here; one a machine where Macs do it")
    scheduler.make_pool("dvc", 1, "archive, then registry: beside the next generation, one at a time")


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


def _marked(mark: str) -> list[psutil.Process]:
    """Return the living processes with a mark in their environment."""
    found = []
    for process in psutil.process_iter() if mark else ():
        with suppress(OSError, psutil.Error):  # it has ended meanwhile, or is somebody else's
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


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


def _start(site: Site, environment: Mapping[str, str]) -> Started:
    """Start the processes of the Procfile; return the one that holds them."""
    if site.log.exists() and site.log.stat().st_size > LOG_BYTES:
        site.log.replace(site.log.with_name("services.log.1"))
    # It reads a file of variables by itself, which would win over ours: `.env` holds those of the containers.
    arguments = ["start", "--no-prefix", "--env", os.devnull, "--procfile", str(site.project / "Procfile")]
    mark = secrets.token_hex(8)
    with site.log.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 - a command of ours
            [sys.executable, "-m", "honcho", *arguments],
            env={**environment, MARK: mark},
            cwd=site.project,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return _remember(site, Started(process.pid, psutil.Process(process.pid).create_time(), mark=mark))


def _wait(site: Site, holder: Started) -> None:
    import httpx

    scheduler = Scheduler(site)
    deadline = time.monotonic() + START_SECONDS
    waiting: dict[str, Callable[[], bool]] = {
        "MLflow": lambda: httpx.get(f"{site.mlflow_url}/health", timeout=5.0).status_code == 200,
        "Airflow": scheduler.healthy,
        "its DAGs": lambda: "evolve_architecture" in scheduler.dags(),
    }
    if site.router_port:
        waiting["the router"] = lambda: httpx.get(f"{site.router_url}/healthz", timeout=5.0).status_code == 200
    if site.prometheus_port:
        waiting["Prometheus"] = lambda: httpx.get(f"{site.prometheus_url}/-/ready", timeout=5.0).status_code == 200
        waiting["Alertmanager"] = lambda: httpx.get(f"{site.alertmanager_url}/-/ready", timeout=5.0).status_code == 200
    while waiting:
        holder = _remember(site, holder)
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


def _remember(site: Site, holder: Started) -> Started:
    """Write down what :func:`down` is to end, with the services that there are by now."""
    holder = holder.of_now()
    temporary = _file(site).with_name("up.json.new")
    temporary.write_text(json.dumps(asdict(holder)), encoding="utf-8")
    temporary.replace(_file(site))
    return holder


@contextmanager
def _starting(site: Site, say: Callable[[str], None]) -> Iterator[None]:
    """Keep others from starting the services of this site meanwhile."""
    make_private(site.home)
    with (site.home / "up.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("They are being started already; waiting for that ...")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _file(site: Site) -> Path:
    return site.home / "up.json"


def _began(process_id: int, created: float) -> bool | None:
    """Tell whether the process of an id is the one that began at ``created``; None where there is none."""
    try:
        process = psutil.Process(process_id)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return bool(abs(process.create_time() - created) < SAME_SECONDS)
    except psutil.NoSuchProcess:
        return None


def _require_free(port: int, name: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ServiceError(
                f"Port {port} is taken: {error.strerror}.",
                remedy=f"Set {name} to a free one, or end what listens there.",
            ) from error
