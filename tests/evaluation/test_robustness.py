"""Robustness of generators that are known: each variant against the scores it must agree with."""

from __future__ import annotations

import json
import math

import pytest
import torch
from known_generators import EVALUATION, TRAINING, Memory, PixelFeatures
from torch import nn

from evodiff.data import open_dataset
from evodiff.errors import Interrupted, TrialFailure
from evodiff.evaluation.kid import kid_difference
from evodiff.evaluation.robustness import Sampling, network_calls, robustness, variants
from evodiff.evaluation.score import ScoringInputs, generate_like, part, score, scoring_inputs
from evodiff.settings import EvaluationSettings

SMALL = EVALUATION.model_copy(update={"samples": 60})


@pytest.fixture(scope="module")
def dataset():
    return open_dataset("digits")


@pytest.fixture(scope="module")
def inputs(dataset) -> ScoringInputs:
    return scoring_inputs(dataset, PixelFeatures(*part(dataset, "train")), "test")


@pytest.fixture(scope="module")
def memory(dataset) -> Memory:
    return Memory(*part(dataset, "train"), spread=0.05).eval()


def judge(network, inputs, *, evaluation=SMALL, **more):
    return robustness(network, inputs, training=TRAINING, evaluation=evaluation, seed=3, **more)


@pytest.fixture(scope="module")
def found(memory, inputs):
    return judge(memory, inputs)


def variant(found, aspect, value):
    return next(item for item in found.variants if item.aspect == aspect and getattr(item.sampling, aspect) == value)


def test_every_aspect_holds_the_default_which_scores_as_ever(found, memory, inputs):
    expected = score(memory, inputs, training=TRAINING, evaluation=SMALL, seed=3)
    defaults = [item for item in found.variants if item.sampling == found.default]
    assert [item.aspect for item in defaults] == ["guidance", "steps", "spacing", "precision"]
    for item in defaults:
        assert item.kid.value == expected.kid
        assert item.kid_difference.value == 0
        assert item.label_accuracy == expected.label_accuracy


def test_a_variant_is_what_its_own_settings_score_from_the_same_noise(found, memory, inputs):
    changed = SMALL.model_copy(update={"guidance": 2.0})
    expected = score(memory, inputs, training=TRAINING, evaluation=changed, seed=3)
    guided = variant(found, "guidance", 2.0)
    assert guided.kid.value == expected.kid
    pictures = [
        generate_like(memory, inputs.images, inputs.labels, training=TRAINING, evaluation=settings, seed=3)[0]
        for settings in (changed, SMALL)
    ]
    features = [inputs.feature_net.features(images) for images in pictures]
    assert guided.kid_difference == kid_difference(*features, inputs.features)
    change = (pictures[0] - pictures[1]).double().square().mean().sqrt()
    assert guided.image_difference == pytest.approx(float(change))


def test_pairing_makes_differences_of_good_samplers_smaller_than_their_errors(found):
    many = variant(found, "steps", 20)
    assert many.kid_difference.standard_error < 0.5 * many.kid.standard_error
    assert many.image_difference < variant(found, "steps", 5).image_difference


def test_half_precision_is_near_and_the_network_stays_as_it_is(found, memory):
    half, brain = variant(found, "precision", "float16"), variant(found, "precision", "bfloat16")
    assert 0 < half.output_difference < brain.output_difference < 0.1
    assert variant(found, "precision", "float32").output_difference == 0
    assert memory.scale.dtype == torch.float32
    assert not memory.training


def test_it_is_the_same_the_second_time_and_is_json(found, memory, inputs):
    assert judge(memory, inputs) == found
    numbers = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert numbers["variants"][0]["sampling"] == {
        "guidance": 1.0,
        "steps": 10,
        "spacing": "log_snr",
        "precision": "float32",
    }


def test_without_labels_there_is_no_guidance(memory, inputs):
    found = judge(memory, ScoringInputs(inputs.feature_net, inputs.images, None, inputs.features))
    assert {item.aspect for item in found.variants} == {"steps", "spacing", "precision"}
    assert all(item.label_accuracy is None for item in found.variants)


class Counting(nn.Module):
    """Predicts nothing, and counts the images it is asked about without gradients to be worked out on a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))
        self.images = 0

    def forward(self, x_t, t, labels):
        if x_t.dtype == torch.float32:
            self.images += len(x_t)
        return self.scale * x_t


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_calls_are_counted_beforehand(inputs, guidance):
    evaluation = EvaluationSettings(samples=16, loss_batch=16, guidance=guidance)
    network = Counting()
    seen = []
    judge(network, inputs, evaluation=evaluation, report=seen.append)
    ways = [way for _, way in variants(evaluation, labelled=True)]
    low = sum(way.calls for way in ways if way.precision != "float32")
    compared = 2  # once for each lower precision
    assert network.images == 16 * (network_calls(evaluation, labelled=True) - low + compared)
    assert seen[0] == {"done": 0, "total": network_calls(evaluation, labelled=True)}
    assert seen[-1]["done"] < seen[-1]["total"]


def test_a_guidance_and_a_number_of_steps_of_ones_own_join_the_others_in_order():
    evaluation = EvaluationSettings(guidance=3.0, sampler_steps=12)
    ways = variants(evaluation, labelled=True)
    assert [way.guidance for aspect, way in ways if aspect == "guidance"] == [1.0, 1.5, 2.0, 3.0, 4.0]
    assert [way.steps for aspect, way in ways if aspect == "steps"] == [5, 10, 12, 20, 50]
    assert sum(way == Sampling.default(evaluation) for _, way in ways) == 4


class Overflowing(nn.Module):
    """Nothing in float32; a number in between is too large for float16."""

    def __init__(self, large: float = 1e6) -> None:
        super().__init__()
        self.large = nn.Parameter(torch.tensor(large))

    def forward(self, x_t, t, labels):
        return 0.1 * (x_t * self.large) / self.large


def test_a_precision_that_overflows_is_named_and_the_rest_is_judged(inputs):
    found = judge(Overflowing(), inputs)
    broken = variant(found, "precision", "float16")
    assert broken.kid is None
    assert "non-finite" in broken.problem
    assert [item.aspect for item in found.variants if item.problem] == ["precision"]


def test_a_precision_that_the_device_has_not_got_is_named(inputs):
    class Narrow(Overflowing):
        def forward(self, x_t, t, labels):
            if x_t.dtype != torch.float32:
                raise RuntimeError("not implemented for this type\nand much more")
            return 0.1 * x_t

    found = judge(Narrow(), inputs)
    assert variant(found, "precision", "bfloat16").problem == (
        "cpu does not compute in bfloat16: not implemented for this type"
    )


def test_a_network_that_is_not_finite_has_no_robustness(inputs):
    with pytest.raises(TrialFailure, match="non-finite"):
        judge(Overflowing(math.nan), inputs)


def test_it_stops_between_two_variants(inputs):
    network = Counting()
    with pytest.raises(Interrupted):
        judge(network, inputs, should_stop=lambda: True)
    assert network.images == 60 * 10
