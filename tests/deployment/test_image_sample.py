"""A bounded sample of what was served: distinct images, alike for every class, and the same chance for each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from evodiff.data.png import encode_png
from evodiff.deployment.router.image_sample import ImageSample
from evodiff.deployment.worker.sheets import decode_images, sheet

Offers = list[tuple[int, int]]


def picture(seed: int, label: int) -> NDArray[np.uint8]:
    return np.array([[[seed], [label]]], np.uint8)


def offer(sample: ImageSample, offers: Offers) -> None:
    for seed, label in offers:
        if sample.wants(seed, label):
            sample.add(seed, label, picture(seed, label))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), max_size=150))
def test_a_sample_is_of_distinct_images_and_balanced_whatever_is_asked_for(offers: Offers) -> None:
    sample = ImageSample(3, 5, b"key")
    offer(sample, offers)
    distinct = [len({seed for seed, of in offers if of == label}) for label in range(3)]
    images = sample.balanced()
    assert len(sample) == len(images) == 3 * min(*distinct, 5)
    assert sample.full == (min(distinct) >= 5)
    assert sample.missing == [label for label in range(3) if not distinct[label]]
    found = {(int(seed), int(label)) for seed, label in images.reshape(-1, 2)}
    assert len(found) == len(images)
    assert found <= set(offers)
    assert all(sum(of == label for _, of in found) == len(images) // 3 for label in range(3))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=100))
def test_what_stays_does_not_depend_on_the_order_nor_on_how_often_it_is_asked_for(seeds: list[int]) -> None:
    first, second = (ImageSample(0, 10, b"key") for _ in range(2))
    offer(first, [(seed, 0) for seed in seeds])
    offer(second, [(seed, 0) for seed in sorted(seeds, reverse=True) * 3])
    np.testing.assert_array_equal(first.balanced(), second.balanced())


def test_every_distinct_image_is_as_likely_to_stay() -> None:
    kept = np.zeros(20)
    for number in range(2000):
        sample = ImageSample(0, 5, number.to_bytes(4))
        offer(sample, [(seed, 0) for seed in range(20) for _ in range(1 + 50 * (seed == 3))])
        kept[sample.balanced()[:, 0, 0, 0]] += 1
    assert kept.sum() == 2000 * 5
    assert abs(kept - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 5, 9, 12])
def test_the_images_of_an_answer_come_out_of_a_sheet_and_of_single_pictures(count: int, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 6, channels), dtype=np.uint8)
    for parts in ([encode_png(sheet(images))], [encode_png(image) for image in images]):
        np.testing.assert_array_equal(decode_images(parts, count, (4, 6, channels)), images)
