"""Where the services of one machine live and listen: everything on loopback, everything below one folder."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import sys
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOPBACK = "127.0.0.1"
PORTS = {
    "EVODIFF_AIRFLOW_PORT": 8080,
    "EVODIFF_MLFLOW_PORT": 5000,
    "EVODIFF_SERVE_PORT": 8090,
    "EVODIFF_METRICS_PORT": 9108,
    "EVODIFF_PROMETHEUS_PORT": 9090,
    "EVODIFF_ALERTMANAGER_PORT": 9093,
}
_NEEDED = ("EVODIFF_AIRFLOW_PORT", "EVODIFF_MLFLOW_PORT")


@dataclass(frozen=True)
class Site:
    """``home`` is for what the services write, ``project`` holds dags/, plugins/, the Procfile, runs/ and .archive/.

    A port of 0 leaves its service out, as Prometheus and Alertmanager are where they are not installed.
    """

    home: Path
    project: Path
    airflow_port: int
    mlflow_port: int
    router_port: int = 0
    metrics_port: int = 0
    prometheus_port: int = 0
    alertmanager_port: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, project: Path | None = None) -> Site:
        """Read ``EVODIFF_HOME`` (by default ``.evodiff``) and the ports.

        Raises:
            SettingsError: a port is none, or the project has no DAGs.
        """
        folder = (project or Path.cwd()).resolve()
        if not (folder / "dags" / "evolve_architecture.py").exists():
            raise SettingsError(
                f"Expected dags/ and a Procfile in {folder}, found none.",
                remedy="Call it in a checkout of evodiff.",
            )
        home = Path(environment.get("EVODIFF_HOME") or folder / ".evodiff").resolve()
        return cls(home, folder, *(_port(environment, name) for name in PORTS))

    @property
    def airflow_url(self) -> str:
        """Address of Airflow's pages."""
        return f"http://{LOOPBACK}:{self.airflow_port}"

    @property
    def mlflow_url(self) -> str:
        """Address of MLflow's pages."""
        return f"http://{LOOPBACK}:{self.mlflow_port}"

    @property
    def router_url(self) -> str:
        """Address of the router."""
        return f"http://{LOOPBACK}:{self.router_port}"

    @property
    def prometheus_url(self) -> str:
        """Address of Prometheus' pages."""
        return f"http://{LOOPBACK}:{self.prometheus_port}"

    @property
    def alertmanager_url(self) -> str:
        """Address of Alertmanager's pages."""
        return f"http://{LOOPBACK}:{self.alertmanager_port}"

    @property
    def ports(self) -> dict[str, int]:
        """The ports by their variables."""
        ports = (self.airflow_port, self.mlflow_port, self.router_port)
        return dict(zip(PORTS, (*ports, self.metrics_port, self.prometheus_port, self.alertmanager_port), strict=True))

    @property
    def passwords(self) -> Path:
        """File with the login that Airflow made up, ``{"admin": PASSWORD}``."""
        return self.home / "airflow" / "passwords.json"

    @property
    def log(self) -> Path:
        """What the services print."""
        return self.home / "services.log"


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]


def service_environment(site: Site, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of the services; what ``environment`` says of any of these variables comes first.

    The ports and the state folder alone are those of the site, which read them: an empty variable means the default.
    """
    airflow, mlflow = site.home / "airflow", site.home / "mlflow"
    keys = _keys(site)
    defaults = {
        "AIRFLOW_HOME": str(airflow),
        "AIRFLOW__CORE__DAGS_FOLDER": str(site.project / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(site.project / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(os.cpu_count() or 1),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(site.passwords),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{site.airflow_url}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": keys["fernet"],
        "AIRFLOW__API__BASE_URL": site.airflow_url,
        "AIRFLOW__API__SECRET_KEY": keys["api"],
        "AIRFLOW__API_AUTH__JWT_SECRET": keys["jwt"],
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{airflow / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(airflow / "logs"),
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__TRIGGERER__CAPACITY": "100",
        "MLFLOW_TRACKING_URI": site.mlflow_url,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{mlflow / 'mlflow.db'}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(mlflow / "artifacts"),
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "OMP_NUM_THREADS": "1",
        "EVODIFF_SERVE_SECRETS_DIR": str(site.home / "serve"),
        "EVODIFF_SERVE_GALLERIES": str(site.home / "galleries"),
    }
    if site.alertmanager_port:
        defaults["AIRFLOW_CONN_EVODIFF_ALERTMANAGER"] = site.alertmanager_url
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    ports = {name: str(port) for name, port in site.ports.items()}
    own = {**ports, "EVODIFF_HOME": str(site.home), "PATH": path}
    return {**defaults, **environment, **paths(site, environment), **own}


def paths(site: Site, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that name where evodiff's own things are, as absolute paths, and the tracking server."""
    defaults = {
        "EVODIFF_RUNS_DIR": "runs",
        "EVODIFF_ARCHIVE": ".archive",
        "EVODIFF_RELEASE_FILE": "runs/release.json",
        "EVODIFF_FEEDBACK_STORE": "runs/feedback.sqlite",
    }
    places = {name: str(site.project / environment.get(name, default)) for name, default in defaults.items()}
    return {"EVODIFF_TRACKING_URI": environment.get("EVODIFF_TRACKING_URI", site.mlflow_url), **places}


def known_environment(environment: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return the environment of the services that were ever started here, ``environment`` itself where none were."""
    if "AIRFLOW_HOME" in environment:
        return environment
    try:
        site = Site.from_environment(environment)
    except SettingsError:
        return environment
    return service_environment(site, environment) if (site.home / "airflow").is_dir() else environment


def make_private(folder: Path) -> None:
    """Make a folder that its owner alone can look into: Airflow writes its login into a log and a file of its own."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def _port(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name) or str(PORTS[name])
    least = 1 if name in _NEEDED else 0
    if not text.isdigit() or not least <= int(text) <= 65535:
        raise SettingsError(f"{name}: expected a port from {least} to 65535, found {text!r}.", remedy="Set another.")
    return int(text)


def _keys(site: Site) -> dict[str, str]:
    """Return the secrets by which the services know each other, made once, readable by the owner alone."""
    make_private(site.home)
    file = site.home / "keys.json"
    if not file.exists():
        keys = {
            "fernet": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "jwt": secrets.token_hex(32),
            "api": secrets.token_hex(32),
        }
        temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(keys, stream)
        try:
            os.link(temporary, file)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    content: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return content
