"""What is looked at in images before they go out, and their pixels as bytes; in numpy, whose calls cost little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLANK_RANGE = 1 / 255  # of pixels in [0, 1]: less than one step of 8 bits between darkest and brightest


def finite(images: NDArray[np.float32]) -> list[bool]:
    """Tell of each image whether all its pixels are finite."""
    return [bool(np.isfinite(image).all()) for image in images]


def blank(images: NDArray[np.float32]) -> list[bool]:
    """Tell of each image, (n, channels, height, width) in [-1, 1], whether it shows one colour only."""
    spread = np.ptp(to_unit(images).reshape(*images.shape[:2], -1), axis=2).max(axis=1)
    return [bool(value < BLANK_RANGE) for value in spread]


def to_unit(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring pixels from [-1, 1] to [0, 1]."""
    unit: NDArray[np.float32] = np.clip(images / 2 + np.float32(0.5), 0, 1)
    return unit


def to_bytes(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bring pixels from [-1, 1] to uint8, (n, height, width, channels)."""
    return np.ascontiguousarray(np.rint(to_unit(images) * 255).astype(np.uint8).transpose(0, 2, 3, 1))
