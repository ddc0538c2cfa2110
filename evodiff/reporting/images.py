"""Grids of images as PNG."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evodiff.data.png import encode_png

if TYPE_CHECKING:
    from numpy.typing import NDArray

READABLE_PIXELS = 48  # a tile smaller than this is enlarged by a whole factor


def grid(images: NDArray[np.uint8], columns: int, *, gap: int = 1, background: int = 255) -> NDArray[np.uint8]:
    """Lay out an (n, height, width, channels) array row by row; return a (rows, columns, channels) array of pixels.

    Raises:
        ValueError: the array is no batch of 8-bit images with 1 or 3 channels, or is empty.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            f"Expected uint8 images of shape (n, height, width, 1 or 3), found {images.dtype} {images.shape}."
        )
    n, height, width, channels = images.shape
    columns = max(1, min(columns, n))
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), background, dtype=np.uint8)
    for index in range(n):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = images[index]
    return canvas


def grid_png(images: NDArray[np.uint8], columns: int, *, scale: int | None = None, gap: int = 1) -> bytes:
    """Return a PNG of the grid, enlarged by the whole factor ``scale`` without smoothing.

    Without ``scale`` small images are enlarged so that a tile is about 48 pixels wide.
    """
    pixels = grid(images, columns, gap=gap)
    if scale is None:
        scale = max(1, round(READABLE_PIXELS / images.shape[2]))
    enlarged: NDArray[Any] = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    return encode_png(enlarged)


def save_grid(images: NDArray[np.uint8], path: Path | str, columns: int = 8, *, scale: int | None = None) -> Path:
    """Write the grid to ``path`` as PNG and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(grid_png(images, columns, scale=scale))
    return path


def data_uri(png: bytes) -> str:
    """Return the PNG as an address that holds its own content."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
