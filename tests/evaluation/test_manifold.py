from __future__ import annotations

import numpy as np
import pytest
from prdc import compute_prdc

from evodiff.evaluation.distances import pairwise_distances
from evodiff.evaluation.manifold import precision_recall_density_coverage


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.7, 5.0])
def test_the_four_numbers_are_those_of_the_prdc_package(k, shift):
    rng = np.random.default_rng(k)
    real, generated = rng.normal(size=(250, 12)), rng.normal(size=(180, 12)) * 0.9 + shift
    theirs = compute_prdc(real, generated, nearest_k=k)
    ours = precision_recall_density_coverage(real, generated, k).to_json()
    assert ours.pop("neighbours") == k
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_fresh_images_of_the_same_distribution_have_density_one_and_the_known_coverage():
    rng = np.random.default_rng(0)
    counts = [
        precision_recall_density_coverage(rng.normal(size=(400, 6)), rng.normal(size=(400, 6)), 5) for _ in range(8)
    ]
    assert np.mean([count.density for count in counts]) == pytest.approx(1, abs=0.05)
    assert np.mean([count.coverage for count in counts]) == pytest.approx(1 - 1 / 2**5, abs=0.02)
    assert np.mean([count.precision - count.recall for count in counts]) == pytest.approx(0, abs=0.03)


def test_a_generator_that_makes_one_of_two_kinds_is_precise_but_does_not_cover():
    rng = np.random.default_rng(1)
    real = np.concatenate([rng.normal(size=(200, 4)), rng.normal(size=(200, 4)) + 20])
    counts = precision_recall_density_coverage(real, rng.normal(size=(300, 4)), 5)
    assert counts.precision > 0.85
    assert counts.recall < 0.55
    assert counts.coverage == pytest.approx(0.5, abs=0.05)


def test_too_few_images_for_the_neighbours_are_refused():
    with pytest.raises(ValueError, match="more than 5 rows on both sides, found 9 and 5"):
        precision_recall_density_coverage(np.zeros((9, 2)), np.zeros((5, 2)), 5)


def test_pairwise_distances_are_those_of_the_definition():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(20, 7)), rng.normal(size=(15, 7))
    np.testing.assert_allclose(pairwise_distances(x, y), np.linalg.norm(x[:, None] - y[None], axis=2), rtol=1e-9)
    assert np.diag(pairwise_distances(x, x)).max() < 1e-6
