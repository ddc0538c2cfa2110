"""The gate of feedback: the records that make sense go on, the others are named and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evodiff.data.gate_result import GateResult
from evodiff.deployment import DeploymentFeedback
from evodiff.deployment.feedback.gate import accepted_feedback, check_feedback
from evodiff.errors import GateFailed

KNOWN = {"run/0123456789abcdef", "run/fedcba9876543210"}


def record(**changes: Any) -> str:
    good = DeploymentFeedback("run/0123456789abcdef", (4, 5), {"latency_p99_ms": 8.5}, True, ("slow once",))
    return json.dumps(good.to_json() | changes)


GOOD = [record(), record(architecture_id="run/fedcba9876543210"), json.dumps({"architecture_id": min(KNOWN)})]

BAD = {
    "{": "readable records",
    "[1]": "readable records",
    "{}": "readable records",
    record(colour="blue"): "readable records",
    record(deployment_success="yes"): "readable records",
    record(error_logs=[1]): "readable records",
    "[" * 100_000: "readable records",
    record(error_logs=["half a pair \ud800"]): "readable records",
    "{} \udc80": "readable records",  # as a file that is no UTF-8 can be read
    record(architecture_id="run/00000000000000ff"): "known architectures",
    record(architecture_id="../../etc/passwd"): "known architectures",
    record(user_ratings=[5, 6]): "ratings on the scale",
    record(user_ratings=[0]): "ratings on the scale",
    record(user_ratings=[10**400]): "ratings are numbers",
    record(user_ratings=["five"]): "ratings are numbers",
    record(user_ratings=[float("nan")]): "ratings are numbers",
    record(performance_metrics={"latency_p99_ms": float("inf")}): "finite metrics",
    record(performance_metrics={"throughput": -(10**400)}): "finite metrics",
    record(performance_metrics={"throughput": "high"}): "finite metrics",
    record(performance_metrics={"latency_p99_ms": -1}): "possible metrics",
}


def test_records_that_make_sense_pass(tmp_path: Path) -> None:
    result = check_feedback(GOOD, known=KNOWN, out=tmp_path)
    assert result.passed
    assert accepted_feedback(result.folder) == [DeploymentFeedback.from_json(json.loads(line)) for line in GOOD]


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85"], ids=ascii)
def test_a_log_with_an_unusual_end_of_line_stays_one_record(end: str, tmp_path: Path) -> None:
    line = json.dumps({"architecture_id": min(KNOWN), "error_logs": [f"one{end}two"]}, ensure_ascii=False)
    result = check_feedback([f"{line}\n", GOOD[0]], known=KNOWN, out=tmp_path)  # a file's lines keep their ends
    assert [item.error_logs for item in accepted_feedback(result.folder)] == [(f"one{end}two",), ("slow once",)]


def test_no_records_pass(tmp_path: Path) -> None:
    assert accepted_feedback(check_feedback([], known=KNOWN, out=tmp_path).folder) == []


@pytest.mark.parametrize(("line", "name"), BAD.items(), ids=range(len(BAD)))
def test_each_way_of_making_no_sense_is_named(line: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(GateFailed, match=name) as caught:
        check_feedback([GOOD[0], line], known=KNOWN, out=tmp_path)
    (failed,) = GateResult.load(caught.value.folder).failed
    assert failed.expectation.name == name
    assert failed.examples[0]["line"] == 2


def test_what_makes_sense_is_accepted_and_the_rest_kept_as_it_came(tmp_path: Path) -> None:
    lines = [line for pair in zip(BAD, GOOD * len(BAD), strict=False) for line in pair]
    with pytest.raises(GateFailed) as caught:
        check_feedback(lines, known=KNOWN, out=tmp_path)
    assert len(accepted_feedback(caught.value.folder)) == len(BAD)
    rejected = caught.value.folder / "quarantine" / "rejected.jsonl"
    assert rejected.read_text().splitlines() == [line.replace("\udc80", r"\udc80") for line in BAD]
