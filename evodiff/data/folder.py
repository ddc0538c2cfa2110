"""A user's own images: a folder per class, or all of them in one folder without labels."""

from __future__ import annotations

import os
import stat
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from evodiff.data.dataset import ImageDataset, Progress, assemble
from evodiff.data.decoding import decode, is_image
from evodiff.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MOST_BROKEN: Final = 0.05
MOST_BYTES: Final = 8 * 2**30  # of decoded images in memory

_MOST_THREADS: Final = 4  # Pillow decodes outside the interpreter's lock; a picture may take 350 MB while it is decoded
_EXAMPLES: Final = 3
_SPLIT_NAMES: Final = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


@dataclass(frozen=True)
class Listing:
    """What a folder holds: paths of images relative to it, and what was passed over."""

    images: tuple[str, ...]
    hidden: tuple[str, ...]
    others: tuple[str, ...]
    links: tuple[str, ...]

    def notes(self) -> list[str]:
        """Say what was passed over."""
        passed_over = {
            "hidden, ignored": self.hidden,
            "not images, ignored": self.others,
            "links that leave the folder or lead to folders, not followed": self.links,
        }
        return [f"{len(paths)} {what} ({_examples(paths)})" for what, paths in passed_over.items() if paths]


def read_folder(path: str, *, name: str, image_size: int, progress: Progress | None = None) -> ImageDataset:
    """Read every image below ``path`` as (n, channels, image_size, image_size).

    First-level folders that hold images are the classes, in alphabetical order; images below a deeper folder belong to
    the class above. One class alone is no label. Colours are kept as one grey channel only if no image has any.

    Raises:
        DatasetError: no folder, no images, images both beside and inside class folders, more than 5 % broken files,
            folders named after splits, or more than memory should hold.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise DatasetError(f"Expected a folder of images at {root}, found {found}.", remedy="Check the path.")
    listing = list_folder(root)
    classes = _classes(listing, root)
    needed = 3 * image_size**2 * len(listing.images)
    if needed > MOST_BYTES:
        raise DatasetError(
            f"{len(listing.images):,} images of {image_size} pixels in {root} need {needed / 2**30:.1f} GiB, "
            f"expected at most {MOST_BYTES / 2**30:.0f}.",
            remedy="Take a smaller --image-size or a folder with fewer images.",
        )
    images, kept, skipped = _decode_all(root, listing.images, image_size, progress)
    labels = np.array([classes.index(_class_of(file)) for file in kept], dtype=np.int64) if classes else None
    notes = listing.notes()
    present = sorted(set(labels.tolist())) if labels is not None else []
    if labels is not None and len(present) < len(classes):  # all files of a small class may be broken
        labels = np.searchsorted(present, labels).astype(np.int64)
        classes = [classes[index] for index in present]
    if len(classes) == 1:
        notes.append(f"one class folder only ({_printable(classes[0])}): the images have no labels")
        labels, classes = None, []
    grey = bool(np.all(images[:, 0] == images[:, 1]) and np.all(images[:, 0] == images[:, 2]))
    return assemble(
        name,
        images[:, :1] if grey else images,
        labels,
        [_printable(item) for item in classes],
        skipped=skipped,
        notes=notes,
    )


def list_folder(root: Path) -> Listing:
    """List the files below ``root``, each by its path from there, sorted."""
    images: list[str] = []
    hidden: list[str] = []
    others: list[str] = []
    links: list[str] = []
    inside = root.resolve()
    for file in _walk(root, hidden, links):
        whole = root / file
        if os.path.basename(file).startswith("."):
            hidden.append(file)
        elif whole.is_symlink() and not whole.resolve().is_relative_to(inside):
            links.append(file)
        elif _is_file(whole) and is_image(whole):
            images.append(file)
        else:
            others.append(file)
    return Listing(tuple(sorted(images)), tuple(sorted(hidden)), tuple(sorted(others)), tuple(sorted(links)))


def _walk(root: Path, hidden: list[str], links: list[str]) -> Iterator[str]:
    """Paths from ``root`` of all files in folders that are not hidden and not behind a link."""
    for folder, subfolders, files in os.walk(root):
        above = os.path.relpath(folder, root)
        here = "" if above == os.curdir else above
        followed = []
        for subfolder in subfolders:
            if subfolder.startswith("."):
                hidden.append(os.path.join(here, subfolder))
            elif os.path.islink(os.path.join(folder, subfolder)):
                links.append(os.path.join(here, subfolder))
            else:
                followed.append(subfolder)
        subfolders[:] = sorted(followed)
        for file in sorted(files):
            yield os.path.join(here, file)


def _is_file(path: Path) -> bool:
    """Whether it is a regular file: opening a named pipe would wait for ever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _classes(listing: Listing, root: Path) -> list[str]:
    """First-level folders that hold images; none if the images lie in ``root`` itself."""
    beside = [file for file in listing.images if not _class_of(file)]
    classes = sorted({_class_of(file) for file in listing.images} - {""})
    if not listing.images:
        notes = "; ".join(listing.notes()) or "nothing"
        raise DatasetError(
            f"Expected images in {root}, found none ({notes}).",
            remedy="Name a folder that holds images, or one folder of images per class.",
        )
    if beside and classes:
        raise DatasetError(
            f"Expected the images of {root} in folders, one per class, or all beside each other; found "
            f"{len(beside)} beside ({_examples(beside)}) and {len(classes)} folders ({_examples(classes)}).",
            remedy="Move the single images into a class folder or away.",
        )
    if len(classes) > 1 and {item.lower() for item in classes} <= _SPLIT_NAMES:
        raise DatasetError(
            f"Expected a folder per class in {root}, found folders named after splits: {', '.join(classes)}.",
            remedy=f"Name one of them, folder:{root / classes[0]}; evodiff splits the images by itself.",
        )
    return classes


def _class_of(file: str) -> str:
    """First folder of a path, empty for a file without one."""
    first, separator, _ = file.partition(os.sep)
    return first if separator else ""


def _decode_all(
    root: Path, files: Sequence[str], size: int, progress: Progress | None
) -> tuple[NDArray[np.uint8], list[str], list[str]]:
    """Decode files into (n, 3, size, size), the n files that could be, and a line for each that could not."""
    images: list[NDArray[np.uint8]] = []
    kept: list[str] = []
    skipped: list[str] = []

    def attempt(file: str) -> NDArray[np.uint8] | str:
        try:
            return decode(root / file, size)
        except Exception as error:  # decoders fed with foreign bytes raise almost anything; the file is to be named
            return f"{_printable(file)}: {type(error).__name__}: {error}".replace(f"{root}{os.sep}", "")

    with warnings.catch_warnings(), ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        # Pillow refuses pictures of over 179 million pixels and warns from 89 million: refuse these too.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # odd metadata is not the user's concern
        for done, (file, outcome) in enumerate(zip(files, pool.map(attempt, files), strict=True), start=1):
            if isinstance(outcome, str):
                skipped.append(outcome)
            else:
                images.append(outcome)
                kept.append(file)
            if progress is not None:
                progress(done, len(files))
    if len(skipped) > MOST_BROKEN * len(files):
        raise DatasetError(
            f"Expected at most {MOST_BROKEN:.0%} broken files in {root}, found {len(skipped)} of {len(files)}: "
            f"{_examples(skipped, separator='; ')}.",
            remedy="Mend or remove these files.",
        )
    return np.stack(images), kept, skipped


def _examples(items: Sequence[str], *, separator: str = ", ") -> str:
    shown = separator.join(_printable(item) for item in items[:_EXAMPLES])
    return shown if len(items) <= _EXAMPLES else f"{shown}{separator}..."


def _printable(name: str) -> str:
    """A file name with what is not UTF-8 in it replaced, so that it can be stored and printed."""
    return os.fsencode(name).decode("utf-8", errors="replace")
