"""Limits on objectives."""

from __future__ import annotations

import pytest

from evodiff.errors import SettingsError
from evodiff.pipeline.preference import parse_preference

NAMES = ("kid", "latency_ms")


def test_each_comparison_means_what_it_says() -> None:
    values = {"kid": 0.5, "latency_ms": 2.0}
    for text, holds in (("latency_ms<2", False), ("latency_ms<=2", True), ("kid>.4", True), ("kid >= 0.6", False)):
        (limit,) = parse_preference(text, NAMES)
        assert limit.holds(values) is holds, text


def test_several_limits_come_in_order_and_none_is_none() -> None:
    assert [limit.name for limit in parse_preference("kid<1, latency_ms<2e1", NAMES)] == ["kid", "latency_ms"]
    assert parse_preference(None, NAMES) == ()
    assert parse_preference(" ", NAMES) == ()


@pytest.mark.parametrize("text", ["kid", "kid<", "kid<fast", "kid=1", "<2", "kid<1,,latency_ms<2"])
def test_what_is_no_limit_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match="latency_ms<2"):
        parse_preference(text, NAMES)


def test_an_unknown_objective_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="latency_ms"):
        parse_preference("latency<2", NAMES)
