"""The dataset: order, split, digest and file."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evodiff.data import PARTS, ImageDataset, scale, unscale
from evodiff.data.dataset import assemble, content_hash, split_of
from evodiff.errors import DatasetError


def random_images(count: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, channels, 8, 8), dtype=np.uint8)


def a_dataset(count: int = 200, seed: int = 0, **changes) -> ImageDataset:
    images = random_images(count, seed)
    content = {"labels": np.arange(count) % 2, "class_names": ["cat", "dog"]} | changes
    return assemble("test", images, **content)


def test_parts_hold_every_image_once_with_its_label() -> None:
    images = random_images(200)
    dataset = assemble("test", images, np.arange(200), [str(index) for index in range(200)])
    seen = {}
    for name in PARTS:
        part, labels = dataset.part(name)
        seen |= {int(label): image for image, label in zip(part, labels, strict=True)}
    assert sorted(seen) == list(range(200))
    assert all(np.array_equal(seen[index], images[index]) for index in seen)


def test_the_split_is_about_seventy_fifteen_fifteen() -> None:
    shares = np.bincount(a_dataset(4000).split) / 4000
    assert shares == pytest.approx([0.70, 0.15, 0.15], abs=0.03)


@given(st.permutations(range(120)))
@settings(max_examples=20, deadline=None)
def test_order_of_the_files_does_not_change_the_digest(order: list[int]) -> None:
    images, labels = random_images(120), np.arange(120) % 3
    names = ["a", "b", "c"]
    order = np.array(order)
    assert assemble("x", images[order], labels[order], names).digest == assemble("y", images, labels, names).digest


@given(st.integers(0, 200))
@settings(max_examples=20, deadline=None)
def test_adding_images_moves_no_other_image(added: int) -> None:
    images = random_images(300)
    before = assemble("x", images[:100], None, [])
    after = assemble("x", images[: 100 + added], None, [])
    part_after = {image.tobytes(): part for image, part in zip(after.images, after.split, strict=True)}
    assert all(part_after[image.tobytes()] == part for image, part in zip(before.images, before.split, strict=True))


def test_a_duplicate_lies_in_the_part_of_its_twin() -> None:
    images = random_images(100)
    dataset = assemble("x", np.concatenate([images, images]), None, [])
    parts: dict[bytes, set[int]] = {}
    for image, part in zip(dataset.images, dataset.split, strict=True):
        parts.setdefault(image.tobytes(), set()).add(int(part))
    assert len(parts) == 100
    assert all(len(found) == 1 for found in parts.values())


def test_a_grey_image_has_the_hash_of_its_colour_twin() -> None:
    grey = random_images(1, channels=1)[0]
    assert content_hash(grey) == content_hash(np.repeat(grey, 3, axis=0))


@given(st.binary(min_size=32, max_size=32))
def test_every_hash_has_a_part(image_hash: bytes) -> None:
    assert split_of(image_hash) in (0, 1, 2)


def test_the_thresholds_of_the_split_are_where_they_should_be() -> None:
    def at(share: float) -> int:
        return split_of(int(share * 2**64).to_bytes(8, "big") + bytes(24))

    assert [at(0.0), at(0.69), at(0.71), at(0.84), at(0.86), at(0.999)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"labels": (np.arange(200) + 1) % 2},
        {"class_names": ["cat", "wolf"]},
        {"labels": None, "class_names": []},
        {"seed": 1},
        {"split": (np.arange(200) % 3).astype(np.uint8)},
    ],
    ids=["labels", "class names", "no labels", "pixels", "split"],
)
def test_the_digest_changes_with_what_training_can_see(change: dict) -> None:
    assert a_dataset(**change).digest != a_dataset().digest


def test_the_digest_does_not_change_with_the_name_or_with_notes() -> None:
    assert a_dataset(skipped=["broken.png"], notes=["hidden"]).digest == a_dataset().digest


def test_the_digest_of_known_content_is_the_same_for_ever() -> None:
    images = np.arange(60 * 64, dtype=np.int64).reshape(60, 1, 8, 8) * 7 % 251
    dataset = assemble("x", images.astype(np.uint8), None, [])
    assert dataset.digest == "afdf328ce20c178a3b2327702529534accd06b368c3db965eb91b49f77e879c1"


@pytest.mark.parametrize("labelled", [True, False])
def test_a_saved_dataset_is_read_back_whole(tmp_path, labelled: bool) -> None:
    content = {"skipped": ["a.png: broken"], "notes": ["2 hidden"]}
    if not labelled:
        content |= {"labels": None, "class_names": []}
    dataset = a_dataset(**content)
    dataset.save(tmp_path / "folder" / "dataset.safetensors")
    again = ImageDataset.load(tmp_path / "folder" / "dataset.safetensors")
    assert np.array_equal(again.images, dataset.images)
    assert np.array_equal(again.split, dataset.split)
    assert (again.labels is None) == (not labelled)
    assert not labelled or np.array_equal(again.labels, dataset.labels)
    for name in ("name", "class_names", "digest", "skipped", "notes", "shape"):
        assert getattr(again, name) == getattr(dataset, name)


def test_equal_datasets_are_equal_bytes_and_nothing_else_is_left(tmp_path) -> None:
    for name in ("one", "two", "two"):
        a_dataset().save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "cannot be read"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "it was changed"),
        (lambda content: content.replace(b"evodiff-dataset-1", b"evodiff-dataset-9"), "expected|Expected a dataset of"),
        (lambda content: b"", "cannot be read"),
    ],
    ids=["truncated", "one bit", "format", "empty"],
)
def test_a_damaged_file_is_refused(tmp_path, damage, message: str) -> None:
    path = tmp_path / "dataset.safetensors"
    a_dataset().save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=message) as caught:
        ImageDataset.load(path)
    assert str(path) in caught.value.headline
    assert caught.value.remedy


def test_a_missing_file_and_a_folder_that_cannot_be_written_are_named(tmp_path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        ImageDataset.load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="Expected to write"):
        a_dataset().save(tmp_path / "file" / "dataset")


def test_too_few_images_are_an_error_that_counts_them() -> None:
    with pytest.raises(DatasetError, match="found 12 images, 12 of them different") as caught:
        a_dataset(12)
    assert "Add images" in caught.value.remedy


def test_copies_of_one_image_do_not_make_a_dataset() -> None:
    with pytest.raises(DatasetError, match="found 500 images, 1 of them different"):
        assemble("x", np.repeat(random_images(1), 500, axis=0), None, [])


def test_pixels_survive_scaling_and_its_inverse() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    scaled = scale(pixels)
    assert scaled.dtype == np.float32
    assert (scaled.min(), scaled.max()) == (-1, 1)
    assert np.array_equal(unscale(scaled), pixels)
    assert unscale(np.array([-3.0, 3.0])).tolist() == [0, 255]


def test_reading_a_dataset_imports_neither_torch_nor_scikit_learn_nor_pillow(tmp_path) -> None:
    a_dataset().save(tmp_path / "dataset.safetensors")
    program = (
        "import sys, json; from evodiff.data import ImageDataset; d = ImageDataset.load(sys.argv[1]); "
        "print(json.dumps([len(d), sorted({'torch', 'sklearn', 'PIL'} & set(sys.modules))]))"
    )
    path = str(tmp_path / "dataset.safetensors")
    result = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == [200, []]
