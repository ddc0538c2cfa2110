"""A user's own images."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evodiff.data import ImageDataset, open_dataset
from evodiff.data import folder as folder_module
from evodiff.data.folder import list_folder
from evodiff.errors import DatasetError


def picture(seed: int, *, size: tuple[int, int] = (12, 10), grey: bool = False) -> Image.Image:
    shape = size[::-1] if grey else (*size[::-1], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def fill(folder: Path, count: int, *, start: int = 0, grey: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(start, start + count):
        picture(seed, grey=grey).save(folder / f"{seed:04}.png")


def read(folder: Path, size: int = 8, **options) -> ImageDataset:
    return open_dataset(f"folder:{folder}", image_size=size, **options)


def test_folders_are_classes(tmp_path: Path) -> None:
    fill(tmp_path / "dog", 60)
    fill(tmp_path / "cat" / "tabby", 50, start=100)
    dataset = read(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert np.bincount(dataset.labels).tolist() == [50, 60]
    assert dataset.shape == (3, 8, 2)
    assert dataset.skipped == dataset.notes == ()


def test_images_beside_each_other_have_no_labels_and_32_pixels_unless_asked(tmp_path: Path) -> None:
    fill(tmp_path, 100)
    dataset = open_dataset(f"folder:{tmp_path}")
    assert dataset.labels is None
    assert dataset.shape == (3, 32, 0)


def test_one_class_alone_is_no_label(tmp_path: Path) -> None:
    fill(tmp_path / "cat", 100)
    dataset = read(tmp_path)
    assert dataset.labels is None
    assert dataset.class_names == ()
    assert any("one class folder only (cat)" in note for note in dataset.notes)


def test_grey_images_keep_one_channel_until_a_coloured_one_joins_and_then_stay_in_their_part(tmp_path: Path) -> None:
    fill(tmp_path, 100, grey=True)
    grey = read(tmp_path)
    assert grey.shape == (1, 8, 0)
    picture(1000).save(tmp_path / "colour.png")
    colour = read(tmp_path)
    assert colour.shape == (3, 8, 0)
    part = {image.tobytes(): part for image, part in zip(colour.images, colour.split, strict=True)}
    for image, before in zip(grey.images, grey.split, strict=True):
        assert part[np.repeat(image, 3, axis=0).tobytes()] == before


def test_names_and_order_of_files_do_not_change_the_digest(tmp_path: Path) -> None:
    fill(tmp_path / "one", 100)
    fill(tmp_path / "two", 100)
    for file in (tmp_path / "two").iterdir():
        file.rename(file.with_name(f"{9999 - int(file.stem)}.png"))
    assert read(tmp_path / "one").digest == read(tmp_path / "two").digest


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    fill(tmp_path, 100)
    calls: list[tuple[int, int]] = []
    read(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 100) for done in range(1, 101)]


def test_broken_files_are_skipped_and_named_up_to_five_per_cent(tmp_path: Path) -> None:
    fill(tmp_path, 95)
    whole = (tmp_path / "0000.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.gif").touch()
    dataset = read(tmp_path)
    assert len(dataset) == 95
    assert [line.partition(":")[0] for line in dataset.skipped] == ["cut.png", "empty.gif", "text.jpg"]
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.png").write_text("not an image")
    with pytest.raises(DatasetError, match=r"at most 5% broken files .*, found 7 of 102: a\.png: .*b\.png") as caught:
        read(tmp_path)
    assert "Mend or remove" in caught.value.remedy


def test_a_folder_of_broken_files_only_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(DatasetError, match="found 1 of 1"):
        read(tmp_path)


def test_a_class_of_which_nothing_can_be_read_is_no_class(tmp_path: Path) -> None:
    fill(tmp_path / "cat", 60)
    fill(tmp_path / "eel", 60, start=100)
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "a.png").write_text("not an image")
    dataset = read(tmp_path)
    assert dataset.class_names == ("cat", "eel")
    assert np.bincount(dataset.labels).tolist() == [60, 60]


def test_hidden_files_and_other_files_are_ignored_with_a_note(tmp_path: Path) -> None:
    fill(tmp_path, 100)
    (tmp_path / "read me.txt").write_text("hello")
    (tmp_path / ".thumbnail.png").write_bytes(b"")
    fill(tmp_path / ".cache", 2)
    dataset = read(tmp_path)
    assert len(dataset) == 100
    assert dataset.skipped == ()
    assert "1 not images, ignored (read me.txt)" in dataset.notes
    assert "2 hidden, ignored (.cache, .thumbnail.png)" in dataset.notes


def test_images_without_an_ending_are_found_by_their_content(tmp_path: Path) -> None:
    fill(tmp_path, 100)
    for file in list(tmp_path.iterdir()):
        file.rename(file.with_suffix(""))
    (tmp_path / "LICENSE").write_text("text")
    dataset = read(tmp_path)
    assert len(dataset) == 100
    assert dataset.notes == ("1 not images, ignored (LICENSE)",)


def test_links_out_of_the_folder_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    fill(inside / "a", 60)
    fill(inside / "b", 60, start=100)
    fill(outside, 3, start=200)
    (inside / "a" / "link out.png").symlink_to(outside / "0200.png")
    (inside / "a" / "link in.png").symlink_to(inside / "a" / "0000.png")
    (inside / "c").symlink_to(outside)
    (inside / "b" / "loop").symlink_to(inside)
    listing = list_folder(inside)
    assert len(listing.images) == 121
    assert listing.links == ("a/link out.png", "b/loop", "c")
    assert any("not followed (a/link out.png, b/loop, c)" in note for note in read(inside).notes)


def test_a_named_pipe_does_not_stop_the_reading(tmp_path: Path) -> None:
    fill(tmp_path, 100)
    os.mkfifo(tmp_path / "pipe.png")
    assert len(read(tmp_path)) == 100


def test_names_that_are_not_unicode_are_read(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"tea"):
        folder = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
        fill(folder, 60, start=len(name) * 100)
    dataset = read(tmp_path)
    assert dataset.class_names == ("caf\ufffd", "tea")
    dataset.save(tmp_path / "dataset.safetensors")
    assert ImageDataset.load(tmp_path / "dataset.safetensors").class_names == dataset.class_names


def bomb(width: int, height: int) -> bytes:
    """A grey PNG of width x height that is all zeros: a few kilobytes that ask for gigabytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_picture_that_would_fill_the_memory_is_skipped(tmp_path: Path, side: int) -> None:
    fill(tmp_path, 100)
    (tmp_path / "bomb.png").write_bytes(bomb(side, side))
    dataset = read(tmp_path)
    assert len(dataset) == 100
    assert "bomb.png: DecompressionBomb" in dataset.skipped[0]


def test_more_images_than_memory_should_hold_are_refused_before_they_are_read(tmp_path: Path, monkeypatch) -> None:
    fill(tmp_path, 10)
    monkeypatch.setattr(folder_module, "MOST_BYTES", 1000)
    with pytest.raises(DatasetError, match="10 images of 8 pixels"):
        read(tmp_path)


def test_a_folder_that_is_not_there_or_not_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="found nothing"):
        read(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="found a file"):
        read(tmp_path / "file")


def test_a_folder_without_images_is_an_error_that_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"found none \(nothing\)"):
        read(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match=r"found none \(1 not images, ignored \(notes.txt\)\)"):
        read(tmp_path)


def test_images_beside_class_folders_are_an_error(tmp_path: Path) -> None:
    fill(tmp_path / "cat", 3)
    fill(tmp_path, 1)
    with pytest.raises(DatasetError, match=r"found 1 beside \(0000.png\) and 1 folders \(cat\)") as caught:
        read(tmp_path)
    assert "Move" in caught.value.remedy


def test_folders_named_after_splits_are_an_error_that_says_what_to_open(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "cat", 3)
    fill(tmp_path / "Test" / "cat", 3)
    with pytest.raises(DatasetError, match="named after splits: Test, train") as caught:
        read(tmp_path)
    assert f"folder:{tmp_path / 'Test'}" in caught.value.remedy
