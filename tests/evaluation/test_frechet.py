from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from evodiff.evaluation.frechet import frechet_distance, frechet_floor


class Given(torch.nn.Module):
    """A torchmetrics feature extractor for what are features already; it insists on pictures."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.flatten(1).double()


def exactly(mean, covariance, n: int, seed: int):
    """An (n, d) sample whose own mean and covariance are exactly the given ones."""
    rng = np.random.default_rng(seed)
    mean = np.asarray(mean, float)
    x = rng.normal(size=(n, len(mean)))
    x -= x.mean(axis=0)
    whitened = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return whitened @ np.linalg.cholesky(np.asarray(covariance, float)).T + mean


def test_the_distance_of_gaussians_with_commuting_covariances_is_the_closed_form():
    x = exactly([1, 0, -2], np.diag([4.0, 1.0, 0.25]), 50, 0)
    y = exactly([0, 0, 1], np.diag([1.0, 9.0, 0.25]), 70, 1)
    # ‖μ₁ - μ₂‖² + Σ(σ₁ - σ₂)²
    assert frechet_distance(x, y) == pytest.approx((1 + 9) + (1 + 4 + 0), rel=1e-9)


def test_the_distance_is_that_of_torchmetrics_where_all_dimensions_are_kept():
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(24, 24))
    x, y = rng.normal(size=(300, 24)) @ mixing + 0.3, rng.normal(size=(200, 24))
    metric = FrechetInceptionDistance(feature=Given(24)).set_dtype(torch.float64)
    metric.update(torch.from_numpy(y).view(200, 24, 1, 1), real=True)
    metric.update(torch.from_numpy(x).view(300, 24, 1, 1), real=False)
    assert frechet_distance(x, y) == pytest.approx(metric.compute().item(), rel=1e-9)


def test_only_the_principal_components_of_the_reference_count():
    reference = exactly(np.zeros(4), np.diag([9.0, 4.0, 1e-3, 1e-4]), 60, 0)
    x = exactly([1, 2, 30, 40], np.diag([9.0, 1.0, 5.0, 5.0]), 60, 1)
    assert frechet_distance(x, reference, dimensions=2) == pytest.approx(1 + 4 + 0 + 1, rel=1e-9)


def test_the_distance_does_not_change_under_rotation_and_is_zero_to_itself():
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(10, 10)))
    x, y = rng.normal(size=(80, 10)) * np.arange(1, 11), rng.normal(size=(90, 10)) + 1
    assert frechet_distance(x @ rotation, y @ rotation, dimensions=5) == pytest.approx(
        frechet_distance(x, y, dimensions=5), rel=1e-9
    )
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_more_dimensions_than_degrees_of_freedom_are_not_asked_for():
    rng = np.random.default_rng(1)
    assert np.isfinite(frechet_distance(rng.normal(size=(20, 100)), rng.normal(size=(30, 100))))


@pytest.mark.parametrize(("samples", "size", "d"), [(400, 250, 32), (1000, 1000, 16)])
def test_the_floor_is_the_distance_of_two_fresh_sets_of_those_sizes(samples, size, d):
    rng = np.random.default_rng(2)
    scale = np.linspace(2, 0.2, d)
    fresh = [
        frechet_distance(rng.normal(size=(samples, d)) * scale, rng.normal(size=(size, d)) * scale) for _ in range(20)
    ]
    floor = frechet_floor(rng.normal(size=(size, d)) * scale, samples)
    assert floor.value == pytest.approx(np.mean(fresh), rel=0.2)
    assert floor.standard_error == pytest.approx(np.std(fresh, ddof=1), rel=0.7)


def test_features_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match=r"found \(9, 2\) and \(9, 3\)"):
        frechet_distance(np.zeros((9, 2)), np.zeros((9, 3)))
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(np.full((9, 2), np.inf), np.zeros((9, 2)))
