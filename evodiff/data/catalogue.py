"""Datasets by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evodiff.errors import DatasetError

if TYPE_CHECKING:
    from evodiff.data.dataset import ImageDataset, Progress

KNOWN: Final = ("digits", "photos", "photos:16", "photos:32", "shapes", "shapes:SIZE", "folder:PATH")

SMALLEST_SIZE: Final = 4
LARGEST_SIZE: Final = 256


def open_dataset(name: str, *, image_size: int | None = None, progress: Progress | None = None) -> ImageDataset:
    """Open a dataset.

    ``digits`` (1797 scans, 8 px, ten classes), ``photos`` (patches of two photographs, 16 or 32 px, two classes),
    ``shapes`` (drawn, of any size, five classes), ``folder:PATH`` (a user's images, 32 px unless given).

    Args:
        name: one of the names above; ``photos:16`` and ``shapes:24`` say their size themselves.
        image_size: pixels a side, 4 to 256; None takes the dataset's own.
        progress: told (done, total) while a folder is read.

    Raises:
        DatasetError: the name or the size is not one of these, or the folder cannot be used.
    """
    kind, _, argument = name.partition(":")
    if image_size is not None and not SMALLEST_SIZE <= image_size <= LARGEST_SIZE:
        raise DatasetError(
            f"Image size must be from {SMALLEST_SIZE} to {LARGEST_SIZE} pixels, found {image_size}.",
            remedy="Give another --image-size, or leave it out to take the dataset's own.",
        )
    if kind == "folder" and argument:
        from evodiff.data.folder import read_folder

        return read_folder(argument, name=name, image_size=image_size or 32, progress=progress)
    if kind == "digits" and not argument:
        from evodiff.data.digits import read_digits

        return read_digits(image_size=image_size or 8)
    if kind == "photos":
        from evodiff.data.photos import SIZES, read_photos

        return read_photos(image_size=_size(name, argument, image_size, default=32, allowed=SIZES))
    if kind == "shapes":
        from evodiff.data.shapes import draw_shapes

        sizes = range(SMALLEST_SIZE, LARGEST_SIZE + 1)
        return draw_shapes(image_size=_size(name, argument, image_size, default=32, allowed=sizes))
    raise DatasetError(
        f"Unknown dataset: expected one of {', '.join(KNOWN)}; found {name!r}.",
        remedy="Your own images are folder:PATH, a folder per class or all of them in one folder.",
    )


def _size(name: str, argument: str, image_size: int | None, *, default: int, allowed: tuple[int, ...] | range) -> int:
    """Size that a name such as ``photos:16`` and an image size agree on."""
    named = int(argument) if argument.isdecimal() else None
    if argument and named is None:
        raise DatasetError(
            f"Dataset {name!r} should end in a number of pixels, found {argument!r}.",
            remedy=f"Write {name.partition(':')[0]}:{default}.",
        )
    if named is not None and image_size is not None and named != image_size:
        raise DatasetError(
            f"Dataset {name!r} says {named} pixels, but an image size of {image_size} was asked for.",
            remedy="Give the size once.",
        )
    size = named or image_size or default
    if size not in allowed:
        expected = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else " or ".join(map(str, allowed))
        raise DatasetError(
            f"Dataset {name!r} comes in {expected} pixels, found {size}.",
            remedy=f"Take {name.partition(':')[0]}:{default}.",
        )
    return size
