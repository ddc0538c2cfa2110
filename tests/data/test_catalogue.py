"""Datasets by name, and those that come with the product."""

import numpy as np
import pytest

from evodiff.data import open_dataset
from evodiff.data.photos import WINDOW, windows
from evodiff.data.shapes import KINDS, draw_shapes
from evodiff.errors import DatasetError


def test_digits_are_the_scans_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    digits = open_dataset("digits")
    assert digits.shape == (1, 8, 10)
    assert len(digits) == 1797
    scans = load_digits()
    pixels = (scans.images * 255 / 16).round().astype(np.uint8)
    label_of = {image.tobytes(): label for image, label in zip(pixels, scans.target, strict=True)}
    assert all(
        label_of[image.tobytes()] == label for image, label in zip(digits.images[:, 0], digits.labels, strict=True)
    )


def test_digits_can_be_enlarged() -> None:
    digits = open_dataset("digits", image_size=16)
    assert digits.shape == (1, 16, 10)
    assert len(digits) == 1797


def test_photo_windows_of_different_parts_share_no_pixel() -> None:
    owner = np.full((427, 640), "", dtype=object)
    parts = set()
    for window in windows(427, 640):
        parts.add(window.part)
        seen = owner[window.row : window.row + WINDOW, window.column : window.column + WINDOW]
        assert seen.shape == (WINDOW, WINDOW)
        assert set(np.unique(seen)) <= {"", window.part}
        seen[:] = window.part
    assert parts == {"train", "validation", "test"}


def test_photos_are_patches_of_both_photographs() -> None:
    photos = open_dataset("photos:16")
    assert photos.shape == (3, 16, 2)
    assert photos.class_names == ("china", "flower")
    assert np.bincount(photos.split).tolist() == [7776, 1512, 1512]
    assert np.bincount(photos.labels).tolist() == [5400, 5400]


def test_photos_come_at_full_size_as_they_are() -> None:
    from sklearn.datasets import load_sample_images

    photos = open_dataset("photos")
    assert photos.shape == (3, 32, 2)
    corner = load_sample_images().images[0][:32, :32].transpose(2, 0, 1)
    assert any(np.array_equal(image, corner) for image in photos.images)


def test_a_reduced_patch_is_made_of_the_pixels_of_its_window_alone() -> None:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = {image.tobytes() for image in open_dataset("photos:16").images}
    for pixels in load_sample_images().images:
        for window in list(windows(427, 640))[::100]:
            alone = pixels[window.row : window.row + WINDOW, window.column : window.column + WINDOW]
            patch = np.asarray(Image.fromarray(alone).resize((16, 16), Image.Resampling.BICUBIC))
            assert patch.transpose(2, 0, 1).tobytes() in photos


def test_shapes_are_drawn_the_same_every_time_and_vary() -> None:
    first, second = draw_shapes(image_size=16, images=200), draw_shapes(image_size=16, images=200)
    assert first.digest == second.digest
    assert draw_shapes(image_size=16, images=200, seed=1).digest != first.digest
    assert first.class_names == KINDS
    assert len({image.tobytes() for image in first.images}) == 200


def test_shapes_have_two_colours_and_soft_edges() -> None:
    shapes = draw_shapes(image_size=32, images=100)
    for image in shapes.images:
        colours, counts = np.unique(image.reshape(3, -1), axis=1, return_counts=True)
        flat = np.sort(counts)[-2:]
        assert flat.sum() > 0.75 * 32 * 32  # shape and ground
        assert colours.shape[1] > 5  # and shades between them along the edge


def test_every_kind_of_shape_covers_its_own_share_of_its_circle() -> None:
    import math

    from evodiff.data import shapes

    axis = (np.arange(1000) + 0.5) / 500 - 1
    x, y = np.meshgrid(axis, axis)
    area = {name: 4 * inside(x, y).mean() for name, inside in shapes._TESTS.items()}
    arm, reach = 0.3, math.sqrt(1 - 0.3**2)
    expected = {
        "circle": math.pi,
        "square": 2,
        "triangle": 3 * math.sqrt(3) / 4,
        "star": 10 * 0.5 * 0.4 * math.sin(math.pi / 5),
        "cross": 2 * (2 * arm * 2 * reach) - (2 * arm) ** 2,
    }
    assert area == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("cifar", None, r"Unknown dataset: expected one of digits, photos.*folder:PATH; found 'cifar'"),
        ("", None, "Unknown dataset"),
        ("folder:", None, "Unknown dataset"),
        ("digits:8", None, "Unknown dataset"),
        ("photos:64", None, "comes in 16 or 32 pixels, found 64"),
        ("photos:big", None, "should end in a number of pixels, found 'big'"),
        ("photos:16", 32, "says 16 pixels, but an image size of 32"),
        ("shapes:2", None, "comes in 4 to 256 pixels, found 2"),
        ("shapes", 1000, "Image size must be from 4 to 256 pixels, found 1000"),
    ],
)
def test_a_name_that_cannot_be_opened_says_what_can(name: str, size: int | None, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(name, image_size=size)
    assert caught.value.remedy
