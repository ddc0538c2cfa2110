"""A set of images of one size, with labels, a split and a digest; one safetensors file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from evodiff.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Progress = Callable[[int, int], None]
"""Told how many of how many pieces of work are done."""

Part = Literal["train", "validation", "test"]
PARTS: Final[tuple[Part, ...]] = ("train", "validation", "test")

FORMAT: Final = "evodiff-dataset-1"

# Nearest-neighbour metrics look at five neighbours of an image, so a part needs six.
SMALLEST_PART: Final = 6

_TRAIN_SHARE: Final = 0.70
_VALIDATION_SHARE: Final = 0.15


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Square images of one size, in an order and with a split that depend on nothing but their content.

    Attributes:
        name: what it was opened by, such as ``digits`` or ``folder:pictures``.
        images: (n, channels, size, size) uint8; 1 channel (grey) or 3 (RGB).
        labels: (n,) int64 indices into ``class_names``, or None.
        class_names: one name a class; empty without labels.
        split: (n,) uint8, 0 train, 1 validation, 2 test.
        digest: SHA-256 of images, labels, class names and split, as 64 hex digits.
        skipped: files that could not be read, each with its reason.
        notes: what else a user should know about how the images were gathered.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    split: NDArray[np.uint8]
    digest: str
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"ImageDataset({self.name!r}, images={self.images.shape}, classes={len(self.class_names)})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, size, classes); classes is 0 without labels."""
        return self.images.shape[1], self.images.shape[2], len(self.class_names)

    def part(self, name: Part) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
        """Copy the images (m, channels, size, size) and labels (m,) of ``train``, ``validation`` or ``test``."""
        chosen = self.split == PARTS.index(name)
        return self.images[chosen], None if self.labels is None else self.labels[chosen]

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, whole or not at all. Equal datasets of one name are equal bytes.

        Raises:
            DatasetError: the file cannot be written.
        """
        tensors: dict[str, NDArray[Any]] = {"images": self.images, "split": self.split}
        if self.labels is not None:
            tensors["labels"] = self.labels
        about = {
            "format": FORMAT,
            "name": self.name,
            "class_names": self.class_names,
            "digest": self.digest,
            "skipped": self.skipped,
            "notes": self.notes,
        }
        # One metadata key only: safetensors writes several in no fixed order.
        content = save_tensors(tensors, metadata={"evodiff": json.dumps(about, sort_keys=True)})
        write_whole(Path(path), content)

    @classmethod
    def load(cls, path: Path | str) -> ImageDataset:
        """Read what :meth:`save` wrote.

        Raises:
            DatasetError: the file is missing, damaged, of another format, or not what its digest says.
        """
        path = Path(path)
        try:
            content = path.read_bytes()
            tensors = load_tensors(content)
            about = read_metadata(content)
        except (OSError, SafetensorError, ValueError) as error:
            raise DatasetError(
                f"Expected a dataset in {path}, but it cannot be read: {error}.",
                remedy="Restore the file, or open the dataset anew by its name.",
            ) from error
        if about.get("format") != FORMAT:
            raise DatasetError(
                f"Expected a dataset of format {FORMAT!r} in {path}, found {about.get('format')!r}.",
                remedy="Open it with the version of evodiff that wrote it, or open the dataset anew by its name.",
            )
        dataset = cls(
            name=about["name"],
            images=tensors["images"],
            labels=tensors.get("labels"),
            class_names=tuple(about["class_names"]),
            split=tensors["split"],
            digest=about["digest"],
            skipped=tuple(about["skipped"]),
            notes=tuple(about["notes"]),
        )
        found = content_digest(dataset.images, dataset.labels, dataset.class_names, dataset.split)
        if found != dataset.digest:
            raise DatasetError(
                f"Expected content of digest {dataset.digest[:16]} in {path}, found {found[:16]}: it was changed.",
                remedy="Restore the file, or open the dataset anew by its name.",
            )
        return dataset


def scale(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Map pixels 0..255 to float32 in [-1, 1], the range that networks are trained in."""
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def unscale(images: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Map [-1, 1] to pixels 0..255, rounding and clipping; the inverse of :func:`scale`."""
    pixels: NDArray[np.uint8] = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
    return pixels


def assemble(
    name: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    class_names: Sequence[str],
    *,
    split: NDArray[np.uint8] | None = None,
    skipped: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> ImageDataset:
    """Make a dataset out of images (n, channels, size, size): order them, split them, name them by their digest.

    The order is that of the images' content hashes: it mixes the classes, so that the first m images of a part are a
    fair sample of it, and does not depend on file names. Without ``split`` (n,) each image is put into a part by its
    own hash alone, see :func:`split_of`.

    Raises:
        DatasetError: a part would hold fewer than ``SMALLEST_PART`` images.
    """
    hashes = [content_hash(image) for image in images]
    if split is None:
        split = np.array([split_of(item) for item in hashes], dtype=np.uint8)
    tie_break = np.zeros(len(images), dtype=np.int64) if labels is None else labels
    order = sorted(range(len(images)), key=lambda index: (hashes[index][8:], int(tie_break[index])))
    images, split = np.ascontiguousarray(images[order]), split[order]
    labels = None if labels is None else labels[order].astype(np.int64)
    _require_parts(name, split, distinct=len(set(hashes)))
    class_names = tuple(class_names)
    digest = content_digest(images, labels, class_names, split)
    return ImageDataset(name, images, labels, class_names, split, digest, tuple(skipped), tuple(notes))


def content_hash(image: NDArray[np.uint8]) -> bytes:
    """SHA-256 of an image (channels, size, size) as RGB: a grey image has the hash of its RGB twin.

    So no image changes its part when the first coloured image joins a grey dataset.
    """
    rgb = np.broadcast_to(image, (3, *image.shape[1:]))
    return hashlib.sha256(b"evodiff image\0" + np.ascontiguousarray(rgb).tobytes()).digest()


def split_of(image_hash: bytes) -> int:
    """Part of the image with this hash: 0 train (70 %), 1 validation (15 %), 2 test (15 %).

    It depends on this one image, so a duplicate is in the part of its twin, and adding images moves no other.
    """
    position = int.from_bytes(image_hash[:8], "big") / 2**64
    return int(position >= _TRAIN_SHARE) + int(position >= _TRAIN_SHARE + _VALIDATION_SHARE)


def content_digest(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    class_names: Sequence[str],
    split: NDArray[np.uint8],
) -> str:
    """SHA-256 over everything that training and scoring can see, as 64 hex digits."""
    head = {"format": FORMAT, "shape": images.shape, "class_names": list(class_names), "labelled": labels is not None}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(images, dtype=np.uint8).tobytes())
    digest.update(np.ascontiguousarray(split, dtype=np.uint8).tobytes())
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    return digest.hexdigest()


def read_metadata(content: bytes) -> dict[str, Any]:
    """Read what evodiff noted about itself in the bytes of a safetensors file; empty where it noted nothing."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    about: dict[str, Any] = json.loads(header.get("__metadata__", {}).get("evodiff", "{}"))
    return about


def _require_parts(name: str, split: NDArray[np.uint8], *, distinct: int) -> None:
    sizes = np.bincount(split, minlength=len(PARTS))
    if sizes.min() >= SMALLEST_PART:
        return
    found = ", ".join(f"{size} {part}" for part, size in zip(PARTS, sizes, strict=True))
    raise DatasetError(
        f"Too few images in {name}: expected at least {SMALLEST_PART} in each part, "
        f"found {len(split)} images, {distinct} of them different ({found}).",
        remedy="Add images; a hundred different ones are enough to be split, some thousands to be learned.",
    )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, over one that is there.

    Raises:
        DatasetError: the disk is full or read-only; what was stored is intact.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise DatasetError(
            f"Expected to write {len(content):,} bytes to {path}, but: {error.strerror or error}.",
            remedy="Free space or choose a folder that can be written; nothing that was stored is lost.",
        ) from error
