"""Scores and validation of a generator that is known: the exact denoiser of the training images, a little blurred."""

from __future__ import annotations

import base64
import io
import json
import math

import numpy as np
import pytest
import torch
from known_generators import EVALUATION, TRAINING, Memory, PixelFeatures, Silent
from PIL import Image
from torch import nn

from evodiff.data import open_dataset, unscale
from evodiff.errors import TrialFailure
from evodiff.evaluation.kid import kid
from evodiff.evaluation.score import ScoringInputs, noise_floor, part, score, scoring_inputs
from evodiff.evaluation.validation import validate
from evodiff.sampling import NoiseSchedule
from evodiff.settings import EvaluationSettings, TrainingSettings


@pytest.fixture(scope="module")
def dataset():
    return open_dataset("digits")


@pytest.fixture(scope="module")
def feature_net(dataset):
    return PixelFeatures(*part(dataset, "train"))


@pytest.fixture(scope="module")
def inputs(dataset, feature_net) -> ScoringInputs:
    return scoring_inputs(dataset, feature_net)


@pytest.fixture
def memory(dataset) -> Memory:
    return Memory(*part(dataset, "train"), spread=0.02)


def judge(network, inputs, *, seed=0, training=TRAINING, evaluation=EVALUATION):
    return score(network, inputs, training=training, evaluation=evaluation, seed=seed)


def test_a_perfect_memory_of_the_training_images_scores_the_noise_floor(dataset, feature_net, inputs, memory):
    result, floor = judge(memory, inputs), noise_floor(dataset, feature_net)
    assert abs(result.kid - floor.value) < 3 * result.kid_standard_error
    assert result.label_accuracy > 0.8
    assert result.feature_net == "pixels"


def test_a_network_that_predicts_nothing_is_far_worse_in_every_number(dataset, inputs):
    smooth = Memory(*part(dataset, "train"), spread=0.1)  # less of a memory, so it also denoises what it never saw
    good, bad = judge(smooth, inputs), judge(Silent(), inputs)
    assert bad.kid - good.kid > 10 * (bad.kid_standard_error + good.kid_standard_error)
    assert bad.denoising_loss > 2 * good.denoising_loss
    assert bad.label_accuracy < 0.5


def test_the_kid_of_a_score_is_that_of_its_images(inputs, memory):
    seen = []

    class Watching:
        digest = "watching"

        def features(self, images):
            seen.append(images.clone())
            return inputs.feature_net.features(images)

        def probabilities(self, images):
            return inputs.feature_net.probabilities(images)

    result = judge(memory, ScoringInputs(Watching(), inputs.images, inputs.labels, inputs.features))
    (images,) = seen
    assert images.shape == (200, 1, 8, 8)
    expected = kid(inputs.feature_net.features(images), inputs.features)
    assert (result.kid, result.kid_standard_error) == pytest.approx((expected.value, expected.standard_error))


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine"])
def test_ten_steps_score_what_fifty_score_on_every_schedule(inputs, memory, name):
    memory.schedule = NoiseSchedule.named(name)
    training = TrainingSettings(noise_schedule=name)
    few, many = (
        judge(memory, inputs, training=training, evaluation=EvaluationSettings(samples=500, sampler_steps=steps))
        for steps in (10, 50)
    )
    assert abs(few.kid - many.kid) < 0.3 * many.kid_standard_error


def test_a_score_is_the_same_bytes_whatever_ran_before(inputs, memory):
    first = judge(memory, inputs)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        torch.manual_seed(99)
        np.random.default_rng(3).normal(size=(700, 700)) @ np.ones((700, 700))
        nn.Conv2d(1, 32, 3)(torch.randn(64, 1, 8, 8)).sum().backward()
        judge(Silent(), inputs, seed=5, evaluation=EvaluationSettings(samples=33))
        assert judge(memory, inputs) == first
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_another_seed_means_other_images_and_the_same_loss_batch(inputs, memory):
    first, second = judge(memory, inputs, seed=1), judge(memory, inputs, seed=2)
    assert first.images != second.images
    assert first.kid != second.kid
    assert first.denoising_loss == second.denoising_loss


def test_the_loss_of_predicting_nothing_is_the_mean_square_of_the_target(inputs):
    evaluation = EvaluationSettings(samples=16, loss_batch=4000)
    schedule = NoiseSchedule.named("linear")
    # v = α·ε - σ·x_0 with ε standard normal
    kept = schedule.alphas_cumprod
    expected = (kept + (1 - kept) * inputs.images.double().square().mean()).mean().item()
    assert judge(Silent(), inputs, evaluation=evaluation).denoising_loss == pytest.approx(expected, rel=0.01)
    epsilon = judge(Silent(), inputs, training=TrainingSettings(prediction="epsilon"), evaluation=evaluation)
    assert epsilon.denoising_loss == pytest.approx(1, rel=0.01)


def test_the_labels_asked_for_follow_the_validation_images(inputs, memory):
    judge(memory, inputs)
    steps = EVALUATION.sampler_steps
    asked = torch.cat(memory.asked[-3 * steps :: steps])  # once a batch of 80, 80 and 40
    found = np.bincount(asked.numpy(), minlength=10)
    expected = np.bincount(inputs.labels.numpy(), minlength=10) * 200 / len(inputs.labels)
    assert np.abs(found - expected).max() < 1


def test_guidance_asks_for_both_predictions(inputs, memory):
    plain = judge(memory, inputs)
    guided = judge(memory, inputs, evaluation=EVALUATION.model_copy(update={"guidance": 2.0}))
    assert guided.images != plain.images
    assert guided.label_accuracy >= plain.label_accuracy


def test_images_without_labels_have_no_label_accuracy(inputs, memory):
    result = judge(memory, ScoringInputs(inputs.feature_net, inputs.images, None, inputs.features))
    assert result.label_accuracy is None
    assert memory.asked[-1] is None
    assert json.loads(json.dumps(result.to_json()))["kid"] == result.kid


def test_a_network_that_was_in_training_mode_is_scored_without_dropout_and_given_back_as_it_was(inputs, memory):
    memory.train()
    first = judge(memory, inputs)
    assert memory.training
    assert judge(memory.eval(), inputs) == first
    assert not memory.training


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_network_that_is_not_finite_fails_its_trial(inputs, memory, value):
    with torch.no_grad():
        memory.scale.fill_(value)
    with pytest.raises(TrialFailure, match="non-finite"):
        judge(memory, inputs)


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def test_validation_finds_a_memory_out_and_nothing_else_wrong_with_it(dataset, feature_net, memory):
    result = validate(memory, dataset, feature_net, training=TRAINING, evaluation=EVALUATION, seed=0, samples=400)
    assert result.memorisation.copies
    assert abs(result.kid.value - result.kid_floor.value) < 3 * result.kid.standard_error
    assert result.frechet_distance < 2 * result.frechet_floor.value
    assert result.manifold.precision > 0.8
    assert result.manifold.coverage > 0.8
    assert result.images.shape == (400, 1, 8, 8)
    assert (result.nearest_images - result.images).square().mean(dim=(1, 2, 3)).sqrt().median() < 0.1
    numbers = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert numbers["memorisation"]["copies"] is True
    pairs = numbers["memorisation"]["closest"]
    assert [pair["relative_distance"] for pair in pairs] == sorted(result.memorisation.relative_distance)[:8]
    for index, pair in zip(result.memorisation.closest(8), pairs, strict=True):
        assert pair["distance"] == result.memorisation.nearest_distance[index]
        assert (decoded(pair["generated_png"]) == unscale(result.images[index, 0].numpy())).all()
        assert (decoded(pair["training_png"]) == unscale(result.nearest_images[index, 0].numpy())).all()
    assert numbers["frechet_dimensions"] == 64


def test_validation_tells_a_generator_that_makes_few_classes(dataset, feature_net):
    images, labels = part(dataset, "train")
    few = Memory(images[labels < 3], labels[labels < 3], spread=0.02)

    class Unlabelled(nn.Module):
        def forward(self, x_t, t, labels):
            return few(x_t, t, None)

    result = validate(Unlabelled(), dataset, feature_net, training=TRAINING, evaluation=EVALUATION, seed=0, samples=300)
    assert result.kid.value > result.kid_floor.value + 5 * result.kid.standard_error
    assert result.manifold.coverage < 0.5
    assert result.manifold_floor.coverage > 0.8
    assert result.label_accuracy < 0.5


def test_the_floor_of_a_validation_stands_for_as_many_images_as_were_generated(dataset, feature_net, memory):
    def floor(samples):
        settings = {"training": TRAINING, "evaluation": EVALUATION, "seed": 0, "samples": samples}
        return validate(memory, dataset, feature_net, **settings).manifold_floor

    few, many = floor(70), floor(300)
    assert few.coverage < many.coverage - 0.2  # more images come near to more of the test images
    assert few.density == pytest.approx(many.density, abs=0.2)
