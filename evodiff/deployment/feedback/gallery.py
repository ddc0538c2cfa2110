"""Galleries: pictures that a version drew in its smoke test, kept so that people may compare versions by them.

::

    GALLERIES/RUN/ID/index.json        version, entry, digest of the weights, and of each picture its seed, label, file
                                       and SHA-256
    GALLERIES/RUN/ID/s0007.l3.png      what the version drew from seed 7 for label 3

Two versions can be compared by pictures of one seed and label.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evodiff.data.png import encode_png
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

FORMAT: Final = 1
INDEX: Final = "index.json"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
_FILE = re.compile(r"s\d{1,10}(\.l\d{1,6})?\.png")
_LARGEST_INDEX = 1 << 20  # bytes
_LARGEST_PICTURE = 1 << 24


@dataclass(frozen=True)
class Picture:
    """A picture of a gallery: the ``seed`` and the ``label``, None without classes, that it was drawn from."""

    seed: int
    label: int | None
    file: str
    sha256: str

    @property
    def key(self) -> str:
        """What pictures have in common that may be compared."""
        return f"{self.seed}" if self.label is None else f"{self.seed}/{self.label}"


@dataclass(frozen=True)
class Gallery:
    """The pictures of a version, RUN/ID; they lie in ``folder``."""

    version: str
    entry: Mapping[str, Any]
    pictures: tuple[Picture, ...]
    folder: Path

    def png(self, key: str) -> bytes:
        """Return the picture of a key.

        Raises:
            EvodiffError: there is none, or its file is not the one that was written.
        """
        picture = next((item for item in self.pictures if item.key == key), None)
        if picture is None:
            raise EvodiffError(f"{self.version} has no picture {key!r}.", remedy="Take one that it has.")
        content = _read(self.folder / picture.file, _LARGEST_PICTURE)
        if hashlib.sha256(content).hexdigest() != picture.sha256:
            raise _damaged(self.folder / picture.file, "the digest in its index", "another")
        return content


def write_gallery(
    folder: Path | str,
    entry: Mapping[str, Any],
    images: NDArray[np.uint8],
    seeds: Sequence[int],
    labels: Sequence[int] | None = None,
    digest: str | None = None,
    steps: int | None = None,
) -> Path:
    """Write the gallery of a released entry below ``folder``, or leave the one of these weights; return where it is.

    Args:
        folder: where galleries are.
        entry: the released thing, with ``run`` and ``candidate``.
        images: an (n, height, width, channels) array, channels 1 or 3.
        seeds: of each image, different for each or with different labels.
        labels: of each image, where there are classes.
        digest: SHA-256 of the weights that drew them. A candidate that was trained on since gets a new gallery.
        steps: of the sampler that drew them; likewise.

    Raises:
        EvodiffError: the parts do not fit each other, or the entry names a place that is none.
    """
    run, candidate = _name(str(entry["run"])), _name(str(entry["candidate"]))
    if (
        images.ndim != 4
        or images.dtype.name != "uint8"
        or images.shape[-1] not in (1, 3)
        or not 0 < len(images) == len(seeds)
    ):
        raise EvodiffError(
            f"Expected uint8 images (n, height, width, 1 or 3) and as many seeds, found {images.dtype} {images.shape} "
            f"and {len(seeds)} seeds.",
            remedy="Give the images as they are shown.",
        )
    drawn = [Picture(int(seed), None if labels is None else int(labels[i]), "", "") for i, seed in enumerate(seeds)]
    if len({picture.key for picture in drawn}) < len(drawn):
        raise EvodiffError("Expected each seed and label once in a gallery.", remedy="Leave the second one out.")
    place = Path(folder) / run / candidate
    if _drawn_by(place) == (digest, steps) and (place / INDEX).exists():
        return place
    making = place.with_name(f".{candidate}.{secrets.token_hex(4)}")
    making.mkdir(parents=True)
    try:
        pictures = [_write(making, picture, image) for picture, image in zip(drawn, images, strict=True)]
        named = {"version": f"{run}/{candidate}", "entry": dict(entry), "digest": digest, "steps": steps}
        index = {"format": FORMAT, **named, "pictures": pictures}
        (making / INDEX).write_text(json.dumps(index, sort_keys=True, indent=1) + "\n", encoding="utf-8")
        if place.exists():
            place.rename(making.with_name(f"{making.name}.old"))
        making.rename(place)
    except OSError:
        if not (place / INDEX).exists():  # no twin has written it meanwhile
            raise
    finally:
        for left in (making, making.with_name(f"{making.name}.old")):
            shutil.rmtree(left, ignore_errors=True)
    return place


def _drawn_by(place: Path) -> tuple[object, object]:
    """Return the digest of the weights and the steps that a gallery is of, None where it names none or is damaged."""
    try:
        index = json.loads(_read(place / INDEX, _LARGEST_INDEX))
        return index.get("digest"), index.get("steps")
    except (EvodiffError, ValueError, AttributeError):
        return None, None


def _write(folder: Path, picture: Picture, image: NDArray[np.uint8]) -> dict[str, Any]:
    content = encode_png(image)
    name = f"s{picture.seed:04d}.png" if picture.label is None else f"s{picture.seed:04d}.l{picture.label}.png"
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return {"seed": picture.seed, "label": picture.label, "file": name, "sha256": digest}


def read_gallery(folder: Path | str) -> Gallery:
    """Read the gallery in a folder; its pictures are read, and their digests compared, when they are asked for.

    Raises:
        EvodiffError: there is none, or its index is damaged.
    """
    place = Path(folder)
    try:
        index = json.loads(_read(place / INDEX, _LARGEST_INDEX))
        if index["format"] != FORMAT:
            raise ValueError(f"format {index['format']!r}")
        pictures = tuple(_picture(item) for item in index["pictures"])
        run, candidate = str(index["version"]).split("/")
        return Gallery(f"{_name(run)}/{_name(candidate)}", dict(index["entry"]), pictures, place)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(place / INDEX, f"an index of format {FORMAT}", f"{type(error).__name__}: {error}") from error


def gallery_of(folder: Path | str, version: str) -> Gallery:
    """Read the gallery of a version, RUN/ID, below ``folder``.

    Raises:
        EvodiffError: there is none, or its index is damaged.
    """
    run, _, candidate = version.partition("/")
    return read_gallery(Path(folder) / _name(run) / _name(candidate))


def read_galleries(folder: Path | str, newest: int) -> dict[str, Gallery]:
    """Return the ``newest`` galleries below a folder, by version; one that cannot be read is left out."""
    ages = [(_age(index), index.parent) for index in Path(folder).glob(f"*/[!.]*/{INDEX}")]
    found = {}
    for _, place in sorted(ages, key=lambda item: (-item[0], str(item[1])))[:newest]:
        with suppress(EvodiffError):
            gallery = read_gallery(place)
            found[gallery.version] = gallery
    return found


def _age(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # removed meanwhile
        return 0


def _picture(data: Mapping[str, Any]) -> Picture:
    label = data["label"]
    picture = Picture(int(data["seed"]), None if label is None else int(label), str(data["file"]), str(data["sha256"]))
    if not _FILE.fullmatch(picture.file):
        raise ValueError(f"the file {picture.file!r}")
    return picture


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise EvodiffError(f"Not the name of a run or a candidate: {name[:80]!r}.", remedy="Name a released entry.")
    return name


def _read(path: Path, largest: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise _damaged(path, "a file", str(error.strerror)) from error
    if len(content) > largest:
        raise _damaged(path, f"at most {largest} bytes", "more")
    return content


def _damaged(path: Path, expected: str, found: str) -> EvodiffError:
    return EvodiffError(
        f"{path}: expected {expected}, found {found}.", remedy="Remove its folder; the next smoke test draws it again."
    )
