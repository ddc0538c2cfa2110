"""Handwritten digits: the 8 x 8 test scans of Alpaydin and Kaynak (1998) that scikit-learn carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from evodiff.data.dataset import ImageDataset, assemble

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEVELS = 16  # pixels count the ink in 4 x 4 blocks of a bitmap: 0..16


def read_digits(*, image_size: int = 8) -> ImageDataset:
    """Read 1797 grey digits (1797, 1, size, size) with ten classes; sizes other than 8 are interpolated."""
    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / _LEVELS)).astype(np.uint8)
    if image_size != pixels.shape[1]:
        pixels = np.stack([_resized(scan, image_size) for scan in pixels])
    names = [str(digit) for digit in range(10)]
    return assemble("digits", pixels[:, None], bunch.target.astype(np.int64), names)


def _resized(scan: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(scan).resize((size, size), Image.Resampling.BICUBIC), dtype=np.uint8)
