"""Procedural pictures: one antialiased, rotated shape of one colour on a ground of another; the class is its kind."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evodiff.data.dataset import ImageDataset, assemble

KINDS: Final = ("circle", "square", "triangle", "star", "cross")
IMAGES: Final = 4000

_SUPERSAMPLING = 4
_CHUNK = 100  # images drawn at once: a few megabytes at 32 pixels
_LEAST_CONTRAST = 0.35  # distance of the two colours in the RGB cube of side 1

Grid = NDArray[np.float64]


def draw_shapes(*, image_size: int = 32, images: int = IMAGES, seed: int = 0) -> ImageDataset:
    """Draw ``images`` pictures (n, 3, size, size), a fifth of each kind.

    Centre, radius (15 to 38 % of the side), rotation and both colours are drawn from ``seed``.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    labels = np.arange(images, dtype=np.int64) % len(KINDS)
    pixels = np.empty((images, 3, image_size, image_size), dtype=np.uint8)
    for start in range(0, images, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        pixels[chunk] = _draw(labels[chunk], image_size, rng)
    return assemble(f"shapes:{image_size}", pixels, labels, KINDS)


def _draw(kinds: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    count = len(kinds)
    radius = 0.15 + 0.23 * rng.random(count)
    centre = radius[:, None] + (1 - 2 * radius[:, None]) * rng.random((count, 2))
    angle = 2 * math.pi * rng.random(count)
    colour, ground = _two_colours(count, rng)

    fine = size * _SUPERSAMPLING
    axis = (np.arange(fine) + 0.5) / fine
    down = (axis[None, :, None] - centre[:, 0, None, None]) / radius[:, None, None]
    right = (axis[None, None, :] - centre[:, 1, None, None]) / radius[:, None, None]
    cosine, sine = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    inside = _inside(kinds, cosine * right + sine * down, cosine * down - sine * right)
    blocks = (count, size, _SUPERSAMPLING, size, _SUPERSAMPLING)
    coverage = inside.reshape(blocks).mean(axis=(2, 4))[:, None]  # (count, 1, size, size)

    shade = ground[:, :, None, None] * (1 - coverage) + colour[:, :, None, None] * coverage
    pixels: NDArray[np.uint8] = np.rint(255 * shade).astype(np.uint8)
    return pixels


def _inside(kinds: NDArray[np.int64], x: Grid, y: Grid) -> NDArray[np.bool_]:
    """Whether points (count, fine, fine) lie in the shape of their kind, all of which fit the unit circle."""
    result = np.empty(x.shape, dtype=bool)
    for kind, name in enumerate(KINDS):
        chosen = kinds == kind
        result[chosen] = _TESTS[name](x[chosen], y[chosen])
    return result


def _circle(x: Grid, y: Grid) -> NDArray[np.bool_]:
    return x**2 + y**2 <= 1


def _square(x: Grid, y: Grid) -> NDArray[np.bool_]:
    return np.maximum(np.abs(x), np.abs(y)) <= math.sqrt(0.5)


def _triangle(x: Grid, y: Grid) -> NDArray[np.bool_]:
    slope = math.sqrt(3)
    return (y >= -0.5) & (y + slope * np.abs(x) <= 1)


def _star(x: Grid, y: Grid) -> NDArray[np.bool_]:
    """Five points: between a point (radius 1) and a notch (radius .4) the border is a straight line."""
    sector = math.pi / 5
    turned = np.abs(np.mod(np.arctan2(x, y) + sector, 2 * sector) - sector)  # angle from the nearest point
    radius = np.hypot(x, y)
    across, along = radius * np.sin(turned), radius * np.cos(turned)
    notch_across, notch_along = 0.4 * math.sin(sector), 0.4 * math.cos(sector)
    return across * (1 - notch_along) <= notch_across * (1 - along)


def _cross(x: Grid, y: Grid) -> NDArray[np.bool_]:
    arm = 0.3
    reach = math.sqrt(1 - arm**2)
    return (np.minimum(np.abs(x), np.abs(y)) <= arm) & (np.maximum(np.abs(x), np.abs(y)) <= reach)


_TESTS: Final = {"circle": _circle, "square": _square, "triangle": _triangle, "star": _star, "cross": _cross}


def _two_colours(count: int, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """Draw (count, 3) colours of shape and ground; a pair too much alike is moved apart through the cube's centre."""
    colour, ground = rng.random((count, 3)), rng.random((count, 3))
    alike = np.linalg.norm(colour - ground, axis=1) < _LEAST_CONTRAST
    ground[alike] = np.mod(ground[alike] + 0.5, 1)
    return colour, ground
