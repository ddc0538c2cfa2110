"""The programs that measure searches run, and print the tables that they promise."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def output_of(program: str, *arguments: object, environment: dict[str, str]) -> str:
    """Return what a program in ``benchmarks/`` prints."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / program), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={"COLUMNS": "200", **environment, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of eight layers with three choices each: larger networks are better, those without a first layer worse.

    Where a stage has its identities does not matter, as in NAS-Bench-Macro.
    """
    rows = {}
    for choices in itertools.product(range(3), repeat=8):
        size = 1.0 + sum(choices)
        accuracy = 70 + size + 0.5 * choices.count(2) - 2 * (choices[0] == 0)
        rows["".join(map(str, choices))] = {"mean_acc": accuracy, "params": size}
    path = tmp_path_factory.mktemp("table") / "made-up.json"
    path.write_text(json.dumps(rows))
    return path


def shares(text: str, name: str) -> list[float]:
    """Return the means in the row of ``name``."""
    row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [float(found) for found in re.findall(r"([\d.]+) ±", row)]


def test_the_default_is_ahead_of_random_search_on_a_table(table: Path, environment: dict[str, str]) -> None:
    given = ("--table", table, "--seeds", 3, "--evaluations", 100, "--strategies", "surrogate", "random")
    text = output_of("search_efficiency.py", *given, environment=environment)
    ours, random = shares(text, "surrogate"), shares(text, "random")
    assert len(ours) == len(random) == 2, "after 50 and after 100"
    assert ours[0] <= ours[1] <= 1
    assert all(first > second for first, second in zip(ours, random, strict=True))
    assert "| random (3 seeds) | +" in text


def test_noise_is_told_for_every_piece(table: Path, environment: dict[str, str]) -> None:
    text = output_of(
        "noisy_search.py", "--table", table, "--seeds", 2, "--rungs", 2, "--marks", 12, 20, environment=environment
    )
    rows = [line for line in text.splitlines() if line.startswith("| two rungs, ")]
    assert [row.split(" | ")[0].removeprefix("| two rungs, ") for row in rows] == [
        "the default",
        "the front is that of the values",
        "values of short trainings as they are",
        "promoted by the rung alone",
        "survivors and parents by the values as they are",
        "ten predictions tell",
        "ties are tried again",
        "nsga2",
        "nsga2, survivors by the values as they are",
        "nsga2, ties are tried again",
    ]
    assert all(0 < share <= 1 for row in rows for share in map(float, re.findall(r"([\d.]+) ±", row)))


def test_training_steps_are_compared_with_the_mark_and_what_is_finished_is_kept(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    given = ("--smoke", "--seeds", 1, "--generations", 1, "--arms", "whole method", "--out", tmp_path / "out")
    text = output_of("training_efficiency.py", *given, environment=environment)
    assert re.search(r"^NSGA-II, seed 0: 24 steps \(1\.00 of the mark's\), 0\.\d+$", text, re.MULTILINE)
    assert "whole method, seed 0: " in text
    assert "without rungs" not in text, "only the arms that were asked for"
    plans = sorted((tmp_path / "out").rglob("plan.jsonl"))
    before = {path: path.stat().st_mtime_ns for path in plans}
    assert output_of("training_efficiency.py", *given, environment=environment) == text
    ablation = output_of("training_efficiency.py", *given, "--ablation", environment=environment)
    assert re.search(r"^│ whole method .* 1\.000 +│$", ablation, re.MULTILINE), "its compute, as a share of its own"
    assert {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "out").rglob("plan.jsonl"))} == before


@pytest.fixture
def training_efficiency() -> ModuleType:
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("training_efficiency", BENCHMARKS / "training_efficiency.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ([0.5], "0.50 [0.50, 0.50]"),
        ([None], "never [never, never]"),
        ([0.4, 0.4, 0.4], "0.40 [0.40, 0.40]"),
        ([0.2, 0.3, 0.4, 0.5, None], "0.40 [0.20, never]"),
        ([0.2, None, None], "never [0.20, never]"),
        ([0.2, None], "never [0.20, never]"),
        ([None, None], "never [never, never]"),
    ],
)
def test_the_median_of_steps_has_an_interval_in_which_never_is_beyond_all(
    shares: list[float | None], text: str, training_efficiency: ModuleType
) -> None:
    known = [float("inf") if share is None else share for share in shares]
    assert training_efficiency.median_share(known, np.random.default_rng(0)) == text


def test_the_report_has_interval_and_seeds_of_the_steps_to_the_mark(
    training_efficiency: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = [(50, 0.2), (100, 0.4)]
    curves = {"NSGA-II": [mark] * 3, "whole method": [[(30, 0.4), (50, 0.5)], [(40, 0.4), (50, 0.4)], [(50, 0.3)]]}
    training_efficiency.report(SimpleNamespace(dataset="digits"), curves)
    row = " ".join(line.split("│")[2].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("│"))
    assert "0.40 [0.30, never]: 0.30 0.40 never" in row


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), {"dataset": "digits", "seeds": 2, "population": 4, "arms": None, "ablation": False}),
        (
            ("--dataset", "photos", "--arms", "whole method"),
            {"dataset": "photos", "arms": ["whole method"], "steps": 6},
        ),
        (("--seeds", "1", "--ablation"), {"seeds": 1, "ablation": True, "generations": 2}),
    ],
)
def test_other_options_go_before_those_of_the_smoke_test(
    given: tuple[str, ...], expected: dict[str, object], training_efficiency: ModuleType
) -> None:
    options = training_efficiency.read_options([*given, "--smoke"])
    assert {name: getattr(options, name) for name in expected} == expected


def test_no_line_of_help_is_wider_than_a_page(environment: dict[str, str]) -> None:
    text = output_of("training_efficiency.py", "--help", environment={**environment, "COLUMNS": "120"})
    assert max(map(len, text.splitlines())) <= 120
