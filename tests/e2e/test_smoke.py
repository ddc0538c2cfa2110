"""``evodiff smoke`` tries a search in a moment, says what it will take, and what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evodiff.reporting.smoke import duration

pytestmark = pytest.mark.e2e

Smoke = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def smoke(environment: dict[str, str], tmp_path: Path) -> Smoke:
    """Run ``evodiff smoke`` in the empty folder ``work``, with ``temporary`` for temporary files."""
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir()
    temporary.mkdir()

    def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("evodiff"), "smoke", "--workers", "2", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**environment, "TMPDIR": str(temporary), **variables},
            cwd=work,
            timeout=300,
        )

    return run


@pytest.fixture
def refused(smoke: Smoke) -> Callable[..., str]:
    """Run it where it has to refuse, and return what it says."""

    def run(*arguments: object, **variables: str) -> str:
        done = smoke(*arguments, **variables)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    return run


def test_every_step_is_tried_and_a_generation_predicted_and_nothing_is_left(smoke: Smoke, tmp_path: Path) -> None:
    done = smoke("--dataset", "digits", "--population", 6, "--steps", 40)
    assert done.returncode == 0, done.stderr
    for step in ("open and plan", "train", "evaluate", "select", "archive"):
        assert step in done.stdout
    assert "6 trials on 2 workers" in done.stdout
    assert "MB a worker, measured" in done.stdout
    assert list((tmp_path / "work").iterdir()) == []
    assert list((tmp_path / "temporary").glob("evodiff*")) == []


def test_a_dataset_that_is_bad_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    for number in range(120):  # all the same
        Image.fromarray(np.full((8, 8), 90, dtype=np.uint8)).save(folder / f"{number}.png")
    assert "different" in refused("--dataset", f"folder:{folder}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dataset", "folder:/nowhere"), "/nowhere"),
        (("--objectives", "kid,beauty"), "beauty"),
        (("--prefer", "latency_ms<<2"), "latency_ms<<2"),
        (("--target", "m99"), "m99"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    refused: Callable[..., str], arguments: tuple[str, ...], said: str
) -> None:
    assert said in refused(*arguments)


def test_a_trial_that_fails_is_an_error_with_its_cause(refused: Callable[..., str]) -> None:
    said = refused("--dataset", "digits", EVODIFF_TRAINING__LEARNING_RATE="1e30")
    assert "A trial of the search would fail" in said
    assert "finite" in said


def test_a_full_disk_is_an_error(refused: Callable[..., str]) -> None:
    assert "are to stay free" in refused("--dataset", "digits", EVODIFF_MIN_FREE_MB="1e12")


@pytest.mark.parametrize(("seconds", "said"), [(42.4, "42 s"), (600, "10 min"), (3 * 3600, "3.0 h")])
def test_durations_read_well(seconds: float, said: str) -> None:
    assert duration(seconds) == said
