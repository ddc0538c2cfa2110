"""Grids of images keep every pixel."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from evodiff.reporting import save_grid
from evodiff.reporting.images import data_uri, grid, grid_png


def images(n: int, size: int, channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(n).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 12), st.integers(1, 4))
def test_a_png_holds_the_given_pixels(n: int, size: int, channels: int, columns: int, scale: int) -> None:
    given_images = images(n, size, channels)
    pixels = np.asarray(Image.open(io.BytesIO(grid_png(given_images, columns, scale=scale, gap=1))))
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    columns = min(columns, n)
    for index in range(n):
        top, left = (index // columns) * (size + 1) * scale, (index % columns) * (size + 1) * scale
        tile = pixels[top : top + size * scale, left : left + size * scale]
        expected = given_images[index].repeat(scale, axis=0).repeat(scale, axis=1)
        assert np.array_equal(tile, expected)


def test_small_images_are_enlarged_and_large_ones_are_not(tmp_path: Path) -> None:
    small = Image.open(save_grid(images(1, 8, 1), tmp_path / "made" / "small.png", columns=1))
    large = Image.open(save_grid(images(1, 64, 3), tmp_path / "large.png", columns=1))
    assert small.size == (48, 48)
    assert large.size == (64, 64)
    assert (small.mode, large.mode) == ("L", "RGB")


def test_rows_and_gaps_are_where_they_should_be() -> None:
    laid = grid(np.zeros((3, 2, 2, 1), dtype=np.uint8), columns=2, gap=1)
    assert laid.shape == (5, 5, 1)
    assert (laid[2] == 255).all()
    assert (laid[3:, 3:] == 255).all()
    assert (laid[3:, :2] == 0).all()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 4, 4), dtype=np.uint8),
        np.zeros((2, 4, 4, 2), dtype=np.uint8),
        np.zeros((2, 4, 4, 3), dtype=np.float32),
        np.zeros((0, 4, 4, 3), dtype=np.uint8),
    ],
)
def test_anything_else_is_refused(wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="Expected uint8 images"):
        grid_png(wrong, 2)


def test_a_data_uri_is_the_png() -> None:
    assert data_uri(b"\x89PNG") == "data:image/png;base64,iVBORw=="
