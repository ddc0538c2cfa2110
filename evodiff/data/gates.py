"""The gate of datasets: what images must be like before anything is trained on them.

:func:`check_dataset` judges a dataset, stores what it found and stops what is bad. It writes no page; for one call it
by :mod:`evodiff.gates`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from safetensors.numpy import save as save_tensors

from evodiff.data.catalogue import LARGEST_SIZE, SMALLEST_SIZE
from evodiff.data.dataset import PARTS, SMALLEST_PART, write_whole
from evodiff.data.dataset_tables import dataset_tables, is_picture
from evodiff.data.expectations import Expectation, above, among, between, empty, equal, true
from evodiff.data.gate_result import FORMAT, GateResult, conclude, offending_rows, stored_pass
from evodiff.data.judging import judge

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from evodiff.data.dataset import ImageDataset

SAMPLES: Final = "samples.safetensors"
OFFENDING: Final = "images.safetensors"

FEWEST_IMAGES: Final = 100
LARGEST_SHARE: Final = 0.9  # of one class
FEWEST_DISTINCT: Final = 0.5  # share of images that are no copy of another
MOST: Final = 0.99  # of images, where a few odd ones do no harm
MOST_NEW: Final = 0.9  # of validation and test images, that are no near-copies of training images

_SAMPLES_A_CLASS = 8
_SAMPLED_CLASSES = 20


def check_dataset(dataset: ImageDataset, *, out: Path) -> GateResult:
    """Judge a dataset, in a folder of its own below ``out``; one that passed there before is not judged again.

    Where it fails, ``quarantine`` in that folder holds the rows of the tables that offend, and the images
    (``images.safetensors``, uint8 or as they are, with their ``index``); the dataset itself stays as it is.

    Raises:
        GateFailed: an expectation that is critical is not met.
        EvodiffError: Great Expectations is missing.
    """
    expectations = dataset_expectations(dataset)
    folder = out / f"dataset-{_key(dataset, expectations)}"
    passed = stored_pass(folder)
    if passed is not None:
        return passed
    tables = dataset_tables(dataset)
    sizes = {str(row["part"]): int(row["images"]) for table in tables if table.name == "parts" for row in table.rows}
    result = GateResult(
        gate="dataset",
        subject=dataset.name,
        digest=dataset.digest,
        checks=tuple(judge(tables, expectations)),
        counts={
            "images": len(dataset.images),
            **sizes,
            "classes": len(dataset.class_names),
            "skipped files": len(dataset.skipped),
        },
        folder=folder,
        notes=(*dataset.notes, *(f"skipped {file}" for file in dataset.skipped)),
        tables={table.name.capitalize(): table.rows for table in tables if table.name == "classes"},
    )
    if is_picture(dataset.images):
        _store_images(folder / SAMPLES, dataset, _samples(dataset))
    offending = offending_rows(result, "images")
    if offending:
        _store_images(result.quarantine / OFFENDING, dataset, offending)
    return conclude(result, tables)


def dataset_expectations(dataset: ImageDataset) -> list[Expectation]:
    """Return what is expected of a dataset; more where it has labels."""
    return [*_of_the_whole(), *_of_images(), *(_of_classes(dataset) if dataset.labels is not None else ())]


def _of_the_whole() -> list[Expectation]:
    restore = "Restore the dataset's file, or open the dataset anew by its name."
    return [
        between(
            "enough images",
            "dataset",
            "distinct",
            FEWEST_IMAGES,
            meaning=f"There are at least {FEWEST_IMAGES} different images.",
            remedy="Add images; some thousands are needed to be learned.",
        ),
        between(
            "few repetitions",
            "dataset",
            "distinct_share",
            FEWEST_DISTINCT,
            meaning=f"At least {FEWEST_DISTINCT:.0%} of the images are different from each other.",
            remedy="Remove the copies.",
        ),
        between(
            "every part filled",
            "parts",
            "images",
            SMALLEST_PART,
            meaning=f"Each of {', '.join(PARTS)} has at least {SMALLEST_PART} images.",
            remedy="Add images.",
        ),
        equal(
            "every image labelled",
            "dataset",
            "labels",
            "images",
            meaning="There are as many labels as images.",
            remedy=restore,
        ),
        equal(
            "every image assigned",
            "dataset",
            "assigned",
            "images",
            meaning="Each image is assigned to a part.",
            remedy=restore,
        ),
        among(
            "8-bit pixels",
            "dataset",
            "type",
            ["uint8"],
            meaning="Pixels are stored as 8-bit numbers.",
            remedy="Scale the pixels to 0..255 and round them.",
        ),
        equal(
            "content as named",
            "dataset",
            "digest_found",
            "digest",
            meaning="The content has the digest that names it.",
            remedy=restore,
        ),
    ]


def _of_images() -> list[Expectation]:
    look = "Look at the images that are set aside; mend or remove them where they come from."
    return [
        among(
            "known part",
            "images",
            "part",
            PARTS,
            meaning=f"Each image is in one of {', '.join(PARTS)}.",
            remedy="Assign every image to a part.",
        ),
        among(
            "grey or RGB",
            "images",
            "channels",
            [1, 3],
            meaning="Images have 1 channel (grey) or 3 (RGB), which come before height and width.",
            remedy="Convert the images, or move the axis of channels to the front.",
        ),
        equal("square", "images", "height", "width", meaning="Images are as high as wide.", remedy="Crop the images."),
        between(
            "size",
            "images",
            "height",
            SMALLEST_SIZE,
            LARGEST_SIZE,
            meaning=f"Images have {SMALLEST_SIZE} to {LARGEST_SIZE} pixels a side.",
            remedy="Choose another image size.",
        ),
        true("finite pixels", "images", "finite", meaning="Every pixel is a finite number.", remedy=look),
        between(
            "darkest pixel",
            "images",
            "lowest",
            low=0,
            meaning="No pixel is below 0.",
            remedy="Scale the pixels to 0..255.",
        ),
        between(
            "brightest pixel",
            "images",
            "highest",
            high=255,
            meaning="No pixel is above 255.",
            remedy="Scale the pixels to 0..255.",
        ),
        above(
            "something to see",
            "images",
            "deviation",
            0,
            mostly=MOST,
            meaning=f"At least {MOST:.0%} of the images show more than one even colour.",
            remedy=look,
        ),
        empty(
            "no copies across parts",
            "images",
            "copy_of",
            meaning="No image is in two parts.",
            remedy="Put copies into one part: scores on images that were trained on say nothing.",
        ),
        empty(
            "few near-copies across parts",
            "images",
            "near_copy_of",
            mostly=MOST_NEW,
            meaning=f"At least {MOST_NEW:.0%} of the images are no near-copy of a training image in another part.",
            remedy="Remove what was saved twice, and neighbouring frames of films.",
        ),
    ]


def _of_classes(dataset: ImageDataset) -> list[Expectation]:
    return [
        among(
            "known class",
            "images",
            "class",
            dataset.class_names,
            meaning="The label of each image names one of the classes.",
            remedy="Correct the labels.",
        ),
        empty(
            "one class an image",
            "images",
            "contradicts",
            mostly=MOST,
            meaning=f"At least {MOST:.0%} of the images are in one class only.",
            remedy="Look at the images that are set aside, and remove them from all classes but one.",
        ),
        between(
            "every class trained on",
            "classes",
            "train",
            low=1,
            meaning="Every class has training images.",
            remedy="Add images of that class, or remove the class.",
        ),
        between(
            "balance",
            "classes",
            "share",
            high=LARGEST_SHARE,
            meaning=f"No class has more than {LARGEST_SHARE:.0%} of the images.",
            remedy="Add images of the other classes, or open the large class alone, without labels.",
        ),
        between(
            "every class scored on",
            "classes",
            "validation",
            low=1,
            meaning="Every class has validation images.",
            remedy="Add images of that class: its quality has no part in the scores.",
            severity="warning",
        ),
    ]


def _key(dataset: ImageDataset, expectations: Sequence[Expectation]) -> str:
    """Return what the verdict depends on as 16 hex digits: the dataset as it is, whatever it says of itself."""
    about = [FORMAT, dataset.name, dataset.digest, dataset.class_names, dataset.skipped, dataset.notes]
    found = hashlib.sha256(json.dumps([about, [asdict(item) for item in expectations]]).encode())
    for array in (dataset.images, dataset.split, dataset.labels):
        if array is not None:
            found.update(f"{array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _samples(dataset: ImageDataset) -> list[int]:
    """Return the first images of each class, of some classes."""
    if dataset.labels is None:
        return list(range(min(len(dataset.images), _SAMPLES_A_CLASS**2)))
    first = [np.flatnonzero(dataset.labels == label)[:_SAMPLES_A_CLASS] for label in range(_SAMPLED_CLASSES)]
    return [int(index) for found in first for index in found if index < len(dataset.images)]


def _store_images(path: Path, dataset: ImageDataset, indices: Sequence[int]) -> None:
    chosen = np.array(indices, dtype=np.int64)
    tensors: dict[str, NDArray[Any]] = {"images": np.ascontiguousarray(dataset.images[chosen]), "index": chosen}
    if dataset.labels is not None and len(dataset.labels) == len(dataset.images):
        tensors["labels"] = dataset.labels[chosen]
    write_whole(path, save_tensors(tensors))
