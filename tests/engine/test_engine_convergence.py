"""Whether searches still improve: slopes and their intervals against scipy, and the words for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from evodiff.engine.convergence import TOLERANCE, TREND, diagnose
from evodiff.errors import SettingsError
from evodiff.reporting.notation import convergence_text

LAST = TREND + 1


@given(st.lists(st.integers(100, 1000).map(lambda share: share / 1000), min_size=LAST, max_size=9))
def test_the_gain_of_one_run_is_the_slope_of_least_squares_with_students_interval(curve: list[float]) -> None:
    assume(len(set(curve[-LAST:])) > 1)  # of a level line scipy knows no error
    found = diagnose([curve]).gain
    line = stats.linregress(range(LAST), curve[-LAST:])
    half = stats.t.ppf(0.975, LAST - 2) * line.stderr
    expected = np.array([line.slope, line.slope - half, line.slope + half]) / curve[-1]
    assert found is not None
    assert [found.value, found.low, found.high] == pytest.approx(expected, abs=1e-9)


def test_the_gain_of_several_runs_is_the_mean_of_their_slopes_and_lies_within_them() -> None:
    curves = [np.linspace(1 - LAST * slope, 1, LAST).tolist() for slope in (0.01, 0.02, 0.06)]
    slopes = [stats.linregress(range(LAST), curve).slope for curve in curves]
    found = diagnose(curves)
    assert found.gain is not None
    assert found.gain.value == pytest.approx(np.mean(slopes))
    # all draws out of three are the smallest with probability 1/27, which is in the tail of 2.5 % or just beyond it
    assert min(slopes) - 1e-12 <= found.gain.low < found.gain.value < found.gain.high <= max(slopes) + 1e-12
    assert diagnose(curves) == found


@pytest.mark.parametrize(
    ("curves", "verdict"),
    [
        ([[0.1, 0.2, 0.3, 0.4, 0.5]], "still improving"),
        ([[0.1, 0.5, 0.5, 0.5, 0.5, 0.5]], "converged"),
        ([[0.5, 0.5, 0.5, 0.5, 0.52]], "undecided"),
        ([[0.1, 0.2, 0.3, 0.4]], "too short"),
        ([[0.1, 0.2, 0.3, 0.4, 0.5], [0.1, 0.2]], "too short"),
        ([], "too short"),
        ([[0.0] * 6], "converged"),
        ([[0.5] * 6, [0.5] * 6], "converged"),
        ([[0.2, 0.3, 0.4, 0.5, 0.6], [0.5] * 5], "undecided"),
        ([[0.9, 0.8, 0.65, 0.55, 0.4]], "falling"),
        ([[0.9, 0.8, 0.65, 0.55, 0.4], [0.9, 0.7, 0.7, 0.6, 0.5]], "falling"),
        ([[0.9, 0.6, 0.4, 0.2, 0.0]], "falling"),
        ([[0.9, 0.9, 0.4, 0.9, 0.8]], "undecided"),
        ([[0.5, 0.5, 0.5, 0.5, 0.4998]], "converged"),
        ([[0.9, 0.8, 0.65, 0.55, 0.4], [0.5] * 5], "undecided"),
    ],
)
def test_the_verdict_is_what_the_interval_allows(curves: list[list[float]], verdict: str) -> None:
    found = diagnose(curves)
    assert found.verdict == verdict
    if found.gain is not None:
        low, high = found.gain.low, found.gain.high
        sure = {
            "still improving": low > TOLERANCE,
            "falling": high < -TOLERANCE,
            "converged": low >= -TOLERANCE and high <= TOLERANCE,
        }
        assert [name for name, holds in sure.items() if holds] == [verdict] * (verdict != "undecided")


@pytest.mark.parametrize("others", [[], [[0.5] * 6]])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_hypervolume_that_is_not_finite_is_refused_in_one_curve_as_in_several(
    others: list[list[float]], value: float
) -> None:
    with pytest.raises(SettingsError, match=f"finite hypervolume after each generation, found {value} after gen.* 2"):
        diagnose([[0.1, 0.2, value, 0.4, 0.5, 0.6], *others])


def test_the_words_hold_the_verdict_and_the_gain_in_percent() -> None:
    assert convergence_text(diagnose([[1.0]])) == "too short"
    assert convergence_text(diagnose([[0.6, 0.7, 0.8, 0.9, 1.0]])) == "still improving: 10 % [10, 10]"
