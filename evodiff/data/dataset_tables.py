"""A dataset as tables of plain rows, for its gate: ``dataset``, ``parts``, ``classes`` and ``images``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from evodiff.data.dataset import PARTS, ImageDataset, content_digest
from evodiff.data.duplicates import exact_copies, near_copies, pixel_hashes
from evodiff.data.judging import Row, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MISSING: Final = "missing"

_CHUNK: Final = 1024


def dataset_tables(dataset: ImageDataset) -> list[Table]:
    """Describe a dataset, whatever is wrong with it."""
    count = len(dataset.images)
    parts = _padded([_name(PARTS, int(part)) for part in dataset.split], count)
    labels = [MISSING] * count
    if dataset.labels is not None:
        labels = _padded([_name(dataset.class_names, int(label)) for label in dataset.labels], count)
    hashes = pixel_hashes(dataset.images)
    overview = _overview(dataset, distinct=len(set(hashes)))
    tables = [
        Table("dataset", tuple(overview), [overview]),
        Table("parts", ("part", "images"), [{"part": name, "images": parts.count(name)} for name in PARTS]),
        Table("images", *_image_rows(dataset, hashes, parts, labels), key=3),
    ]
    if dataset.labels is not None:
        tables.append(Table("classes", *_class_rows(dataset, parts, labels)))
    return tables


def is_picture(images: NDArray[Any]) -> bool:
    """Whether an array holds images that can be shown: (n, 1 or 3, size, size) uint8."""
    return images.dtype == np.uint8 and images.ndim == 4 and images.shape[1] in (1, 3) and 0 not in images.shape


def _overview(dataset: ImageDataset, *, distinct: int) -> Row:
    images, labels, count = dataset.images, dataset.labels, len(dataset.images)
    digest = content_digest(images, labels, dataset.class_names, dataset.split) if images.dtype == np.uint8 else ""
    return {
        "dataset": dataset.name,
        "images": count,
        "distinct": distinct,
        "distinct_share": distinct / max(1, count),
        "labels": count if labels is None else len(labels),
        "assigned": len(dataset.split),
        "type": str(images.dtype),
        "digest": dataset.digest,
        "digest_found": digest,
    }


def _class_rows(
    dataset: ImageDataset, parts: Sequence[str], labels: Sequence[str]
) -> tuple[tuple[str, ...], list[Row]]:
    counts = {name: dict.fromkeys(map(str, PARTS), 0) for name in dataset.class_names}
    for part, label in zip(parts, labels, strict=True):
        if label in counts and part in PARTS:
            counts[label][part] += 1
    rows: list[Row] = [
        {"class": name, **found, "images": sum(found.values()), "share": sum(found.values()) / max(1, len(labels))}
        for name, found in counts.items()
    ]
    return ("class", *PARTS, "images", "share"), rows


def _image_rows(
    dataset: ImageDataset, hashes: Sequence[bytes], parts: Sequence[str], labels: Sequence[str]
) -> tuple[tuple[str, ...], list[Row]]:
    images = dataset.images
    channels, height, width = (*images.shape[1:], 0, 0, 0)[:3]
    columns = {
        "image": range(len(images)),
        "part": parts,
        "class": labels,
        "channels": [channels] * len(images),
        "height": [height] * len(images),
        "width": [width] * len(images),
        **_pixel_statistics(images),
        "copy_of": exact_copies(hashes, parts),
        "near_copy_of": _near_training(images, parts),
        "contradicts": exact_copies(hashes, labels),
    }
    names = tuple(columns)
    return names, [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _pixel_statistics(images: NDArray[Any]) -> dict[str, list[Any]]:
    """Return ``finite``, ``lowest``, ``highest`` and ``deviation`` of each image, in the units of its pixels."""
    found: dict[str, list[Any]] = {"finite": [], "lowest": [], "highest": [], "deviation": []}
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        pixels = chunk.reshape(len(chunk), -1).astype(np.float64) if chunk.size else np.full((len(chunk), 1), np.nan)
        finite = np.isfinite(pixels)
        for name, values in {
            "finite": finite.all(axis=1),
            "lowest": np.where(finite, pixels, np.inf).min(axis=1),
            "highest": np.where(finite, pixels, -np.inf).max(axis=1),
            "deviation": np.where(finite, pixels, 0.0).std(axis=1),
        }.items():
            found[name].extend(values.tolist())
    return found


def _near_training(images: NDArray[Any], parts: Sequence[str]) -> list[int | None]:
    """For each image outside the training part return the index of a training image that is a near-copy, or None."""
    found: list[int | None] = [None] * len(images)
    if not is_picture(images):
        return found
    training = np.flatnonzero(np.array(parts) == "train")
    others = np.flatnonzero(np.array(parts) != "train")
    nearest = near_copies(images[others], images[training])
    for index, near in zip(others.tolist(), nearest.tolist(), strict=True):
        found[index] = int(training[near]) if near >= 0 else None
    return found


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if 0 <= index < len(names) else f"{index}?"


def _padded(names: list[str], count: int) -> list[str]:
    return [*names, *[MISSING] * (count - len(names))][:count]
