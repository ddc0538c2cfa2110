"""Every alert fires when it should, and not below its floor of traffic: asked of Prometheus' own rule tester."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
RULES = PROJECT / "deploy" / "prometheus" / "rules"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None and os.environ.get("EVODIFF_REQUIRE_SERVERS") != "1",
    reason="promtool is not installed",
)


@dataclass(frozen=True)
class Case:
    """Samples a minute by series, and whether an alert fires ``at`` minutes after the first, with these labels."""

    why: str
    alert: str
    series: dict[str, str]
    at: int
    fires: dict[str, str] | None


def requests(outcome: str, per_minute: float, arm: str = "stable") -> dict[str, str]:
    return {f'evodiff_requests_total{{arm="{arm}",outcome="{outcome}"}}': f"0+{per_minute}x60"}


def durations(seconds: float, per_minute: float, arm: str = "stable") -> dict[str, str]:
    """Requests that all took a little less than ``seconds``, one of the bounds of the histogram."""
    bounds = [0.1, 0.25, 0.5, 1.0, 2.5]
    return {
        f'evodiff_request_duration_seconds_bucket{{arm="{arm}",le="{bound}"}}': f"0+{per_minute}x60"
        if float(bound) >= seconds
        else "0x60"
        for bound in [*bounds, "+Inf"]
    }


def calls(before: float, now: float, per_minute: int, arm: str = "stable", batch: int = 8) -> dict[str, str]:
    """Three hours of denoiser calls that take ``before`` seconds each, then half an hour of ``now``."""
    labels, minutes = f'{{arm="{arm}",batch="{batch}"}}', 180
    total = f"0+{before * per_minute}x{minutes} {before * per_minute * minutes}+{now * per_minute}x60"
    return {
        f"evodiff_denoiser_call_seconds_sum{labels}": total,
        f"evodiff_denoiser_call_seconds_count{labels}": f"0+{per_minute}x300",
    }


def ratings(before: float, now: float, per_hour: float) -> dict[str, str]:
    a_minute, minutes = per_hour / 60, 180
    labels = '{arm="stable"}'
    total = f"0+{before * a_minute}x{minutes} {before * a_minute * minutes}+{now * a_minute}x90"
    return {
        f"evodiff_rating_sum{labels}": total,
        f"evodiff_rating_count{labels}": f"0+{a_minute}x300",
    }


def kid(online: float, smoke: float, images: int) -> dict[str, str]:
    return {
        'evodiff_online_kid{arm="stable"}': f"{online}x60",
        'evodiff_smoke_test_kid{arm="stable"}': f"{smoke}x60",
        'evodiff_online_kid_images{arm="stable"}': f"{images}x60",
    }


STABLE, CANARY = {"arm": "stable"}, {"arm": "canary"}
LIMIT = {"evodiff_latency_limit_seconds": "0.5x60"}
IN_PROGRESS = {'evodiff_search_in_progress{experiment="a"}': "1x600"}
PROGRESS = "evodiff_search_last_progress_timestamp_seconds"
OLDEST = "evodiff_outbox_oldest_note_timestamp_seconds"
PAGE, TICKET = {"severity": "page"}, {"severity": "ticket"}

CASES = [
    Case(
        "slow",
        "LatencyOverLimit",
        {**LIMIT, **requests("ok", 20), **durations(1.0, 20)},
        20,
        {**STABLE, **PAGE, "degraded": "latency"},
    ),
    Case(
        "a slow canary is named",
        "LatencyOverLimit",
        {**LIMIT, **requests("ok", 20, "canary"), **durations(1.0, 20, "canary")},
        20,
        {**CANARY, **PAGE, "degraded": "latency"},
    ),
    Case(
        "it outlasts the window of the alert that it inhibits",
        "LatencyOverLimit",
        {
            "evodiff_latency_limit_seconds": "0.5x60",
            **requests("ok", 20),
            'evodiff_request_duration_seconds_bucket{arm="stable",le="0.25"}': "0x20 0+20x40",
            'evodiff_request_duration_seconds_bucket{arm="stable",le="1.0"}': "0+20x60",
            'evodiff_request_duration_seconds_bucket{arm="stable",le="+Inf"}': "0+20x60",
        },
        33,
        {**STABLE, **PAGE, "degraded": "latency"},
    ),
    Case(
        "it is over",
        "LatencyOverLimit",
        {
            "evodiff_latency_limit_seconds": "0.5x60",
            **requests("ok", 20),
            'evodiff_request_duration_seconds_bucket{arm="stable",le="0.25"}': "0x20 0+20x40",
            'evodiff_request_duration_seconds_bucket{arm="stable",le="1.0"}': "0+20x60",
            'evodiff_request_duration_seconds_bucket{arm="stable",le="+Inf"}': "0+20x60",
        },
        45,
        None,
    ),
    Case("few requests", "LatencyOverLimit", {**LIMIT, **requests("ok", 5), **durations(1.0, 5)}, 20, None),
    Case(
        "many requests, but of patient clients",
        "LatencyOverLimit",
        {**LIMIT, **requests("ok", 20), **durations(1.0, 5)},
        20,
        None,
    ),
    Case("fast", "LatencyOverLimit", {**LIMIT, **requests("ok", 20), **durations(0.25, 20)}, 20, None),
    Case(
        "no limit is set",
        "LatencyOverLimit",
        {"evodiff_latency_limit_seconds": "0x60", **requests("ok", 20), **durations(2.5, 20)},
        20,
        None,
    ),
    Case(
        "twice as slow as the day before",
        "LatencyDegraded",
        calls(0.02, 0.04, 20),
        215,
        {**STABLE, **TICKET, "degraded": "latency"},
    ),
    Case(
        "at all batches at once, which is one alert",
        "LatencyDegraded",
        {**calls(0.02, 0.04, 20), **calls(0.01, 0.03, 20, batch=1)},
        215,
        {**STABLE, **TICKET, "degraded": "latency"},
    ),
    Case(
        "one batch of two",
        "LatencyDegraded",
        {**calls(0.02, 0.02, 20), **calls(0.01, 0.02, 20, batch=1)},
        215,
        {**STABLE, **TICKET, "degraded": "latency"},
    ),
    Case("a tenth slower", "LatencyDegraded", calls(0.02, 0.022, 20), 215, None),
    Case("few calls", "LatencyDegraded", calls(0.02, 0.04, 5), 215, None),
    Case("no day before", "LatencyDegraded", calls(0.02, 0.04, 20), 40, None),
    Case("one in ten fails", "ErrorRatioHigh", {**requests("ok", 18), **requests("failed", 2)}, 15, {**STABLE, **PAGE}),
    Case("one in a hundred fails", "ErrorRatioHigh", {**requests("ok", 198), **requests("failed", 2)}, 15, None),
    Case("few requests", "ErrorRatioHigh", {**requests("ok", 4), **requests("failed", 3)}, 15, None),
    Case(
        "what clients cause is no error", "ErrorRatioHigh", {**requests("ok", 20), **requests("refused", 50)}, 15, None
    ),
    Case(
        "blank and NaN count together",
        "ImagesBroken",
        {**requests("ok", 5), **requests("blank", 0.2), **requests("not_finite", 0.2)},
        20,
        {**STABLE, **PAGE, "degraded": "quality"},
    ),
    Case("one image", "ImagesBroken", {**requests("ok", 5), **requests("blank", 0.05)}, 20, None),
    Case("few requests", "ImagesBroken", {**requests("ok", 0.5), **requests("blank", 0.3)}, 20, None),
    Case("worse than tested", "QualityDropped", kid(0.06, 0.02, 600), 40, {**STABLE, **TICKET, "degraded": "quality"}),
    Case("a KID below 0 is no ratio", "QualityDropped", kid(0.001, -0.002, 600), 40, None),
    Case("few images", "QualityDropped", kid(0.06, 0.02, 100), 40, None),
    Case("a point less", "RatingDropped", ratings(4.2, 3.2, 60), 255, {**STABLE, **TICKET, "degraded": "rating"}),
    Case("as before", "RatingDropped", ratings(4.2, 4.1, 60), 255, None),
    Case("few ratings", "RatingDropped", ratings(4.2, 2.0, 12), 255, None),
    Case("dead", "WorkerDown", {'evodiff_worker_up{arm="stable"}': "1x5 0x20"}, 10, {**STABLE, **PAGE}),
    Case("begun again at once", "WorkerDown", {'evodiff_worker_up{arm="stable"}': "1x5 0 1x20"}, 10, None),
    Case(
        "nothing moves",
        "GenerationStalled",
        {**IN_PROGRESS, f'{PROGRESS}{{experiment="a"}}': "60x600"},
        75,
        {"experiment": "a", **TICKET},
    ),
    Case("it moves", "GenerationStalled", {**IN_PROGRESS, f'{PROGRESS}{{experiment="a"}}': "0+60x600"}, 75, None),
    Case(
        "a search at rest",
        "GenerationStalled",
        {'evodiff_search_in_progress{experiment="a"}': "0x600", f'{PROGRESS}{{experiment="a"}}': "60x600"},
        75,
        None,
    ),
    Case(
        "six hours",
        "TrackingBehind",
        {'evodiff_outbox_notes{experiment="a"}': "2x600", f'{OLDEST}{{experiment="a"}}': "60x600"},
        380,
        {"experiment": "a", **TICKET},
    ),
    Case(
        "an hour",
        "TrackingBehind",
        {'evodiff_outbox_notes{experiment="a"}': "2x600", f'{OLDEST}{{experiment="a"}}': "60x600"},
        60,
        None,
    ),
    Case(
        "a target is down",
        "ScrapeSilent",
        {'up{job="evodiff-router",instance="x:1"}': "1x5 0x20"},
        10,
        {"job": "evodiff-router", "instance": "x:1", **PAGE},
    ),
    Case("one scrape was lost", "ScrapeSilent", {'up{job="evodiff-router",instance="x:1"}': "1x5 0 1x20"}, 10, None),
    Case(
        "no poll",
        "AlertWatcherSilent",
        {'evodiff_alert_watcher_last_poll_timestamp_seconds{job="evodiff-runs"}': "60x60"},
        20,
        {"job": "evodiff-runs", **TICKET},
    ),
    Case(
        "it polls",
        "AlertWatcherSilent",
        {'evodiff_alert_watcher_last_poll_timestamp_seconds{job="evodiff-runs"}': "0+60x60"},
        20,
        None,
    ),
    Case("it was never set up", "AlertWatcherSilent", {}, 20, None),
    Case(
        "it never asked, and the exporter is started again every three minutes",
        "AlertWatcherSilent",
        {'evodiff_alert_watcher_last_poll_timestamp_seconds{job="evodiff-runs"}': "0 0 " + "stale _ 0 0 " * 15},
        20,
        {"job": "evodiff-runs", **TICKET},
    ),
    Case(
        "it has never asked so far, and what starts it is starting itself",
        "AlertWatcherSilent",
        {'evodiff_alert_watcher_last_poll_timestamp_seconds{job="evodiff-runs"}': "0x4 300+60x60"},
        20,
        None,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.alert}: {case.why}" for case in CASES])
def test_an_alert_fires_when_it_should_and_not_below_its_floor(case: Case, tmp_path: Path) -> None:
    expected = []
    if case.fires is not None:
        labels = {"alertname": case.alert, "alertstate": "firing", **case.fires}
        text = ",".join(f'{name}="{value}"' for name, value in labels.items())
        expected = [{"labels": f"ALERTS{{{text}}}", "value": 1}]
    query = {"expr": f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}', "eval_time": f"{case.at}m"}
    ask_promtool(tmp_path, case.series, {"promql_expr_test": [{**query, "exp_samples": expected}]})


# The tester's clock begins at 0, so that a sample of 0 is not long ago there: one far below it is.
@pytest.mark.parametrize(("polled", "said"), [(-2_000_000_000, "never asked"), (60, "not asked for 19m 0s")])
def test_the_watcher_that_is_silent_is_said_to_have_never_asked_or_for_how_long_not(
    tmp_path: Path, polled: int, said: str
) -> None:
    alert = "AlertWatcherSilent"
    series = {'evodiff_alert_watcher_last_poll_timestamp_seconds{job="evodiff-runs"}': f"{polled}x60"}
    (action,) = (rule["annotations"]["action"] for rule in rules() if rule.get("alert") == alert)
    summary = f"The watcher of alerts has {said}; no alert starts a generation"
    expected = {
        "exp_labels": {"job": "evodiff-runs", **TICKET},
        "exp_annotations": {"summary": summary, "action": action},
    }
    asked = {"eval_time": "20m", "alertname": alert, "exp_alerts": [expected]}
    ask_promtool(tmp_path, series, {"alert_rule_test": [asked]})


def ask_promtool(folder: Path, series: dict[str, str], expected: dict[str, Any]) -> None:
    """Have the rule tester look whether what is expected follows from the series by our rules."""
    content = {
        "rule_files": [str(file) for file in sorted(RULES.glob("*.yml"))],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                **expected,
            }
        ],
    }
    file = folder / "test.yml"
    file.write_text(json.dumps(content))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_and_to_keep_quiet() -> None:
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert {case.alert for case in CASES if case.fires is not None} == alerts
    assert {case.alert for case in CASES if case.fires is None} == alerts


def test_alerts_say_how_urgent_they_are_and_what_to_do_and_hold_no_value_in_labels() -> None:
    for rule in (rule for rule in rules() if "alert" in rule):
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"]
        assert not re.search(r"\$value", json.dumps(rule["labels"]))


def test_prometheus_itself_finds_no_fault_with_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", *sorted(RULES.glob("*.yml"))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_alertmanager_itself_finds_no_fault_with_its_routes() -> None:
    file = PROJECT / "deploy" / "alertmanager" / "alertmanager.yml"
    done = subprocess.run(["amtool", "check-config", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for labels, receiver in (("severity=page", "pages"), ("severity=ticket", "tickets")):
        routed = subprocess.run(
            ["amtool", "config", "routes", "test", f"--config.file={file}", labels], capture_output=True, text=True
        )
        assert routed.stdout.strip() == receiver


def rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load(file.read_text()) for file in sorted(RULES.glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]
