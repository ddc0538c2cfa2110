"""Numbers and sentences that a person reads."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_examples import plain_view

from evodiff.reporting import CandidateView, ObjectiveView
from evodiff.reporting.headline import difference
from evodiff.reporting.markup import element, embedded_json, escape
from evodiff.reporting.notation import count, enumeration, number, title, with_error
from evodiff.reporting.statistics import noise_rows, operator_rows

KID = ObjectiveView("kid")
LATENCY = ObjectiveView("latency_ms", unit="ms")
ACCURACY = ObjectiveView("accuracy", maximise=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0123456, "0.0123"),
        (1.5, "1.50"),
        (1234.5, "1,234"),
        (-0.002, "−0.00200"),
        (1.5e9, "1.50e+09"),
        (2e-9, "2.00e-09"),
        (math.nan, "–"),
        (math.inf, "–"),
        (None, "–"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.01234, 0.0021, "0.0123 ± 0.0021"),
        (-0.0012, 0.0021, "−0.0012 ± 0.0021"),
        (12.3456, 0.5, "12.35 ± 0.50"),
        (2.0, None, "2.00"),
        (2.0, 0.0, "2.00"),
        (math.nan, 0.1, "–"),
    ],
)
def test_errors_decide_how_many_digits_are_shown(value: float, error: float | None, text: str) -> None:
    assert with_error(value, error) == text


def test_counts_titles_and_lists_read_well() -> None:
    assert count(178_000) == "178\u00a0k"
    assert count(12) == "12"
    assert title("latency_ms") == "Latency"
    assert title("frechet_distance") == "Frechet distance"
    assert enumeration(["a", "b", "c"]) == "a, b and c"
    assert enumeration([]) == ""


@pytest.mark.parametrize(
    ("objective", "ours", "theirs", "error", "text"),
    [
        (LATENCY, 1.0, 2.0, 0.0, "2.0 times less latency"),
        (LATENCY, 1.5, 2.0, 0.0, "25\u00a0% less latency"),
        (LATENCY, 5.0, 2.0, 0.0, "2.5 times more latency"),
        (LATENCY, 2.0, 2.0, 0.0, "the same latency"),
        (KID, 0.01, 0.03, 0.001, "KID lower by 0.020 (better; standard error 0.0010)"),
        (KID, 0.03, 0.01, 0.001, "KID higher by 0.020 (worse; standard error 0.0010)"),
        (KID, 0.01, 0.011, 0.001, "KID lower by 0.0010 (no more than noise; standard error 0.0010)"),
        (KID, -0.001, 0.001, 0.0, "KID lower by 0.0020"),
        (ACCURACY, 0.9, 0.8, 0.01, "accuracy higher by 0.10 (better; standard error 0.010)"),
    ],
)
def test_differences_are_ratios_only_where_ratios_mean_something(
    objective: ObjectiveView, ours: float, theirs: float, error: float, text: str
) -> None:
    assert difference({objective.name: ours}, {objective.name: theirs}, objective, error) == text


def test_the_smallest_difference_is_two_standard_errors_of_a_difference() -> None:
    rows = [
        {"objectives": {"kid": value, "latency_ms": 1.0}, "standard_errors": {"kid": 0.01}, "on_front": True}
        for value in (0.1, 0.4)
    ]
    kid, latency = noise_rows(plain_view([KID, LATENCY], rows))
    assert kid.smallest_difference == pytest.approx(2 * math.sqrt(2) * 0.01)
    assert kid.spread == pytest.approx(0.3)
    assert latency.smallest_difference is None


def test_a_front_of_one_has_no_spread() -> None:
    row = {"objectives": {"kid": 0.1}, "standard_errors": {"kid": 0.01}, "on_front": True}
    (kid,) = noise_rows(plain_view([KID], [row]))
    assert kid.spread is None


def test_operators_are_credited_for_their_children() -> None:
    family = [
        CandidateView("p", 0, fitness_score=0.5, objectives={"kid": 1.0}),
        CandidateView(
            "a", 1, "norm", ("p",), {"kid": 1.0}, fitness_score=0.7, on_front=True, survivor_generations=(1,)
        ),
        CandidateView("b", 1, "norm", ("p",), {"kid": 1.0}, fitness_score=0.2),
        CandidateView("c", 1, "crossover+norm", ("p", "x"), failure="diverged"),
    ]
    norm, crossover = operator_rows(family)
    assert (norm.operator, norm.children, norm.failed, norm.survived, norm.on_front) == ("norm", 3, 1, 1, 1)
    assert (norm.compared, norm.improved) == (2, 0.5)
    assert norm.mean_gain == pytest.approx(-0.05)
    assert (crossover.operator, crossover.children, crossover.improved) == ("crossover", 1, None)


@given(st.text())
def test_escaped_text_holds_nothing_active(text: str) -> None:
    escaped = escape(text)
    assert not set("<>\"'") & set(escaped)
    assert "</script" not in embedded_json({"text": text, text: [text]}).lower()


def test_attributes_are_escaped_and_named_as_html_names_them() -> None:
    made = element("td", "<", class_="number", data_key='"', hidden=False, open=True)
    assert made == '<td class="number" data-key="&quot;" open>&lt;</td>'
