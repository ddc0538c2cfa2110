"""Rivals and robustness, in words, tables and on the page."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from page_reading import read_page
from report_examples import plain_view, rivals, robustness
from rich.console import Console, RenderableType

from evodiff.engine.statistics import Interval
from evodiff.reporting import ObjectiveView
from evodiff.reporting.report import report_html
from evodiff.reporting.rivals import rivals_tables
from evodiff.reporting.rivals_figure import rivals_figures
from evodiff.reporting.rivals_view import Showing
from evodiff.reporting.rivals_words import sentences
from evodiff.reporting.robustness import robustness_figures, robustness_table
from evodiff.reporting.robustness import sentences as robustness_sentences
from evodiff.reporting.verdicts import grouped, interval_text, verdict


def printed(*tables: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(*tables)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-2.0, -1.0, "better"), (1.0, 2.0, "worse"), (-1.0, 1.0, "open"), (-1.0, 0.0, "open"), (0.0, 0.0, "open")],
)
def test_a_smaller_kid_is_better_only_where_the_whole_interval_is(low: float, high: float, expected: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high)) == expected


def test_what_lies_wholly_within_the_margin_is_the_same_even_where_it_can_be_told_from_zero() -> None:
    assert verdict(Interval(0.2, 0.1, 0.3), margin=0.4) == "same"
    assert verdict(Interval(0.2, 0.1, 0.3), margin=0.3) == "worse"
    assert verdict(Interval(0.0, -0.5, 0.5), margin=0.4) == "open"


def test_an_interval_shows_its_signs_and_leaves_out_what_is_unbounded() -> None:
    assert interval_text(Interval(0.012, -0.001, 0.025)) == "+0.012 [−0.001, +0.025]"
    assert interval_text(Interval(-0.5, -math.inf, math.inf)) == "−0.50"
    assert interval_text(None) == "–"


def test_differences_of_one_verdict_stand_together() -> None:
    phrases = {"better": "beats", "worse": "loses to", "open": "ties"}
    text = grouped(
        [
            ("a", Interval(-2.0, -3.0, -1.0)),
            ("b", Interval(0.0, -1.0, 1.0)),
            ("c", Interval(-1.0, -1.5, -0.5)),
            ("d", None),
        ],
        phrases,  # type: ignore[arg-type]
    )
    assert text == "beats a (−2.0 [−3.0, −1.0]) and c (−1.00 [−1.50, −0.50]); ties b (+0.0 [−1.0, +1.0])"


def test_sentences_say_whom_the_champion_beats_at_which_budget() -> None:
    steps, compute, stability, left_out = sentences(rivals())
    assert steps.startswith("At equal steps, the champion beats tiny (−0.03")
    assert "is beaten by ddpm_unet (+0.0" in steps
    assert "is not told apart from uvit" in steps
    assert compute.startswith("At equal training compute, the champion beats tiny (−0.0")
    assert "uvit (" in compute.partition("not told apart from")[2]
    assert stability.startswith("Over 3 seeds, at equal steps, the standard deviation of the champion's KID is 0.00")
    assert left_out == "Left out: dit (it breaks working_set)."


def test_one_seed_gives_differences_without_a_verdict() -> None:
    text = " ".join(sentences(rivals(1)))
    assert "one seed makes no interval" in text
    assert "beats" not in text
    assert "standard deviation" not in text


def test_failed_and_lost_trainings_are_named_and_the_rest_is_compared() -> None:
    view = rivals()
    broken = replace(
        view.networks[1], showings={**view.networks[1].showings, "equal_steps": Showing(120, (None,) * 3, "nan")}
    )
    view = replace(view, networks=(view.networks[0], broken, *view.networks[2:]), lost={"uvit, seed 1": "crash: 9"})
    text = " ".join(sentences(view))
    assert "Trainings that failed: tiny (nan)." in text
    assert "Lost, and tried again by the same command: uvit, seed 1 (crash: 9)." in text
    assert view.ranked("equal_steps")[-1].name == "tiny"
    assert view.difference(broken, "equal_steps") is None
    page = read_page(report_html(plain_view([ObjectiveView("kid")], [], rivals=view)))
    assert "rivals" in page.ids
    assert "nan" in printed(*rivals_tables(view))


def test_seeds_that_failed_leave_their_pairs_out() -> None:
    ours, theirs = Showing(1, (1.0, 2.0, None)), Showing(1, (0.5, None, 3.0))
    found = ours.minus(theirs)
    assert found is not None
    assert (found.value, found.low) == (0.5, -math.inf)


def test_networks_are_ranked_and_drawn_best_first() -> None:
    view = rivals()
    assert view.ranked("equal_steps")[0].name == "ddpm_unet"
    means, seeds = rivals_figures(view)["rivals-equal-steps"]["data"]
    assert means["y"] == ["ddpm_unet (stock)", "uvit", "champion", "tiny"]
    assert means["x"] == sorted(means["x"])
    assert len(seeds["x"]) == 3 * 4


def test_tables_for_a_terminal_hold_the_numbers_in_eighty_columns() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(*rivals_tables(rivals()), robustness_table(robustness()))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue().replace("\u00a0", " ")
    expected = ("champion", "ddpm_unet", "100 k", "2.10 ms", "karras", "default")
    assert [name for name in expected if name not in text] == []
    assert "…" not in text


def test_robustness_is_told_aspect_by_aspect() -> None:
    guidance, steps, spacing, precision = robustness_sentences(robustness())
    assert guidance == "Guidance scale, against 1: worse with 2 (+0.0100 [+0.0090, +0.0110])."
    assert steps.startswith("Sampler steps, against 10: worse with 5 (")
    assert "the same with 50 (+0.0002 [−0.0008, +0.0012])" in steps
    assert spacing.startswith("Spacing of the steps, against log_snr: better with karras")
    assert "the network's output changes in bfloat16 by 1.2 %" in precision.replace("\u00a0", " ")
    assert precision.endswith("float16 has no KID: non-finite output: in float16.")


def test_what_has_no_kid_is_not_drawn() -> None:
    (trace,) = robustness_figures(robustness())["robustness-precision"]["data"]
    assert trace["x"] == ["float32", "bfloat16"]
    assert trace["marker"]["symbol"] == ["star", "circle"]


def test_the_page_holds_the_numbers_for_programs_too() -> None:
    view = plain_view([ObjectiveView("kid")], [], rivals=rivals(), robustness=robustness())
    page = read_page(report_html(view))
    assert page.data["run"]["rivals"]["networks"][0]["showings"]["equal_steps"]["kids"][0] == pytest.approx(0.02)
    assert page.data["run"]["robustness"]["variants"][1]["difference"]["high"] == pytest.approx(0.011)
    assert {"rivals-equal-steps", "rivals-equal-compute", "robustness-guidance"} <= set(page.data["figures"])
