"""Prometheus in a hurry: the rules as they are deployed, with every length of time divided by one number.

A story of ten minutes cannot wait for a mean over a day. What is divided is what is a length of time: windows such as
``[10m]``, offsets, and how long a condition has to hold (``for``) or is held (``keep_firing_for``); at least a second
each. Expressions, thresholds, floors of traffic and labels stay as they are, so that an alert means the same: a floor
of 100 calls in ten minutes is one of 100 calls in twenty seconds with ``hurry`` 30, which needs more traffic, not less.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import yaml

from evodiff.engine.storage import FolderStorage

if TYPE_CHECKING:
    from pathlib import Path

    from evodiff.local.environment import Site

SCRAPE_SECONDS: Final = 1
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LENGTH: Final = re.compile(r"(?P<before>\[|\boffset )(?P<number>\d+)(?P<unit>[smhd])(?P<after>\]|\b)")
_HELD: Final = ("for", "keep_firing_for")


def hurry_prometheus(site: Site, hurry: float) -> None:
    """Have a site's Prometheus look every second and judge by rules ``hurry`` times as fast; 1 changes nothing.

    The configuration is the one that was written for the site, changed in its place; the rules are a copy beside it.
    """
    if hurry == 1:
        return
    storage = FolderStorage(site.home)
    file = site.home / "prometheus" / "prometheus.yml"
    config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    for rules in _rule_files(site.project):
        content = hurried(yaml.safe_load(rules.read_text(encoding="utf-8")), hurry)
        storage.replace(f"prometheus/rules/{rules.name}", yaml.safe_dump(content, sort_keys=False).encode())
    config["rule_files"] = [str(file.parent / "rules" / "*.yml")]
    every = f"{SCRAPE_SECONDS}s"
    config["global"] |= {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
    storage.replace("prometheus/prometheus.yml", yaml.safe_dump(config, sort_keys=False).encode())


def hurried(rules: dict[str, Any], hurry: float) -> dict[str, Any]:
    """Return a file of rules, as YAML gives it, with all lengths of time divided by ``hurry``."""
    return {**rules, "groups": [_group(group, hurry) for group in rules["groups"]]}


def _group(group: dict[str, Any], hurry: float) -> dict[str, Any]:
    return {**group, "rules": [_rule(rule, hurry) for rule in group["rules"]]}


def _rule(rule: dict[str, Any], hurry: float) -> dict[str, Any]:
    def shorter(found: re.Match[str]) -> str:
        return f"{found['before']}{_shortened(found['number'] + found['unit'], hurry)}{found['after']}"

    changed: dict[str, Any] = {name: _shortened(rule[name], hurry) for name in _HELD if name in rule}
    return {**rule, "expr": _LENGTH.sub(shorter, rule["expr"]), **changed}


def _shortened(length: str, hurry: float) -> str:
    return f"{max(1, round(int(length[:-1]) * _SECONDS[length[-1]] / hurry))}s"


def _rule_files(project: Path) -> list[Path]:
    return sorted((project / "deploy" / "prometheus" / "rules").glob("*.yml"))
