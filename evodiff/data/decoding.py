"""One image file to a square RGB picture."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageCms, ImageOps

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Formats that Pillow hands to a program outside (Ghostscript), or knows by their header only.
_NO_PICTURES: Final = frozenset({"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})

_TRANSPARENT: Final = ("RGBA", "LA", "PA", "RGBa", "La")


@cache
def readable_formats() -> tuple[str, ...]:
    """Names of the formats that this Pillow decodes by itself."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - _NO_PICTURES))


@cache
def readable_suffixes() -> frozenset[str]:
    """File name endings of these formats, such as ``.png``."""
    formats = readable_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def is_image(path: Path) -> bool:
    """Whether a file claims to be an image: by its ending, or by its first bytes where it has none."""
    if path.suffix:
        return path.suffix.lower() in readable_suffixes()
    try:
        with Image.open(path, formats=readable_formats()):
            return True
    except Exception:
        # Decoders fed with foreign bytes raise almost anything; the answer is the same.
        return False


def decode(path: Path, size: int) -> NDArray[np.uint8]:
    """Read the first frame of a file as (3, size, size) RGB: upright, over white, scaled, cropped to the middle.

    The middle square is resampled at once (bicubic, antialiased, looking at what is around it), which is the same as
    scaling the shorter side to ``size`` and cropping, and keeps a picture of extreme proportions from growing.

    Raises:
        Exception: whatever Pillow raises for a broken, truncated or huge file; ``ValueError`` for values that are no
            brightness.
    """
    with Image.open(path, formats=readable_formats()) as image:
        image.draft(None, (4 * size, 4 * size))  # lets a JPEG decode at a fraction of its size, with room to antialias
        upright = to_rgb(ImageOps.exif_transpose(image))
    side = min(upright.size)
    left, top = (upright.width - side) / 2, (upright.height - side) / 2
    box = (left, top, left + side, top + side)
    square = upright.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode of Pillow to RGB of 8 bits, transparency over white, 16 bits rounded to 8."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        return Image.alpha_composite(white, opaque).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Map grey values to 0..255 by the narrowest of the usual ranges that holds them all: 0..1 (floats), 8 or 16 bits.

    An array of 16-bit integers is always read as 0..65535, however dark it is.
    """
    brightness = values.astype(np.float64)
    low, high = float(brightness.min()), float(brightness.max())
    if not np.isfinite([low, high]).all() or low < 0 or high > 65535:
        raise ValueError(f"grey values must lie in 0..65535, found {low:g}..{high:g}")
    if values.dtype == np.uint16 or high > 255:
        top = 65535.0
    else:
        top = 1.0 if values.dtype.kind == "f" and high <= 1 else 255.0
    pixels: NDArray[np.uint8] = np.rint(brightness * (255 / top)).astype(np.uint8)
    return pixels
