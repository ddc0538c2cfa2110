"""Patches of the two sample photographs of scikit-learn (a temple, a dahlia); the class is the photograph.

Patches overlap their neighbours, so a split of patches would put nearly the same pixels into train and test. Here the
split is one of *regions*: each photograph is cut into blocks, each block belongs to one part, and every patch lies
inside one block: no pixel of a photograph is seen in two parts, so a generated patch that equals a test patch was not
copied. Blocks of the parts alternate along diagonals, so that each part has its share of sky, roof and petal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from evodiff.data.dataset import PARTS, ImageDataset, Part, assemble

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES: Final = (16, 32)

# Small blocks make the parts alike (KID of train against validation: .05 here, 1.2 with blocks of 85 pixels), large
# ones leave more room for patches to differ in.
BLOCK: Final = 42  # 10 x 15 blocks in a photograph of 427 x 640
WINDOW: Final = 32  # pixels of the photograph in a patch, a side
STRIDE: Final = 2

# Along a row of blocks and from one row to the next the parts follow this cycle: 5/7, 1/7, 1/7.
_CYCLE: Final[tuple[Part, ...]] = ("train", "train", "validation", "train", "train", "test", "train")
_ROW_SHIFT: Final = 3


@dataclass(frozen=True)
class Window:
    """A square of ``WINDOW`` pixels whose top left corner is at (row, column) of a photograph, and its part."""

    row: int
    column: int
    part: Part


def read_photos(*, image_size: int = 32) -> ImageDataset:
    """Cut (10800, 3, size, size) patches, ``size`` 16 or 32, out of the two photographs."""
    bunch = load_sample_images()
    names = [str(name).rsplit(".", 1)[0] for name in bunch.filenames]
    names = [name.replace("\\", "/").rsplit("/", 1)[-1] for name in names]
    patches, labels, split = [], [], []
    for label, pixels in enumerate(bunch.images):
        photograph = Image.fromarray(pixels)
        for window in windows(*pixels.shape[:2]):
            # Cut first: resize with a box would look at the pixels around it.
            patch = photograph.crop((window.column, window.row, window.column + WINDOW, window.row + WINDOW))
            patches.append(np.asarray(patch.resize((image_size, image_size), Image.Resampling.BICUBIC)))
            labels.append(label)
            split.append(PARTS.index(window.part))
    return assemble(
        f"photos:{image_size}",
        np.stack(patches).transpose(0, 3, 1, 2),
        np.array(labels, dtype=np.int64),
        names,
        split=np.array(split, dtype=np.uint8),
    )


def windows(height: int, width: int) -> Iterator[Window]:
    """List every window of a photograph; windows of different parts share no pixel."""
    for block_row in range(height // BLOCK):
        for block_column in range(width // BLOCK):
            part = _CYCLE[(block_column + _ROW_SHIFT * block_row) % len(_CYCLE)]
            for down in range(0, BLOCK - WINDOW + 1, STRIDE):
                for right in range(0, BLOCK - WINDOW + 1, STRIDE):
                    yield Window(block_row * BLOCK + down, block_column * BLOCK + right, part)
