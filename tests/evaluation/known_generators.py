"""Generators and features that are known exactly, in the place of trained networks."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from evodiff.sampling import NoiseSchedule
from evodiff.settings import EvaluationSettings, TrainingSettings

TRAINING = TrainingSettings()
EVALUATION = EvaluationSettings(samples=200, batch_size=80, loss_batch=100)


class PixelFeatures:
    """Pixels as features, standardised by the training set; classes by the nearest class mean."""

    digest = "pixels"

    def __init__(self, images, labels):
        pixels = images.flatten(1).numpy().astype(np.float64)
        self.mean, self.deviation = pixels.mean(axis=0), pixels.std(axis=0) + 0.1
        features = self.features(images)
        self.centres = np.stack([features[labels.numpy() == label].mean(axis=0) for label in range(10)])

    def features(self, images):
        return (images.flatten(1).numpy().astype(np.float64) - self.mean) / self.deviation

    def probabilities(self, images):
        distance = np.linalg.norm(self.features(images)[:, None] - self.centres, axis=2)
        weights = np.exp(distance.min(axis=1, keepdims=True) - distance)
        return weights / weights.sum(axis=1, keepdims=True)


class Memory(nn.Module):
    """The optimal v-prediction for images drawn from a Gaussian of deviation ``spread`` around each training image."""

    def __init__(self, images, labels, spread: float) -> None:
        super().__init__()
        self.register_buffer("images", images.flatten(1))
        self.register_buffer("classes", labels)
        self.scale = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(0.5)
        self.spread = spread
        self.schedule = NoiseSchedule.named(TRAINING.noise_schedule)
        self.asked: list[torch.Tensor] = []

    def forward(self, x_t, t, labels):
        self.asked.append(labels)
        x = x_t.flatten(1)
        alpha, sigma = self.schedule.signal[t][:, None], self.schedule.noise[t][:, None]
        variance = alpha**2 * self.spread**2 + sigma**2
        # ‖x - αm‖² without what is common to all m, in the shape (batch, training images)
        logits = (alpha * (x @ self.images.T) - alpha**2 * self.images.square().sum(dim=1) / 2) / variance
        if labels is not None:
            logits = logits.masked_fill(labels[:, None] != self.classes, -math.inf)
        mean = torch.softmax(logits, dim=1).to(self.images.dtype) @ self.images
        x0 = mean + alpha * self.spread**2 / variance * (x - alpha * mean)
        velocity = alpha * (x - alpha * x0) / sigma - sigma * x0
        return self.scale * self.dropout(velocity).view_as(x_t)


class Silent(nn.Module):
    """Predicts nothing at all."""

    def forward(self, x_t, t, labels):
        return torch.zeros_like(x_t)
