from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from evodiff.evaluation.memorisation import memorisation


@pytest.fixture(scope="module")
def digits():
    """Training, test, and further unseen images, as pixels."""
    images = load_digits().data / 8 - 1
    order = np.random.default_rng(0).permutation(len(images))
    return images[order[:1000]], images[order[1000:1350]], images[order[1350:]]


def test_copies_of_training_images_are_flagged_and_named(digits):
    train, test, _ = digits
    result = memorisation(train[100:300], train, test)
    assert result.copies
    assert result.share == 1
    assert result.nearest.tolist() == list(range(100, 300))
    assert result.nearest_distance.max() < 1e-5


def test_copies_with_some_noise_are_flagged(digits):
    train, test, _ = digits
    noisy = train[:200] + 0.1 * np.random.default_rng(1).normal(size=(200, 64))
    assert memorisation(noisy, train, test).excess > 20


def test_a_tenth_of_copies_among_fresh_images_is_flagged(digits):
    train, test, fresh = digits
    result = memorisation(np.concatenate([fresh[:360], train[:40]]), train, test)
    assert result.copies
    assert set(result.closest(40)) == set(range(360, 400))


def test_fresh_images_are_not_flagged(digits):
    train, test, fresh = digits
    result = memorisation(fresh, train, test)
    assert not result.copies
    assert result.share == pytest.approx(result.expected_share, abs=3 * result.standard_error)


def test_the_share_counts_the_images_below_the_threshold_which_the_quantile_of_test_images_is(digits):
    train, test, fresh = digits
    result = memorisation(np.concatenate([fresh, train[:40]]), train, test, quantile=0.1)
    assert result.share == (result.relative_distance < result.threshold).mean()
    unseen = memorisation(test, train, test, quantile=0.1)
    assert unseen.threshold == result.threshold
    assert unseen.share == pytest.approx(0.1, abs=1 / len(test))


def test_images_of_low_contrast_are_near_to_everything_and_still_not_copies():
    rng = np.random.default_rng(4)

    def pictures(count, contrast):
        return np.exp(contrast)[:, None] * rng.normal(size=(count, 32))

    train, test = (pictures(count, rng.uniform(-1, 1, count)) for count in (800, 300))
    result = memorisation(pictures(300, rng.uniform(-1, 0, 300)), train, test)
    assert result.median_distance < 0.8 * result.median_test_distance
    assert not result.copies


def test_the_excess_is_standard_normal_where_nothing_is_memorised():
    rng = np.random.default_rng(0)
    excess = [
        memorisation(rng.normal(size=(300, 12)), rng.normal(size=(300, 12)), rng.normal(size=(200, 12))).excess
        for _ in range(200)
    ]
    assert abs(np.mean(excess)) < 0.4
    assert np.std(excess) == pytest.approx(1, abs=0.2)


def test_a_training_set_smaller_than_the_neighbourhood_and_of_equal_images_has_an_answer():
    train = np.zeros((2, 4))
    result = memorisation(np.zeros((5, 4)), train, np.ones((6, 4)))
    assert result.share == 1
    assert np.isfinite(result.median_distance)
