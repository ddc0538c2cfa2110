"""One image file of any kind to a square RGB picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evodiff.data.decoding import decode, readable_suffixes, to_rgb

RED, WHITE = (255, 0, 0), (255, 255, 255)


def colour_of(array: np.ndarray) -> tuple[int, ...]:
    """The one colour of a picture (3, size, size)."""
    colours = np.unique(array.reshape(3, -1), axis=1)
    assert colours.shape == (3, 1)
    return tuple(int(value) for value in colours[:, 0])


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "tiff", "webp", "ppm", "tga", "ico", "pcx"])
def test_formats_without_loss_give_the_same_colour(tmp_path: Path, ending: str) -> None:
    options = {"lossless": True} if ending == "webp" else {}
    path = saved(tmp_path / f"a.{ending}", Image.new("RGB", (16, 16), RED), **options)
    assert colour_of(decode(path, 8)) == RED


def test_jpeg_gives_nearly_the_same_colour_at_any_scale(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (640, 480), (200, 100, 50)), quality=95)
    decoded = decode(path, 8)
    assert decoded.shape == (3, 8, 8)
    assert np.abs(decoded.astype(int) - np.array([200, 100, 50])[:, None, None]).max() <= 3


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (4, 4), 77), (77, 77, 77)),
        (Image.new("1", (4, 4), 1), WHITE),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), WHITE),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 255)), RED),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 128)), (127, 127, 127)),
        (Image.new("LA", (4, 4), (0, 0)), WHITE),
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), RED),
        (Image.new("YCbCr", (4, 4), (255, 128, 128)), WHITE),
        (Image.new("HSV", (4, 4), (0, 255, 255)), RED),
        (Image.new("LAB", (4, 4), (255, 128, 128)), (254, 255, 254)),
        (Image.new("I;16", (4, 4), 65535), WHITE),
        (Image.new("I;16", (4, 4), 257), (1, 1, 1)),
        (Image.new("I", (4, 4), 65535), WHITE),
        (Image.new("I", (4, 4), 200), (200, 200, 200)),
        (Image.new("F", (4, 4), 0.2), (51, 51, 51)),
        (Image.new("F", (4, 4), 51.0), (51, 51, 51)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_mode_becomes_rgb(image: Image.Image, expected: tuple[int, int, int]) -> None:
    converted = to_rgb(image)
    assert converted.mode == "RGB"
    assert converted.getpixel((2, 2)) == expected


def test_palettes_are_looked_up_and_their_transparent_colour_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 255, *RED])
    assert colour_of(decode(saved(tmp_path / "opaque.png", image), 8)) == RED
    assert colour_of(decode(saved(tmp_path / "clear.png", image, transparency=1), 8)) == WHITE


def test_a_16_bit_file_keeps_its_brightness(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(np.full((8, 8), 257 * 100, dtype=np.uint16)))
    assert colour_of(decode(path, 8)) == (100, 100, 100)


def test_values_that_are_no_brightness_are_refused() -> None:
    for value in (float("nan"), -1.0, 1e9):
        with pytest.raises(ValueError, match="grey values must lie in"):
            to_rgb(Image.new("F", (4, 4), value))


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, WHITE)]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert colour_of(decode(path, 8)) == RED


def test_the_camera_s_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), WHITE)
    image.paste(RED, (0, 0, 8, 4))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by half a turn
    decoded = decode(saved(tmp_path / "a.png", image, exif=exif), 8)
    assert colour_of(decoded[:, :4]) == WHITE
    assert colour_of(decoded[:, 4:]) == RED


@pytest.mark.parametrize(("width", "height"), [(48, 16), (16, 48)])
def test_the_middle_is_kept(tmp_path: Path, width: int, height: int) -> None:
    image = Image.new("RGB", (width, height), WHITE)
    left, top = (width - 16) // 2, (height - 16) // 2
    image.paste(RED, (left, top, left + 16, top + 16))
    decoded = decode(saved(tmp_path / "a.png", image), 8)
    assert colour_of(decoded[:, 1:-1, 1:-1]) == RED
    assert decoded[1].max() < 40  # the border looks a little beyond itself, as it would if the whole were scaled


def test_shrinking_averages_instead_of_picking_pixels(tmp_path: Path) -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    decoded = decode(saved(tmp_path / "a.png", Image.fromarray(board.astype(np.uint8))), 8)
    assert np.abs(decoded.astype(int) - 127).max() <= 3


def test_a_picture_of_the_right_size_is_taken_pixel_by_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(decode(saved(tmp_path / "a.png", Image.fromarray(pixels)), 16), pixels.transpose(2, 0, 1))


def test_a_picture_of_extreme_proportions_stays_small(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("RGB", (60_000, 1), RED))
    assert colour_of(decode(path, 32)) == RED


def test_programs_outside_are_never_asked_to_draw() -> None:
    assert {".png", ".jpg", ".webp", ".tif"} <= readable_suffixes()
    assert not {".eps", ".ps", ".pdf", ".wmf", ".mpg"} & readable_suffixes()
