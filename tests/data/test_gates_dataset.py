"""The gate of datasets: what is good passes, each way of being bad is named, and nothing is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

from evodiff.data import ImageDataset, open_dataset
from evodiff.data.dataset import assemble, content_digest
from evodiff.data.gate_result import GateResult
from evodiff.data.gates import check_dataset
from evodiff.errors import GateFailed


def pictures(count: int, *, size: int = 8, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Soft blobs, (count, channels, size, size): no two alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, channels, size // 2, size // 2), dtype=np.uint8)
    return coarse.repeat(2, axis=2).repeat(2, axis=3)


def labelled(images: NDArray[np.uint8], labels: NDArray[np.int64] | None = None, classes: int = 2) -> ImageDataset:
    labels = np.arange(len(images)) % classes if labels is None else labels
    return assemble("made", images, labels.astype(np.int64), [f"class {index}" for index in range(classes)])


def spoiled(dataset: ImageDataset, **changes: Any) -> ImageDataset:
    """Change arrays behind the back of ``assemble``, with a digest that fits where there can be one."""
    changed = replace(dataset, **changes)
    if changed.images.dtype != np.uint8:
        return changed
    digest = content_digest(changed.images, changed.labels, changed.class_names, changed.split)
    return replace(changed, digest=digest)


def failures(dataset: ImageDataset, out: Path) -> dict[str, Any]:
    """Names of the expectations that a bad dataset does not meet, with their checks."""
    with pytest.raises(GateFailed) as caught:
        check_dataset(dataset, out=out)
    result = GateResult.load(caught.value.folder)
    assert not result.passed
    return {check.expectation.name: check for check in result.failed}


@pytest.fixture
def good() -> ImageDataset:
    return labelled(pictures(400))


@pytest.mark.parametrize("name", ["digits", "photos", "photos:16", "shapes", "shapes:8"])
def test_built_in_datasets_pass_without_a_warning(name: str, tmp_path: Path) -> None:
    result = check_dataset(open_dataset(name), out=tmp_path)
    assert result.passed
    assert result.warnings == ()
    assert sum(result.counts[part] for part in ("train", "validation", "test")) == result.counts["images"]


@pytest.mark.parametrize("classes", [1, 4])
def test_a_folder_of_photographs_passes_with_and_without_classes(classes: int, tmp_path: Path) -> None:
    for index, picture in enumerate(pictures(240, size=32)):
        folder = tmp_path / "pictures" / f"class-{index % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{index}.jpg")
    dataset = open_dataset(f"folder:{tmp_path / 'pictures'}", image_size=16)
    assert check_dataset(dataset, out=tmp_path / "gates").passed


def test_a_grey_dataset_without_labels_passes(tmp_path: Path) -> None:
    assert check_dataset(assemble("grey", pictures(300, channels=1), None, []), out=tmp_path).passed


def test_images_of_one_colour_fail(tmp_path: Path) -> None:
    even = pictures(400)
    even[:100] = np.arange(100, dtype=np.uint8)[:, None, None, None]
    found = failures(labelled(even), tmp_path)
    assert set(found) == {"something to see"}
    assert len(found["something to see"].offending) == 100


def test_a_few_images_of_one_colour_pass(tmp_path: Path) -> None:
    images = pictures(400)
    images[:3] = np.arange(3, dtype=np.uint8)[:, None, None, None]
    assert check_dataset(labelled(images), out=tmp_path).passed


def test_pixels_that_are_no_numbers_fail_and_are_set_aside_as_they_are(good: ImageDataset, tmp_path: Path) -> None:
    images = good.images.astype(np.float32)
    images[7, 0, 2, 3] = np.nan
    images[9, 1, 0, 0] = np.inf
    found = failures(spoiled(good, images=images), tmp_path)
    assert {"finite pixels", "8-bit pixels"} <= set(found)
    assert found["finite pixels"].offending == (7, 9)
    (quarantine,) = tmp_path.glob("*/quarantine")
    kept = load_file(quarantine / "images.safetensors")
    assert kept["index"].tolist() == [7, 9]
    assert np.array_equal(kept["images"], images[[7, 9]], equal_nan=True)


@pytest.mark.parametrize(("value", "name"), [(-3.0, "darkest pixel"), (1000.0, "brightest pixel")])
def test_pixels_out_of_range_fail(good: ImageDataset, value: float, name: str, tmp_path: Path) -> None:
    images = good.images.astype(np.float64)
    images[5, 0, 0, 0] = value
    assert failures(spoiled(good, images=images), tmp_path)[name].offending == (5,)


def test_a_class_of_99_percent_fails(tmp_path: Path) -> None:
    labels = np.zeros(1000, dtype=np.int64)
    labels[:10] = 1
    found = failures(labelled(pictures(1000), labels), tmp_path)
    assert set(found) == {"balance"}
    assert found["balance"].examples[0] == {"class": "class 0", "share": 0.99}


def test_the_same_image_in_train_and_test_fails_and_both_are_set_aside(good: ImageDataset, tmp_path: Path) -> None:
    images = good.images.copy()
    train, test = int(np.flatnonzero(good.split == 0)[0]), int(np.flatnonzero(good.split == 2)[0])
    images[test] = images[train]
    found = failures(spoiled(good, images=images), tmp_path)
    assert found["no copies across parts"].offending == tuple(sorted((train, test)))
    (quarantine,) = tmp_path.glob("*/quarantine")
    rows = [json.loads(line) for line in (quarantine / "images.jsonl").read_text().splitlines()]
    assert len(rows) == len(images)  # the whole batch, the bad ones marked
    assert [row["image"] for row in rows if row["offends"]] == sorted((train, test))
    assert rows[test]["copy_of"] == train


def test_test_images_that_are_training_images_saved_again_fail(good: ImageDataset, tmp_path: Path) -> None:
    images = good.images.copy()
    training, others = np.flatnonzero(good.split == 0), np.flatnonzero(good.split != 0)
    images[others] = np.clip(images[training[: len(others)]].astype(int) + 1, 0, 255).astype(np.uint8)
    found = failures(spoiled(good, images=images), tmp_path)
    assert set(found) == {"few near-copies across parts"}
    assert len(found["few near-copies across parts"].offending) == len(others)


def test_far_too_few_images_fail(tmp_path: Path) -> None:
    assert "enough images" in failures(labelled(pictures(80)), tmp_path)


def test_one_image_many_times_fails(tmp_path: Path) -> None:
    images = pictures(400).repeat(4, axis=0)
    assert set(failures(labelled(images, np.arange(400).repeat(4) % 2), tmp_path)) == {"few repetitions"}


def test_one_picture_under_two_labels_fails_where_that_is_the_rule(tmp_path: Path) -> None:
    images = pictures(200).repeat(2, axis=0)
    assert set(failures(labelled(images), tmp_path)) == {"one class an image"}


def test_a_class_that_training_never_sees_fails(good: ImageDataset, tmp_path: Path) -> None:
    assert good.labels is not None
    labels = np.where((good.split != 0) & (np.arange(400) % 5 == 0), 2, good.labels)
    names = (*good.class_names, "unseen")
    assert set(failures(spoiled(good, labels=labels, class_names=names), tmp_path)) == {"every class trained on"}


def test_a_class_without_validation_images_is_a_warning(good: ImageDataset, tmp_path: Path) -> None:
    assert good.labels is not None
    labels = np.where((good.split != 1) & (np.arange(400) % 5 == 0), 2, good.labels)
    result = check_dataset(spoiled(good, labels=labels, class_names=(*good.class_names, "rare")), out=tmp_path)
    assert [check.expectation.name for check in result.warnings] == ["every class scored on"]


def test_arrays_that_do_not_belong_together_fail(good: ImageDataset, tmp_path: Path) -> None:
    assert good.labels is not None
    found = failures(spoiled(good, labels=good.labels[:-3], split=good.split + 2), tmp_path)
    assert {"every image labelled", "known class", "known part", "every part filled"} <= set(found)
    assert found["known class"].offending == (397, 398, 399)


def test_channels_behind_height_and_width_fail(good: ImageDataset, tmp_path: Path) -> None:
    turned = np.ascontiguousarray(good.images.transpose(0, 2, 3, 1))
    assert {"grey or RGB", "square"} <= set(failures(spoiled(good, images=turned), tmp_path))


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (120,), (120, 0, 8, 8), (120, 3, 8), (120, 3, 8, 9)])
def test_arrays_that_are_no_images_fail(good: ImageDataset, shape: tuple[int, ...], tmp_path: Path) -> None:
    assert failures(replace(good, images=np.zeros(shape, dtype=np.uint8)), tmp_path)


def test_content_that_is_not_what_its_digest_says_fails(good: ImageDataset, tmp_path: Path) -> None:
    assert set(failures(replace(good, digest="0" * 64), tmp_path)) == {"content as named"}


def test_the_error_names_the_expectation_examples_and_what_to_do(good: ImageDataset, tmp_path: Path) -> None:
    images = good.images.astype(np.float64)
    images[5, 0, 0, 0] = 1000
    with pytest.raises(GateFailed, match=r"brightest pixel.*No pixel is above 255.*image 5.*highest 1000") as caught:
        check_dataset(spoiled(good, images=images), out=tmp_path)
    assert "Scale the pixels" in caught.value.remedy
    assert str(caught.value.folder) in caught.value.remedy


def test_a_dataset_that_passed_is_not_judged_again(
    good: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = check_dataset(good, out=tmp_path)
    monkeypatch.setattr("evodiff.data.gates.judge", None)  # whoever judged would fail
    assert check_dataset(good, out=tmp_path) == first


def test_a_bad_dataset_with_the_digest_of_a_good_one_is_judged(good: ImageDataset, tmp_path: Path) -> None:
    check_dataset(good, out=tmp_path)
    assert "brightest pixel" in failures(replace(good, images=good.images + np.float32(256)), tmp_path)
