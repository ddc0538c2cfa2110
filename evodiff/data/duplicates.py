"""Images that are seen twice: to the bit, or as near-copies (saved again, scaled) by their grey thumbnails."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# A near-copy differs by less than this share of the thumbnail's own contrast. Nearest neighbours across the parts of
# the built-in datasets are at .15 and more, those of 2000 photographs of CIFAR-10 at .37; such a photograph, saved
# again as JPEG, is at .006 of its origin with quality 90 and at .03 with quality 50 (medians).
NEAR: Final = 0.05

_SIDE: Final = 8
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601; what saving again changes least
_CHUNK: Final = 256  # thumbnails compared with all others at once
_LEAST_CONTRAST: Final = 1.0  # of 255: what is flatter has no picture to compare


def pixel_hashes(images: NDArray[np.generic]) -> list[bytes]:
    """Return a hash of the bytes of each image."""
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in images]


def exact_copies(hashes: Sequence[bytes], groups: Sequence[object]) -> list[int | None]:
    """For each of n images return the index of the first equal one in *another* of the n ``groups``, or None."""
    first: dict[bytes, dict[object, int]] = {}
    for index, (found, group) in enumerate(zip(hashes, groups, strict=True)):
        first.setdefault(found, {}).setdefault(group, index)
    return [
        next((index for other, index in first[found].items() if other != group), None)
        for found, group in zip(hashes, groups, strict=True)
    ]


def near_copies(queries: NDArray[np.uint8], references: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each of m images (m, channels, size, size) return the index of the nearest reference if it is a near-copy.

    Returns:
        (m,) indices into ``references``, -1 where none is near. O(m n), on grey thumbnails of about 8 x 8 pixels.
    """
    found = np.full(len(queries), -1, dtype=np.int64)
    if not len(queries) or not len(references):
        return found
    against = _thumbnails(references)
    squares = np.square(against).sum(axis=1)
    for start in range(0, len(queries), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        thumbnails = _thumbnails(queries[chunk])
        distances = squares - 2 * thumbnails @ against.T  # less the query's own square, which is the same for all
        nearest = distances.argmin(axis=1)
        difference = np.sqrt(np.square(thumbnails - against[nearest]).mean(axis=1))
        contrast = thumbnails.std(axis=1)
        near = (difference <= NEAR * contrast) & (contrast >= _LEAST_CONTRAST)
        found[chunk][near] = nearest[near]
    return found


def _thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, side * side) means of the brightness of blocks; sides below 8 stay as they are."""
    count, channels, size = images.shape[:3]
    weights = _LUMA if channels == len(_LUMA) else np.full(channels, 1 / channels, dtype=np.float32)
    brightness = np.tensordot(images.astype(np.float32), weights, axes=([1], [0]))
    block = max(1, size // _SIDE)
    side = size // block
    edge = side * block
    blocks = brightness[:, :edge, :edge].reshape(count, side, block, side, block)
    means: NDArray[np.float32] = blocks.mean(axis=(2, 4), dtype=np.float32).reshape(count, -1)
    return means
