"""The images of a request: which classes they are of, and how several make one picture."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def label_of(label: int | None, seed: int, classes: int) -> int:
    """Return the class of the image of a seed where ``label`` was asked for; None takes the classes in turn."""
    return seed % max(classes, 1) if label is None else label


def sheet(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, height, width, channels) as one image, row by row in a square that may lack some at its end."""
    count, height, width, channels = pixels.shape
    rows, columns = _grid(count)
    whole = np.zeros((rows * columns, height, width, channels), np.uint8)
    whole[:count] = pixels
    ordered = whole.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(ordered).reshape(rows * height, columns * width, channels)


def decode_images(parts: Sequence[bytes], count: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Return the images of an answer, (``count``, height, width, channels), of the given ``shape`` (without count).

    ``parts`` are PNGs, one an image, or one :func:`sheet` of all.
    """
    from PIL import Image

    height, width, channels = shape
    pictures = [np.asarray(Image.open(io.BytesIO(part))) for part in parts]
    if len(parts) == count:
        return np.stack(pictures).reshape(count, height, width, channels)
    rows, columns = _grid(count)
    cells = pictures[0].reshape(rows, height, columns, width, channels).transpose(0, 2, 1, 3, 4)
    return cells.reshape(rows * columns, height, width, channels)[:count]


def _grid(count: int) -> tuple[int, int]:
    columns = math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns
