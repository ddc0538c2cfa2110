"""Rules in a hurry: lengths of time are divided, and nothing else is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from evodiff.local.environment import Site, service_environment
from evodiff.local.impatience import hurried, hurry_prometheus
from evodiff.local.monitoring import write_prometheus_config

PROJECT = Path(__file__).resolve().parents[2]
RULES = sorted((PROJECT / "deploy" / "prometheus" / "rules").glob("*.yml"))


def test_lengths_of_time_are_divided_and_thresholds_stay() -> None:
    rule = {
        "alert": "Slow",
        "expr": "rate(x[10m]) > 1.3 * avg_over_time(y:mean10m[1d] offset 1h) and z{le='5m'} > 30",
        "for": "10m",
        "keep_firing_for": "2h",
        "labels": {"severity": "page"},
    }
    (group,) = hurried({"groups": [{"name": "a", "rules": [rule]}]}, 60)["groups"]
    assert group["rules"] == [
        {
            **rule,
            "expr": "rate(x[10s]) > 1.3 * avg_over_time(y:mean10m[1440s] offset 60s) and z{le='5m'} > 30",
            "for": "10s",
            "keep_firing_for": "120s",
        }
    ]


@pytest.mark.parametrize("file", RULES, ids=[file.stem for file in RULES])
def test_the_rules_that_are_deployed_lose_nothing_but_time(file: Path) -> None:
    rules = yaml.safe_load(file.read_text())
    faster = hurried(rules, 30)

    def timeless(content: object) -> str:
        return re.sub(r"(\[|offset |'(keep_firing_)?for': ')\d+[smhd]", r"\1", str(content))

    assert timeless(faster) == timeless(rules)
    assert str(faster) != str(rules)
    windows = re.findall(r"\[(\d+)([smhd])\]", str(faster))
    assert all(unit == "s" for _, unit in windows)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_finds_no_fault_with_the_hurried_configuration(tmp_path: Path) -> None:
    site = Site(tmp_path, PROJECT, 1, 2, 8090, 9108, 9090, 9093)
    write_prometheus_config(site, service_environment(site, {}))
    patient = (tmp_path / "prometheus" / "prometheus.yml").read_text()
    hurry_prometheus(site, 1)
    assert (tmp_path / "prometheus" / "prometheus.yml").read_text() == patient

    hurry_prometheus(site, 30)
    file = tmp_path / "prometheus" / "prometheus.yml"
    done = subprocess.run(["promtool", "check", "config", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(file.read_text())
    assert config["global"]["evaluation_interval"] == "1s"
    assert config["scrape_configs"] == yaml.safe_load(patient)["scrape_configs"]
    assert len(list((tmp_path / "prometheus" / "rules").glob("*.yml"))) == len(RULES)
