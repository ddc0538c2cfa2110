from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.kid import KernelInceptionDistance

from evodiff.evaluation.kid import Estimate, kid, kid_difference, kid_floor


class Given(torch.nn.Module):
    """A torchmetrics feature extractor for what are features already."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.double()


def normal(seed: int, n: int, d: int, shift: float = 0.0):
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


@pytest.mark.parametrize("shift", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("n", "d"), [(60, 4), (200, 48)])
def test_kid_is_that_of_torchmetrics_on_one_subset_of_everything(n, d, shift):
    x, y = normal(0, n, d, shift), normal(1, n, d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all features
        metric = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=n, degree=3, gamma=1 / d, coef=1.0)
    metric.update(torch.from_numpy(y), real=True)
    metric.update(torch.from_numpy(x), real=False)
    assert kid(x, y).value == pytest.approx(metric.compute()[0].item(), rel=1e-10, abs=1e-12)


def by_definition(x, y):
    def k(a, b):
        return (a @ b / len(a) + 1) ** 3

    within = [np.mean([k(a, b) for a, b in itertools.permutations(side, 2)]) for side in (x, y)]
    return sum(within) - 2 * np.mean([k(a, b) for a in x for b in y])


@settings(max_examples=30, deadline=None)
@given(n=st.integers(4, 7), m=st.integers(4, 7), d=st.integers(1, 3), seed=st.integers(0, 1000))
def test_kid_of_unequal_sets_is_the_sum_over_pairs(n, m, d, seed):
    x, y = normal(seed, n, d, 0.5), normal(seed + 1, m, d)
    assert kid(x, y).value == pytest.approx(by_definition(x, y), rel=1e-9, abs=1e-9)


def test_far_from_zero_the_standard_error_is_that_of_leaving_each_row_out_once():
    x, y = normal(0, 14, 3, 6.0), normal(1, 11, 3)
    left_out = (
        np.array([by_definition(np.delete(x, i, 0), y) for i in range(len(x))]),
        np.array([by_definition(x, np.delete(y, j, 0)) for j in range(len(y))]),
    )
    jackknife = sum((len(part) - 1) / len(part) * np.square(part - part.mean()).sum() for part in left_out)
    assert kid(x, y).standard_error == pytest.approx(np.sqrt(jackknife), rel=0.02)


@pytest.mark.parametrize(
    ("n", "m", "d", "shift"), [(80, 80, 8, 0.0), (150, 60, 8, 0.0), (100, 60, 8, 0.3), (100, 60, 8, 1.0)]
)
def test_the_standard_error_is_the_spread_of_repeated_estimates_and_the_mean_has_no_bias(n, m, d, shift):
    rng = np.random.default_rng(5)
    estimates = [kid(rng.normal(size=(n, d)) + shift, rng.normal(size=(m, d))) for _ in range(600)]
    values = np.array([estimate.value for estimate in estimates])
    errors = np.array([estimate.standard_error for estimate in estimates])
    assert np.median(errors) == pytest.approx(values.std(), rel=0.15)
    assert values.mean() == pytest.approx(population_value(d, shift), abs=4 * values.std() / np.sqrt(len(values)))


def population_value(d: int, shift: float) -> float:
    """KID without chance, of N(shift, I) against N(0, I), by the first three moments of u = a·b/d."""

    def mean_kernel(first: float, second: float) -> float:
        mean = first * second  # of u, since a·b/d averages d products
        variance = (first**2 + second**2 + 1) / d
        # E(ab - E ab)³ for a ~ N(p, 1), b ~ N(q, 1) is 6pq; d of them are averaged.
        third = 6 * first * second / d**2
        return 1 + 3 * mean + 3 * (variance + mean**2) + third + 3 * mean * variance + mean**3

    return mean_kernel(shift, shift) + mean_kernel(0, 0) - 2 * mean_kernel(shift, 0)


def test_the_floor_of_one_distribution_is_within_its_error_of_zero_and_symmetric():
    train, validation = normal(0, 900, 32), normal(1, 250, 32)
    floor = kid_floor(train, validation)
    assert abs(floor.value) < 3 * floor.standard_error
    assert kid_floor(validation, train).value == pytest.approx(floor.value, rel=1e-9)


def test_kid_may_be_negative():
    values = [kid(normal(seed, 30, 8), normal(seed + 100, 30, 8)).value for seed in range(20)]
    assert min(values) < 0 < max(values)


@pytest.mark.parametrize(
    ("x", "y", "what"),
    [
        (np.zeros((3, 2)), np.zeros((9, 2)), r"x: expected a \(n, d\) array with n >= 4, found shape \(3, 2\)"),
        (np.zeros((9, 2)), np.zeros((9, 2, 1)), r"y: expected .* found shape \(9, 2, 1\)"),
        (np.zeros((9, 2)), np.zeros((9, 3)), "equal numbers of columns, found 2 and 3"),
        (np.full((9, 2), np.nan), np.zeros((9, 2)), "x: expected finite features, found 18"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(x, y, what):
    with pytest.raises(ValueError, match=what):
        kid(x, y)


def pairs(seed: int, n: int, d: int, apart: float):
    """Rows of two samples that share most of their chance, the second a little off."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, d))
    return shared + apart * rng.normal(size=(n, d)) + apart, shared


@pytest.mark.parametrize("apart", [0.02, 0.3])
def test_a_paired_difference_is_that_of_the_two_distances(apart):
    (first, second), y = pairs(0, 90, 6, apart), normal(1, 70, 6)
    expected = kid(first, y).value - kid(second, y).value
    assert kid_difference(first, second, y).value == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert kid_difference(second, first, y).value == pytest.approx(-expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("apart", [0.02, 0.1])
def test_the_error_of_a_paired_difference_is_that_over_fresh_pairs_and_far_below_that_of_either(apart):
    found = [kid_difference(*pairs(seed, 120, 6, apart), normal(seed + 5000, 80, 6)) for seed in range(300)]
    spread = np.std([item.value for item in found], ddof=1)
    errors = np.array([item.standard_error for item in found])
    assert spread == pytest.approx(np.sqrt(np.square(errors).mean()), rel=0.15)
    assert errors.mean() < 0.5 * kid(pairs(0, 120, 6, apart)[0], normal(5000, 80, 6)).standard_error


def test_a_sample_differs_from_itself_by_nothing():
    x, y = normal(0, 40, 5), normal(1, 30, 5)
    assert kid_difference(x, x, y) == Estimate(0.0, 0.0)


def test_samples_that_are_no_pairs_are_refused():
    with pytest.raises(ValueError, match=r"a row for each of first, shape \(9, 2\), found \(8, 2\)"):
        kid_difference(np.zeros((9, 2)), np.zeros((8, 2)), np.zeros((9, 2)))
