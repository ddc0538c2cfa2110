"""The page of a gate says what was expected and found, shows what offends, and needs nothing from outside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from page_reading import LOADING, read_page
from safetensors.numpy import save_file

from evodiff import gates
from evodiff.data.dataset import assemble, content_digest
from evodiff.data.expectations import between, true
from evodiff.data.gate_result import GateResult
from evodiff.data.judging import Check
from evodiff.errors import GateFailed
from evodiff.reporting.gate_page import gate_html

HOSTILE = '<script>alert("x")</script>'


def a_check(*, passed: bool, severity: Any = "critical", **example: Any) -> Check:
    expectation = true(
        f"name {HOSTILE}", "images", "finite", meaning=f"Meaning {HOSTILE}.", remedy="Remedy.", severity=severity
    )
    return Check(expectation, passed, 12, () if passed else (3, 7), ({"image": 3, **example},))


def a_result(folder: Path, *checks: Check, **changes: Any) -> GateResult:
    content: dict[str, Any] = {"gate": "dataset", "subject": HOSTILE, "digest": "abc", "counts": {"images": 1234}}
    return GateResult(**{**content, "checks": checks, "folder": folder, **changes})


def pictures(count: int, *, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)


def test_a_failure_is_told_with_examples_numbers_and_what_to_do(tmp_path: Path) -> None:
    text = gate_html(a_result(tmp_path, a_check(passed=False, value=float("nan"), none=None), a_check(passed=True)))
    assert "failed its gate: 1 of 2 expectations are not met" in text
    assert "2 of 12 images are not so. Remedy." in text
    assert "expect_column_values_to_be_in_set" in text
    assert "1,234" in text


def test_a_warning_is_told_and_lets_the_data_pass(tmp_path: Path) -> None:
    text = gate_html(a_result(tmp_path, a_check(passed=False, severity="warning"), a_check(passed=True)))
    assert "passed its gate: 1 of 2 expectations are met" in text
    assert "let the data pass" in text


def test_nothing_that_comes_from_the_data_is_active(tmp_path: Path) -> None:
    check = a_check(passed=False, name=HOSTILE)
    result = a_result(tmp_path, check, notes=(HOSTILE,), tables={"Classes": [{"class": HOSTILE, "images": 1}]})
    assert HOSTILE not in gate_html(result)


def test_the_page_is_small_and_loads_nothing(tmp_path: Path) -> None:
    text = gate_html(a_result(tmp_path, a_check(passed=True)))
    loaded = [value for _, names in read_page(text).elements for name, value in names.items() if name in LOADING]
    assert all(str(value).startswith(("#", "data:")) for value in loaded)
    assert len(text) < 100_000  # Plotly, which it does not need, is five million


def test_images_that_offend_are_shown_whatever_their_pixels(tmp_path: Path) -> None:
    images = pictures(2).astype(np.float32)
    images[0, 0, 0, 0] = np.nan
    images[1, 0, 0, 0] = 1e9
    (tmp_path / "quarantine").mkdir()
    save_file({"images": images, "index": np.array([3, 7])}, tmp_path / "quarantine" / "images.safetensors")
    assert "2 of 2 that are not so" in gate_html(a_result(tmp_path, a_check(passed=False)))


def test_images_of_another_shape_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "quarantine").mkdir()
    tensors = {"images": np.zeros((2, 5, 4, 4), np.uint8), "index": np.array([3, 7])}
    save_file(tensors, tmp_path / "quarantine" / "images.safetensors")
    assert "<img" not in gate_html(a_result(tmp_path, a_check(passed=False)))


def test_a_dataset_is_shown_by_class(tmp_path: Path) -> None:
    dataset = assemble("made", pictures(300), np.arange(300) % 2, ["cats", "dogs"])
    result = gates.check_dataset(dataset, out=tmp_path)
    text = result.page.read_text()
    assert "8 images: cats" in text
    assert "8 images: dogs" in text


def test_a_dataset_without_labels_is_shown_too(tmp_path: Path) -> None:
    text = gates.check_dataset(assemble("made", pictures(300), None, []), out=tmp_path).page.read_text()
    assert "64 images: images" in text


def test_a_bad_dataset_leaves_its_page_with_the_error(tmp_path: Path) -> None:
    dataset = assemble("made", pictures(300), None, [])
    images = dataset.images.copy()
    images[np.flatnonzero(dataset.split == 2)[0]] = images[np.flatnonzero(dataset.split == 0)[0]]
    bad = replace(dataset, images=images, digest=content_digest(images, None, (), dataset.split))
    with pytest.raises(GateFailed) as caught:
        gates.check_dataset(bad, out=tmp_path)
    assert "No image is in two parts." in (caught.value.folder / "index.html").read_text()


def test_feedback_has_a_page_too(tmp_path: Path) -> None:
    with pytest.raises(GateFailed) as caught:
        gates.check_feedback(["{"], known=[], out=tmp_path)
    assert "batch of feedback failed" in (caught.value.folder / "index.html").read_text()


def test_a_result_is_the_same_after_it_was_stored(tmp_path: Path) -> None:
    result = gates.check_dataset(assemble("made", pictures(300), np.arange(300) % 2, ["cats", "dogs"]), out=tmp_path)
    assert GateResult.load(result.folder) == result


def test_an_expectation_with_limits_says_them_in_its_arguments() -> None:
    limited = between("name", "table", "column", 1, 5, meaning="", remedy="", mostly=0.9)
    assert limited.arguments == {"column": "column", "min_value": 1, "max_value": 5, "mostly": 0.9}
