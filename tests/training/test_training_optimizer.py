"""The optimiser, and the learning rate of each weight at each step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evodiff.settings import TrainingSettings
from evodiff.training.flat import FlatParameters
from evodiff.training.optimizer import FairAdamW, learning_rate, learning_rate_factors


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 64, 3)
        self.narrow = nn.Linear(8, 64)
        self.base = nn.Conv2d(32, 64, 3)
        self.wide = nn.Linear(128, 64)
        self.depthwise = nn.Conv2d(128, 128, 5, groups=128)
        self.label = nn.Embedding(11, 128)
        self.norm = nn.GroupNorm(2, 128)


def test_rates_fall_with_the_inputs_of_hidden_layers_and_of_nothing_else() -> None:
    factors = learning_rate_factors(Layers())
    hidden = {"narrow.weight": 2.0, "base.weight": 1.0, "wide.weight": 0.5}
    assert {name: factors[name] for name in hidden} == hidden
    assert {factor for name, factor in factors.items() if name not in hidden} == {2.0}
    assert set(factors) == {name for name, _ in Layers().named_parameters()}


def test_the_rate_warms_up_and_then_stays() -> None:
    settings = TrainingSettings(learning_rate=1e-3, warmup_steps=4)
    rates = [learning_rate(settings, step) for step in (0, 1, 2, 3, 4, 10**6)]
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])


def test_no_warm_up_starts_at_the_full_rate() -> None:
    assert learning_rate(TrainingSettings(learning_rate=1e-3, warmup_steps=0), 0) == 1e-3


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_step_is_that_of_torchs_adamw_at_each_weights_own_rate(weight_decay: float) -> None:
    settings = TrainingSettings(learning_rate=1e-2, warmup_steps=0, weight_decay=weight_decay)
    network, twin = Layers(), Layers()
    twin.load_state_dict(network.state_dict())
    factors = learning_rate_factors(network)
    flat = FlatParameters(network, factors)
    ours = FairAdamW(flat, settings)
    groups = [{"params": [p], "lr": 1e-2 * factors[name]} for name, p in twin.named_parameters()]
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(0)
    for k in range(5):
        flat.zero_gradients()
        for parameter, other in zip(network.parameters(), twin.parameters(), strict=True):
            gradient = torch.randn(parameter.shape, generator=generator)
            assert parameter.grad is not None
            parameter.grad.copy_(gradient)
            other.grad = gradient
        ours.step(k)
        reference.step()
    for parameter, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(parameter, other, rtol=1e-5, atol=1e-6)
