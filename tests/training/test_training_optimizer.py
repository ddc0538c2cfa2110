"""The learning rate of each weight at each step."""

from __future__ import annotations

import pytest
from torch import nn

from evodiff.settings import TrainingSettings
from evodiff.training.optimizer import learning_rate_factors, make_optimizer, set_learning_rate


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
    assert {name: factor for name, factor in factors.items() if factor != 1.0} == {
        "narrow.weight": 2.0,
        "wide.weight": 0.25,
    }
    assert set(factors) == {name for name, _ in Layers().named_parameters()}


def test_the_rate_warms_up_and_then_stays() -> None:
    network = Layers()
    settings = TrainingSettings(learning_rate=1e-3, warmup_steps=4)
    optimizer = make_optimizer(network, settings)
    rates = {}
    for step in (0, 1, 3, 4, 10**6):
        set_learning_rate(optimizer, settings, step)
        rates[step] = {group["factor"]: group["lr"] for group in optimizer.param_groups}
    assert rates[0][1.0] == pytest.approx(0.25e-3)
    assert rates[1][1.0] == pytest.approx(0.5e-3)
    assert rates[3] == rates[4] == rates[10**6] == {0.25: 0.25e-3, 1.0: 1e-3, 2.0: 2e-3}


def test_no_warm_up_starts_at_the_full_rate() -> None:
    settings = TrainingSettings(learning_rate=1e-3, warmup_steps=0)
    optimizer = make_optimizer(Layers(), settings)
    set_learning_rate(optimizer, settings, 0)
    assert max(group["lr"] for group in optimizer.param_groups) == 2e-3


def test_every_parameter_is_optimised_once() -> None:
    network = Layers()
    groups = make_optimizer(network, TrainingSettings()).param_groups
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in network.parameters())
