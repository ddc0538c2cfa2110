"""Images that were served, a bounded sample of them: distinct ones, as many of each class."""

from __future__ import annotations

import hashlib
import heapq
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ImageSample:
    """Of all distinct images that it was offered, of each class ``quota`` drawn by chance.

    An image is distinct by seed and label: those of one version are equal where both are, and clients that all leave
    the seed at its default would pass one image for a thousand. It keeps the images of the lowest ranks, a rank being a
    keyed digest of seed and label (bottom-k sampling, Cohen & Kaplan 2007), so that every distinct image is as likely
    to stay, however often it was asked for, and no client can choose seeds that stay.

    Args:
        classes: how many there are; 0 is one without a name.
        quota: images of each.
        key: of the digest, at most 64 bytes.
    """

    def __init__(self, classes: int, quota: int, key: bytes) -> None:
        self._quota, self._key = quota, key
        self._kept: list[list[tuple[int, NDArray[np.uint8]]]] = [[] for _ in range(max(classes, 1))]
        self._ranks: set[int] = set()

    def wants(self, seed: int, label: int) -> bool:
        """Tell whether the image of a seed and a label would be kept."""
        rank, kept = self._rank(seed, label), self._kept[label]
        return rank not in self._ranks and (len(kept) < self._quota or rank < -kept[0][0])

    def add(self, seed: int, label: int, image: NDArray[np.uint8]) -> None:
        """Keep an image that is wanted, (height, width, channels), instead of that of the highest rank if need be."""
        rank, kept = self._rank(seed, label), self._kept[label]
        self._ranks.add(rank)
        if len(kept) < self._quota:
            heapq.heappush(kept, (-rank, image))
        else:
            highest, _ = heapq.heappushpop(kept, (-rank, image))
            self._ranks.discard(-highest)

    @property
    def full(self) -> bool:
        """Whether every class has its quota."""
        return all(len(kept) == self._quota for kept in self._kept)

    @property
    def missing(self) -> list[int]:
        """The classes of which there is no image."""
        return [label for label, kept in enumerate(self._kept) if not kept]

    def __len__(self) -> int:
        """How many images :meth:`balanced` returns."""
        return min(map(len, self._kept)) * len(self._kept)

    def balanced(self) -> NDArray[np.uint8]:
        """Return as many images of each class, (n, height, width, channels), of each those of the lowest ranks."""
        least = min(map(len, self._kept))
        images = [image for kept in self._kept for _, image in heapq.nlargest(least, kept, key=lambda item: item[0])]
        return np.stack(images) if images else np.zeros((0, 0, 0, 0), np.uint8)

    def _rank(self, seed: int, label: int) -> int:
        text = f"{seed}/{label}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=self._key).digest())
