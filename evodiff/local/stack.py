"""The processes of the Procfile one by one: what a story or a test needs that ends some of them while others go on."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
from honcho.environ import parse_procfile  # type: ignore[import-untyped]  # it ships no types

from evodiff.local.environment import LOOPBACK, PORTS, Site, free_ports, service_environment
from evodiff.local.impatience import hurry_prometheus
from evodiff.local.monitoring import monitoring_programs, write_prometheus_config
from evodiff.local.scheduler import Scheduler
from evodiff.local.services import ServiceError, end_sessions, make_pools, migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

PATIENCE_SECONDS: Final = 300.0
AIRFLOW: Final = ("api-server", "scheduler", "dag-processor", "triggerer")
ALL: Final = (*AIRFLOW, "mlflow", "router", "metrics", "prometheus", "alertmanager")
ALL_BUT_ROUTER: Final = tuple(name for name in ALL if name != "router")
EVOLVE: Final = "evolve_architecture"


class Stack:
    """The services of a site, each started and ended by itself, in a session of its own.

    What they listen on, read and write is what ``evodiff up`` gives them; only ``hurry``, where it is above 1, makes
    Prometheus look and judge in seconds (:mod:`evodiff.local.impatience`). Use it as a context: nothing is left
    afterwards.

    Attributes:
        environment: that of the services.
        api: Airflow's REST API.
    """

    def __init__(self, site: Site, environment: Mapping[str, str], *, hurry: float = 1.0) -> None:
        self.site, self.hurry = site, hurry
        self.environment = service_environment(site, environment)
        self.api = Scheduler(site)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands = parse_procfile((site.project / "Procfile").read_text(encoding="utf-8")).processes
        site.home.mkdir(parents=True, exist_ok=True)

    @classmethod
    def below(cls, folder: Path, project: Path, environment: Mapping[str, str], *, hurry: float = 1.0) -> Self:
        """Return the stack of a site on free ports whose files are all below ``folder``; nothing is started.

        Raises:
            ServiceError: Prometheus and Alertmanager are not installed.
        """
        if not monitoring_programs(environment.get("PATH")):
            raise ServiceError(
                "Expected Prometheus and Alertmanager, found them not installed.",
                remedy="Install them; Debian's packages are prometheus and prometheus-alertmanager.",
            )
        site = Site(folder / "home", project, *free_ports(len(PORTS)))
        places = {
            "EVODIFF_RUNS_DIR": folder / "runs",
            "EVODIFF_ARCHIVE": folder / "archive",
            "EVODIFF_RELEASE_FILE": folder / "runs" / "release.json",
            "EVODIFF_FEEDBACK_STORE": folder / "runs" / "feedback.sqlite",
            "EVODIFF_SERVE_CACHE_DIR": folder / "serving",
        }
        return cls(site, {**environment, **{name: str(place) for name, place in places.items()}}, hurry=hurry)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_all()

    def place(self, variable: str) -> Path:
        """Return the place that a variable of the services names, such as ``EVODIFF_RUNS_DIR``."""
        return self.site.project / self.environment[variable]

    def start(self, *names: str) -> None:
        """Start processes of the Procfile; those that run already are left alone."""
        if "prometheus" in names:
            self.environment.update(monitoring_programs(self.environment["PATH"]))
            write_prometheus_config(self.site, self.environment)
            hurry_prometheus(self.site, self.hurry)
        for name in names:
            if name not in self._processes or self._processes[name].poll() is not None:
                self.end(name)  # what was started by one that has died
                self._processes[name] = self._start(name)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        with (self.site.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - a command of ours
                ["/bin/sh", "-c", f"exec {self._commands[name]}"],
                env=self.environment,
                cwd=self.site.project,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def prepare(self) -> None:
        """Bring the databases up to date."""
        migrate(self.site, self.environment)

    def wait_until_ready(self, *names: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for processes that were started to answer.

        Raises:
            ServiceError: one does not in time.
        """
        for name in names:
            if name in AIRFLOW[:1]:
                wait_for("Airflow is healthy", self.api.healthy, seconds)
                wait_for("its DAGs are known", lambda: EVOLVE in self.api.dags(), seconds)
                make_pools(self.api)
            elif name in self._health:
                wait_for(f"{name} answers", partial(_answers, self._health[name]), seconds)

    @property
    def _health(self) -> dict[str, str]:
        site = self.site
        return {
            "mlflow": f"{site.mlflow_url}/health",
            "router": f"{site.router_url}/healthz",
            "metrics": f"http://{LOOPBACK}:{site.metrics_port}/metrics",
            "prometheus": f"{site.prometheus_url}/-/ready",
            "alertmanager": f"{site.alertmanager_url}/-/ready",
        }

    def process_id(self, name: str) -> int:
        """Return the id of a process of the Procfile."""
        return self._processes[name].pid

    def end(self, *names: str) -> None:
        """End processes with everything that they started."""
        leaders = {self._processes.pop(name).pid for name in names if name in self._processes}
        if leaders:
            end_sessions(leaders)

    def end_all(self) -> None:
        """End everything."""
        self.end(*self._processes)

    def logs(self, characters: int = 3000) -> str:
        """Return the end of what each process printed."""
        files = sorted(self.site.home.glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-characters:]}" for file in files)


def wait_for(what: str, condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS, *, every: float = 0.5) -> Any:
    """Return the first true value of ``condition``.

    Raises:
        ServiceError: there is none in time; the message says ``what`` was awaited.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise ServiceError(f"Waited for this: {what}; it did not come about in {seconds:g} s.", remedy="Read logs.")
        time.sleep(every)
    return found


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
