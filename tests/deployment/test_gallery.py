"""Galleries on disk."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evodiff.deployment.feedback.gallery import gallery_of, read_galleries, read_gallery, write_gallery
from evodiff.errors import EvodiffError

ENTRY = {"run": "digits", "candidate": "0123456789abcdef", "generation": 3}


def pixels(count: int = 4, channels: int = 3) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, 6, 5, channels), dtype=np.uint8)


@pytest.mark.parametrize(("channels", "labels"), [(3, None), (1, [0, 1, 0, 1])])
def test_a_gallery_comes_back_as_it_was_written(tmp_path: Path, channels: int, labels: list[int] | None) -> None:
    images = pixels(channels=channels)
    place = write_gallery(tmp_path, ENTRY, images, range(10, 14), labels)
    gallery = read_gallery(place)
    assert (gallery.version, gallery.entry) == ("digits/0123456789abcdef", ENTRY)
    assert gallery == gallery_of(tmp_path, gallery.version) == read_galleries(tmp_path, 1)[gallery.version]
    for image, picture in zip(images, gallery.pictures, strict=True):
        png = gallery.png(picture.key)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))).reshape(image.shape), image)
        assert hashlib.sha256(png).hexdigest() == picture.sha256
    assert [picture.key for picture in gallery.pictures] == (
        ["10", "11", "12", "13"] if labels is None else ["10/0", "11/1", "12/0", "13/1"]
    )


def test_the_first_gallery_of_a_version_stays(tmp_path: Path) -> None:
    place = write_gallery(tmp_path, ENTRY, pixels(), range(4))
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    assert write_gallery(tmp_path, ENTRY, 255 - pixels(), range(4)) == place
    assert {file.name: file.read_bytes() for file in place.iterdir()} == before
    assert [item.name for item in place.parent.iterdir()] == [place.name]


def test_a_candidate_that_was_trained_on_gets_a_new_gallery(tmp_path: Path) -> None:
    place = write_gallery(tmp_path, ENTRY, pixels(), range(4), digest="a" * 64)
    before = (place / "index.json").read_bytes()
    assert write_gallery(tmp_path, ENTRY, 255 - pixels(), range(4), digest="a" * 64) == place
    assert (place / "index.json").read_bytes() == before
    write_gallery(tmp_path, ENTRY, pixels(), range(4), digest="a" * 64, steps=20)  # drawn in other steps
    assert (place / "index.json").read_bytes() != before
    assert write_gallery(tmp_path, ENTRY, 255 - pixels(), range(4), digest="b" * 64) == place
    gallery = read_gallery(place)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(gallery.png("0")))), 255 - pixels()[0])
    assert [item.name for item in place.parent.iterdir()] == [place.name]


@pytest.mark.parametrize(
    ("entry", "images", "seeds", "labels"),
    [
        (ENTRY | {"run": "../up"}, pixels(), range(4), None),
        (ENTRY | {"candidate": "a/b"}, pixels(), range(4), None),
        (ENTRY | {"candidate": ".hidden"}, pixels(), range(4), None),
        (ENTRY, pixels().astype(np.float32), range(4), None),
        (ENTRY, pixels()[0], range(4), None),
        (ENTRY, pixels(channels=2), range(4), None),
        (ENTRY, pixels(), range(3), None),
        (ENTRY, pixels(0), [], None),
        (ENTRY, pixels(), [1, 2, 2, 3], None),
        (ENTRY, pixels(), [1, 2, 2, 3], [0, 1, 1, 0]),
    ],
)
def test_what_makes_no_gallery_is_refused_and_leaves_nothing(
    tmp_path: Path, entry: dict[str, Any], images: Any, seeds: Any, labels: list[int] | None
) -> None:
    with pytest.raises(EvodiffError):
        write_gallery(tmp_path / "g", entry, images, seeds, labels)
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"version": "digits"},
        {"version": "../x/y"},
        {"pictures": [{"seed": 1, "label": None, "file": "/etc/passwd", "sha256": "0"}]},
        {"pictures": [{"seed": 1, "label": None, "file": "../../s0001.png", "sha256": "0"}]},
        {"pictures": 7},
    ],
)
def test_an_index_that_was_changed_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    place = write_gallery(tmp_path, ENTRY, pixels(), range(4))
    index = place / "index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))
    with pytest.raises(EvodiffError):
        read_gallery(place)
    assert read_galleries(tmp_path, 5) == {}


def test_pictures_that_are_gone_or_not_there_are_refused(tmp_path: Path) -> None:
    gallery = read_gallery(write_gallery(tmp_path, ENTRY, pixels(), range(4)))
    with pytest.raises(EvodiffError, match="no picture"):
        gallery.png("9")
    (gallery.folder / gallery.pictures[0].file).unlink()
    with pytest.raises(EvodiffError, match="expected a file"):
        gallery.png(gallery.pictures[0].key)
