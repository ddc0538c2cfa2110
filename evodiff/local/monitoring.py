"""Prometheus and Alertmanager of one machine: whether they are here, what they read, and where they keep it."""

from __future__ import annotations

import shutil
from string import Template
from typing import TYPE_CHECKING, Any, Final

from evodiff.engine.storage import FolderStorage
from evodiff.errors import SettingsError
from evodiff.local.environment import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.local.environment import Site

# Debian's package names the program otherwise, for another project had the name first.
ALERTMANAGERS: Final = ("prometheus-alertmanager", "alertmanager")


def monitoring_programs(path: str | None = None) -> dict[str, str]:
    """Return the programs by which this machine can be watched, by the variables that name them; empty without both."""
    prometheus = shutil.which("prometheus", path=path)
    alertmanager = next((found for name in ALERTMANAGERS if (found := shutil.which(name, path=path))), None)
    if prometheus is None or alertmanager is None:
        return {}
    return {"EVODIFF_PROMETHEUS": prometheus, "EVODIFF_ALERTMANAGER": alertmanager}


def write_prometheus_config(site: Site, environment: Mapping[str, str]) -> None:
    """Fill the addresses of a site into ``deploy/prometheus/prometheus.yml``; the result is in the state folder.

    Raises:
        SettingsError: the template is not there, or names something else.
    """
    template = site.project / "deploy" / "prometheus" / "prometheus.yml"
    values: dict[str, Any] = {
        "ROUTER": f"{LOOPBACK}:{environment['EVODIFF_SERVE_PORT']}",
        "RUNS": f"{LOOPBACK}:{environment['EVODIFF_METRICS_PORT']}",
        "ALERTMANAGER": f"{LOOPBACK}:{environment['EVODIFF_ALERTMANAGER_PORT']}",
        "RULES": str(template.parent / "rules"),
    }
    try:
        text = template.read_text(encoding="utf-8")
        head, mark, body = text.partition("\nglobal:")  # the comment before it shows these names
        content = head + mark + Template(body).substitute(values)
    except (OSError, KeyError, ValueError) as error:
        raise SettingsError(
            f"{template}: expected a template with ${', $'.join(values)}, found {error}.",
            remedy="Restore it from the repository.",
        ) from error
    FolderStorage(site.home).replace("prometheus/prometheus.yml", content.encode())
